"""An end before the budget's, where validation no longer gets better."""

from __future__ import annotations

import math
from typing import Any

from medseg.engine.trainer import LogEvents, Trainer
from medseg.errors import InputError

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Ends training after `patience` validations in a row whose Dice is not `min_delta` above the best before them.

    The Dice is the mean over classes of the network that validated better, classes that are undefined left out. A
    validation in which all are undefined says nothing: it is neither better nor worse.

    Args:
        patience: validations; None never ends a run.
        min_delta: what counts as better.
    """

    def __init__(self, patience: int | None = None, min_delta: float = 0.0) -> None:
        if patience is not None and patience < 1:
            raise InputError(
                f"early_stopping: patience is {patience}; expected a number of validations from 1, or null"
            )
        if not min_delta >= 0:
            raise InputError(f"early_stopping: min_delta is {min_delta}; expected a difference in Dice from 0")
        self.patience = patience
        self.min_delta = min_delta
        self.best = -math.inf
        self.waited = 0

    def attach(self, trainer: Trainer) -> None:
        """Attaches to validations."""
        trainer.add_event_handler(LogEvents.VALIDATED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Judges the newest validation."""
        dice = trainer.state.validation.dice
        if math.isnan(dice):
            return
        better = dice > self.best + self.min_delta
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best = dice
        if self.over:
            trainer.state.ended = f"no better Dice than {self.best:.3f} in {self.waited} validations"
            trainer.terminate()

    @property
    def over(self) -> bool:
        """Whether training ends here."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.best, self.waited = state["best"], state["waited"]
