"""What the folder of a run remembers of its tracking, so that what a store lacks can be sent at any time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.files import write_text

__all__ = ["Journal", "Stored", "load_journal"]

_NO_METRICS = {"step", "kind", "seconds", "time"}  # what a row of metrics.jsonl holds besides metrics

Row = tuple[int, int, dict[str, float]]
"""Step, time and metrics."""


@dataclass
class Stored:
    """A run in one store: its id there, and the artifacts that arrived, by path, with size and time of change."""

    run_id: str
    artifacts: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Journal:
    """`mlflow.json` in the folder of a run; its metrics are the rows of `metrics.jsonl` beside it.

    Attributes:
        folder: of the run.
        uri: the store in which the run is tracked.
        experiment: its name.
        run_name: shown in the list of runs.
        offline: whether the local store stands in for another one.
        status: MLflow's: RUNNING, FINISHED, FAILED or KILLED.
        params: flat names and texts.
        artifacts: files and folders in the run's folder, relative to it.
        stores: the run in each store that has it, by URI.
    """

    folder: Path
    uri: str
    experiment: str = "default"
    run_name: str | None = None
    offline: bool = False
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    stores: dict[str, Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        with self._lock:
            content = {name: value for name, value in asdict(self).items() if name != "folder"}
            write_text(self.folder / "mlflow.json", json.dumps(content, indent=1))

    def rows(self, first: int) -> tuple[list[Row], int]:
        """The rows of `metrics.jsonl` from its byte `first` on, and where they end; a line still being written is none.

        A time is in ms since 1970; metrics that are undefined are left out.
        """
        try:
            with (self.folder / "metrics.jsonl").open("rb") as file:
                file.seek(first)
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return [], first
        found = []
        for row in map(json.loads, lines):
            metrics = {k: float(v) for k, v in row.items() if k not in _NO_METRICS and v is not None}
            found.append((int(row["step"]), int(1000 * row["time"]), metrics))
        return found, first + sum(len(line) + 1 for line in lines)

    def files(self) -> Iterable[tuple[str, list[int]]]:
        """Paths of the artifacts relative to the folder, folders unfolded, with size and time of change (ns)."""
        for name in self.artifacts:
            path = self.folder / name
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    state = file.stat()
                    yield file.relative_to(self.folder).as_posix(), [state.st_size, state.st_mtime_ns]


def load_journal(folder: Path) -> Journal:
    """The journal of a run.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = folder / "mlflow.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stores = {uri: Stored(**stored) for uri, stored in content.pop("stores").items()}
        return Journal(folder=folder, stores=stores, **content)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no tracked run; expected the folder of a run, with its mlflow.json") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not readable ({error}); restore it") from error
