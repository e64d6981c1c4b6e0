"""What happens during a run, in numbers: averages every N steps, and `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from medseg import ranks
from medseg.engine.trainer import Trainer
from medseg.errors import InputError
from medseg.files import make_folder, write_text

__all__ = ["JsonLines", "StepLog"]


class StepLog:
    """Averages the values of `every` steps and logs them as one row, with the throughput in images/s: of the time from
    asking for a batch to the end of its step, without validations and without the first wait of all, in which cases are
    prepared.

    Values stay on the device until the row is due; of several processes a step's are the mean, so that each of them has
    all that a checkpoint must hold. Steps that were skipped count in no average.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._begin: float | None = None  # of the step that runs
        self._reset()

    def attach(self, trainer: Trainer) -> None:
        """Attaches to every step, from its beginning to its end."""
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._start, first=False)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._start, first=True)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Collects a step; logs where a row is due."""
        result = trainer.state.output
        values, samples = result.values if not result.skipped else {}, result.samples
        if ranks.size() > 1:
            values, samples = _over_processes(values, samples)
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
        self._samples += samples
        now = time.monotonic()
        self._seconds += now - (self._begin or now)
        step = trainer.state.iteration
        if step % self.every and step < trainer.state.steps:
            return
        row = {name: float(_joined(found).mean()) for name, found in self._values.items()}
        row["images_per_second"] = self._samples / max(self._seconds, 1e-9)
        trainer.log("train", row)
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        """What the next row will be the average of."""
        values = {name: _joined(found) for name, found in self._values.items()}
        return {"values": values, "samples": self._samples, "seconds": self._seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._reset()
        self._values.update({name: list(values) for name, values in state["values"].items()})
        self._samples, self._seconds = state["samples"], state["seconds"]

    def _reset(self) -> None:
        self._values: dict[str, list[Tensor | float]] = {}
        self._samples = 0
        self._seconds = 0.0

    def _start(self, _: Trainer, first: bool) -> None:
        if first == (self._begin is None):
            self._begin = time.monotonic()


class JsonLines:
    """Appends every row to a file as one line of JSON: `{"step": 10, "kind": "train", "seconds": 4.2, ...}`.

    Args:
        path: the file; its folder is made where absent.
    """

    first_only = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._begin = time.monotonic()
        self._rows = 0

    def attach(self, trainer: Trainer) -> None:
        """Attaches to every row; a run that does not go on begins with an empty file."""
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.listen(self)

    def __call__(self, trainer: Trainer) -> None:
        """Appends the row that was logged."""
        row = trainer.state.logged
        seconds = round(time.monotonic() - self._begin, 2)
        finite = {name: value if math.isfinite(value) else None for name, value in row.metrics.items()}
        now = round(time.time(), 3)  # since 1970
        line = json.dumps({"step": row.step, "kind": row.kind, "seconds": seconds, "time": now, **finite})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); free space") from error
        self._rows += 1

    def _start(self, _: Trainer) -> None:
        if not self._rows:
            make_folder(self.path.parent)
            write_text(self.path, "")

    def state_dict(self) -> dict[str, Any]:
        """How many rows there are, on the disk from now on, and after how many seconds."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return {"rows": self._rows, "seconds": time.monotonic() - self._begin}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave: rows that were written after it are cut.

        Raises:
            InputError: rows are missing.
        """
        rows = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        if len(rows) < state["rows"]:
            raise InputError(
                f"{self.path}: {len(rows)} rows found, expected the {state['rows']} of the checkpoint; restore it"
            )
        self._rows = state["rows"]
        self._begin = time.monotonic() - state["seconds"]
        write_text(self.path, "".join(rows[: self._rows]))


def _over_processes(values: Mapping[str, Tensor | float], samples: int) -> tuple[dict[str, float], int]:
    """The means of all processes, of each name over those that have it, and the sum of their samples."""
    everyone = ranks.gathered(({name: float(value) for name, value in values.items()}, samples))
    rows = [row for row, _ in everyone]
    found = {name: [row[name] for row in rows if name in row] for name in dict.fromkeys(chain(*rows))}
    return {name: sum(of_name) / len(of_name) for name, of_name in found.items()}, sum(count for _, count in everyone)


def _joined(values: list[Tensor | float]) -> Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float32).detach().cpu() for value in values])
