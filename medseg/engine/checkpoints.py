"""Checkpoints, whole or absent: `best` on validation, `last` in any case."""

from __future__ import annotations

import errno
import math
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from medseg.engine.trainer import LogEvents, Trainer
from medseg.errors import InputError
from medseg.files import make_folder, writing
from medseg.metrics.report import as_json
from medseg.plan import Plan

__all__ = ["CheckpointHandler", "load_checkpoint"]


class CheckpointHandler:
    """Writes `folder/last.pt` at each validation and at the end, and `folder/best.pt` where the validation Dice is the
    highest so far.

    A checkpoint holds, under flat keys: `student_0`, `teacher`, `optimizer`, `step`, `steps`, `chosen` (the key of
    the network that validated better), `validation` (its summary), `best_dice`, `plan`.

    Args:
        folder: made where absent.
        plan: kept in every checkpoint.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan) -> None:
        self.folder = make_folder(folder)
        self.plan = plan
        self.best_dice = -math.inf

    def attach(self, trainer: Trainer) -> None:
        """Attaches to validations and to the end of the run."""
        trainer.add_event_handler(LogEvents.VALIDATED, self.validated)
        trainer.add_event_handler(Events.COMPLETED, self.save_last)

    def validated(self, trainer: Trainer) -> None:
        """Saves after a validation."""
        dice = trainer.state.validation.dice
        better = dice > self.best_dice or not (self.folder / "best.pt").exists()
        if better:
            self.best_dice = -math.inf if math.isnan(dice) else dice
            self._save(trainer, "best.pt")
        self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Saves `last.pt`."""
        self._save(trainer, "last.pt")

    def _save(self, trainer: Trainer, name: str) -> None:
        validation = trainer.state.validation
        state: dict[str, Any] = trainer.iteration.state_dict() | {
            "step": trainer.state.iteration,
            "steps": trainer.state.steps,
            "chosen": validation.chosen if validation else "student_0",
            "validation": as_json(validation.summaries) if validation else None,
            "best_dice": self.best_dice,
            "plan": self.plan.model_dump(mode="json"),
        }
        with writing(self.folder / name) as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError(errno.ENOSPC, str(error).splitlines()[0]) from error


def load_checkpoint(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint without running code (`weights_only`).

    Raises:
        InputError: the file is missing or is no checkpoint.
    """
    path = Path(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error
