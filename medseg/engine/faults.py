"""What goes wrong in a run without ending it is counted, and said; too much of it ends the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from ignite.engine import Events

from medseg import ranks
from medseg.engine.iteration import StepResult
from medseg.engine.trainer import Trainer
from medseg.errors import InputError

__all__ = ["Faults"]


class Faults:
    """Counts steps that were skipped, because the loss or a gradient was NaN or infinite, and cases that were left out,
    because they cannot be read. Both are rows of the kind "fault".

    Args:
        limit: so many skipped steps in a row end the run. Those in which only fp16 gradients overflowed, which the
            gradient scaler mends, count in no row.
    """

    def __init__(self, limit: int = 5) -> None:
        if limit < 1:
            raise InputError(f"handlers#faults#limit is {limit}; expected a number of steps from 1")
        self.limit = limit
        self.skipped_steps = 0
        self.bad_cases: list[str] = []
        self._row: list[list[list[str]]] = []  # of each skipped step since the last that was not: cases, and terms

    def attach(self, trainer: Trainer) -> None:
        """Attaches to every step."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Looks at a step.

        Raises:
            InputError: too many steps were skipped; their cases and the terms that were not finite are named.
        """
        raw, result = trainer.state.batch, trainer.state.output
        new = [name for name in _everyones(raw.get("bad", ())) if name not in self.bad_cases]
        self.bad_cases += new
        self.skipped_steps += result.skipped
        if result.skipped or new:
            counts = {"skipped_steps": self.skipped_steps, "bad_cases": len(self.bad_cases)}
            trainer.log("fault", {name: float(count) for name, count in counts.items()})
        if not result.skipped:
            self._row = []
            return
        # the step was skipped for all processes, but only the one whose loss it was can name cases and terms
        terms = [name for name, value in result.values.items() if not math.isfinite(float(value))]
        everyone = ranks.gathered((list(raw.get("cases", ())), terms, math.isfinite(float(result.values["loss"]))))
        of_loss = [(cases, terms) for cases, terms, finite in everyone if not finite]
        if of_loss or not _fp16(result):  # else no more than a gradient too large for fp16: the next scale is lower
            chosen = of_loss or [(cases, terms) for cases, terms, _ in everyone]
            self._row.append([list(dict.fromkeys(chain(*names))) for names in zip(*chosen, strict=True)])
            if len(self._row) >= self.limit:
                raise InputError(self._reason(trainer.state.iteration))

    def lines(self) -> list[str]:
        """What to say at the end of the run."""
        said = []
        if self.skipped_steps:
            said.append(f"Steps skipped, because loss or gradient was not finite: {self.skipped_steps}")
        if self.bad_cases:
            said.append(f"Cases left out that could not be read: {len(self.bad_cases)} ({', '.join(self.bad_cases)})")
        return said

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"skipped_steps": self.skipped_steps, "bad_cases": self.bad_cases, "row": self._row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.skipped_steps, self.bad_cases = state["skipped_steps"], list(state["bad_cases"])
        self._row = list(state["row"])

    def _reason(self, step: int) -> str:
        cases, terms = (list(dict.fromkeys(name for one in self._row for name in one[i])) for i in (0, 1))
        first = step - len(self._row) + 1
        return (
            f"steps {first} to {step}: not finite: {', '.join(terms)}; their cases: {', '.join(cases) or 'unknown'}; "
            "look at these cases (medseg data check), lower learning_rate, or use precision fp32"
        )


def _everyones(bad: Sequence[str]) -> list[str]:
    """The cases of all processes."""
    if not ranks.largest(len(bad)):
        return []
    return list(dict.fromkeys(chain(*ranks.gathered(list(bad)))))


def _fp16(result: StepResult) -> bool:
    """Whether gradients are scaled, and the scale can still be lowered."""
    return float(result.values.get("gradient_scale", 0.0)) > 1
