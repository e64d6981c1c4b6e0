"""Validation every N steps: whole volumes, the student and, where there is one, the teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ignite.engine import Events

from medseg import ranks
from medseg.engine.evaluator import VolumeEvaluator
from medseg.engine.pseudo_labels import PseudoLabelCheck
from medseg.engine.trainer import LogEvents, Trainer
from medseg.metrics.report import Summary

__all__ = ["Validation", "ValidationHandler", "flat_metrics", "shown_name"]


@dataclass(frozen=True)
class Validation:
    """One validation.

    Attributes:
        step: steps done.
        summaries: by network key (`student_0`, `teacher`).
        chosen: the key of the network with the higher mean Dice.
    """

    step: int
    summaries: dict[str, Summary]
    chosen: str

    @property
    def dice(self) -> float:
        """Mean Dice over classes of the chosen network, NaN where no class is defined."""
        return self.summaries[self.chosen].dice.mean


class ValidationHandler:
    """Runs `evaluator` every `interval` steps and after the last one. The only place that judges a running training.

    Args:
        evaluator: over the validation volumes.
        interval: steps.
        pseudo_labels: judges those that the method would make of the validation cases; None: they are not looked at.
    """

    def __init__(
        self, evaluator: VolumeEvaluator, interval: int, pseudo_labels: PseudoLabelCheck | None = None
    ) -> None:
        self.evaluator = evaluator
        self.interval = interval
        self.pseudo_labels = pseudo_labels
        self.step = 0  # of the last validation

    def attach(self, trainer: Trainer) -> None:
        """Attaches to the trainer, which also learns from it how long a validation takes."""
        trainer.validation = self
        trainer.add_event_handler(Events.EPOCH_STARTED, self)  # one that a resumed run still owes
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        self._trainer = trainer

    def __call__(self, trainer: Trainer) -> None:
        """Validates where it is time to."""
        step = trainer.state.iteration
        if step == self.step or (step % self.interval and step < trainer.state.steps):
            return
        networks = trainer.iteration.networks()
        summaries = {name: self.evaluator.evaluate(network)[0] for name, network in networks.items()}
        chosen = max(summaries, key=lambda name: _or_lowest(summaries[name].dice.mean))
        trainer.state.validation = Validation(step, summaries, chosen)
        trainer.log("validation", {**flat_metrics(trainer.state.validation), **self._of_pseudo_labels()})
        self.step = step
        trainer.fire_event(LogEvents.VALIDATED)

    def state_dict(self) -> dict[str, Any]:
        """The step of the last validation."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.step = state["step"]

    def seconds(self) -> float:
        """Measures one validation of all networks, as all but the first are: with cases that are prepared."""
        ranks.all_or_none(lambda: sum(1 for _ in self.evaluator.data_loader))
        begin = time.monotonic()
        for network in self._trainer.iteration.networks().values():
            self.evaluator.evaluate(network)
        self._of_pseudo_labels()
        return time.monotonic() - begin

    def _of_pseudo_labels(self) -> dict[str, float]:
        if self.pseudo_labels is None or not ranks.is_first():  # who logs
            return {}
        return {f"validation/{name}": value for name, value in self.pseudo_labels().items()}


def flat_metrics(validation: Validation) -> dict[str, float]:
    """Numbers by name: `validation/dice` and `validation/hd95_mm` of the chosen network, overall and per class, and
    the mean Dice of each network. Undefined ones are left out."""
    found: dict[str, float] = {}
    chosen = validation.summaries[validation.chosen]
    found["validation/dice"] = chosen.dice.mean
    found["validation/hd95_mm"] = chosen.hd95_mm.mean
    for summary in chosen.classes:
        found[f"validation/dice/{summary.class_name}"] = summary.dice.mean
        found[f"validation/hd95_mm/{summary.class_name}"] = summary.hd95_mm.mean
    for key, of_network in validation.summaries.items():
        found[f"validation/dice_{shown_name(key)}"] = of_network.dice.mean
    return {name: value for name, value in found.items() if not math.isnan(value)}


def shown_name(key: str) -> str:
    """A network's name for people: `student_0` is "student"."""
    return "student" if key == "student_0" else key


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value
