"""Checkpoints, whole or absent: `best` on validation, `last` in any case."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Events

from medseg.engine.sealed import load_checkpoint, save_checkpoint
from medseg.engine.snapshot import snapshot
from medseg.engine.trainer import LogEvents, Trainer
from medseg.errors import InputError
from medseg.files import make_folder
from medseg.metrics.report import as_json

__all__ = ["CheckpointHandler"]


class CheckpointHandler:
    """Writes `folder/last.pt` after each validation, every so often between them and at the end, and `folder/best.pt`
    where the validation Dice is the highest so far.

    A checkpoint holds, under flat keys, the `snapshot` of the run (students, teacher, optimiser, step, handlers, ...),
    `chosen` (the key of the network that validated better), `validation` (its summary), `best_dice`, and the `record`.

    Among the handlers it stands behind the validation and everything that counts in steps or validations.

    Args:
        folder: made where absent, with the first of them.
        record: what the run is made of (`run_record`); kept in every checkpoint.
        every_steps: steps from one `last` to the next, where no validation comes between; None is no such number.
        every_minutes: the same in minutes.
    """

    first_only = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        record: Mapping[str, Any],
        every_steps: int | None = None,
        every_minutes: float | None = 10,
    ) -> None:
        for name, value in (("every_steps", every_steps), ("every_minutes", every_minutes)):
            if value is not None and value <= 0:
                raise InputError(f"handlers#checkpoints#{name} is {value}; expected a positive number, or null")
        self.folder = Path(folder)
        self.record = dict(record)
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.best_dice = -math.inf
        self._validated: dict[str, Any] = {"chosen": "student_0", "validation": None}
        self.saved: int | None = None  # the step of `last`, if this process wrote it and nothing came since
        self._since = time.monotonic()

    def attach(self, trainer: Trainer) -> None:
        """Attaches to validations, to steps and to the end of the run."""
        trainer.add_event_handler(LogEvents.VALIDATED, self.validated)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stepped)
        trainer.add_event_handler(Events.COMPLETED, self.save_last)

    def validated(self, trainer: Trainer) -> None:
        """Saves `best` where this validation is; `last` follows when all handlers have heard of it."""
        validation = trainer.state.validation
        self._validated = {"chosen": validation.chosen, "validation": as_json(validation.summaries)}
        self.saved = None
        if validation.dice > self.best_dice or not (self.folder / "best.pt").exists():
            self.best_dice = -math.inf if math.isnan(validation.dice) else validation.dice
            self._save(trainer, "best.pt")

    def save_last(self, trainer: Trainer) -> None:
        """Saves `last.pt`, if it is not of this state already."""
        if self.saved != trainer.state.iteration:
            self._save(trainer, "last.pt")
            self.saved, self._since = trainer.state.iteration, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The best validation so far and the newest one."""
        return {"best_dice": self.best_dice, **self._validated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave. A `best` that was written after that keeps its place: it may have been
        better than what comes now.

        Raises:
            InputError: `best.pt` is damaged.
        """
        self._validated = {name: state[name] for name in ("chosen", "validation")}
        best = self.folder / "best.pt"
        found = load_checkpoint(best)["best_dice"] if best.exists() else -math.inf
        self.best_dice = max(state["best_dice"], found)

    def _stepped(self, trainer: Trainer) -> None:
        step, minutes = trainer.state.iteration, (time.monotonic() - self._since) / 60
        due = (self.every_steps and step % self.every_steps == 0) or (
            self.every_minutes is not None and minutes >= self.every_minutes
        )
        validated = trainer.state.validation
        if due or (validated is not None and validated.step == step):
            self.save_last(trainer)

    def _save(self, trainer: Trainer, name: str) -> None:
        state = snapshot(trainer) | self._validated | {"best_dice": self.best_dice} | self.record
        save_checkpoint(state, make_folder(self.folder) / name)
