"""One MLflow run for one training run, whatever becomes of the store in the meantime."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medseg.errors import InputError, first_line
from medseg.tracking.delivery import Delivery
from medseg.tracking.journal import Journal, Stored, load_journal
from medseg.tracking.store import default_uri, local_uri, metric_key, remote_problem, store_errors

__all__ = ["Tracker"]

_LONGEST = 500  # characters of a param's value that every store takes
_CHOICE = (
    "start its server, or train with --offline: the local store is used, and `medseg runs sync RUN` sends the run later"
)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds before a store that did not answer is tried again


class Tracker:
    """Tracks params, metrics and artifacts of one run, from the files in its folder.

    A thread sends what the store lacks, so that no step waits for it. A store that goes away in mid-run is tried
    again at growing intervals; what it lacks in the end, `sync_run` sends.

    Args:
        folder: of the run, where `metrics.jsonl` is written before rows get here.
        experiment: its name; made where absent.
        uri: the store; None is `default_uri()`.
        run_name: shown in the list of runs.
        tags: of the run.
        offline: the local store in any case.
    """

    first_only = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        experiment: str = "default",
        uri: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        offline: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.uri = local_uri() if offline else uri or default_uri()
        self.tags = dict(tags or {})
        self.run_id: str | None = None
        self._journal = Journal(self.folder, self.uri, experiment, run_name, offline)
        if (self.folder / "mlflow.json").exists():
            self._take_over(load_journal(self.folder))
        self._delivery: Delivery | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closing = False
        self._problem = ""

    def check(self) -> None:
        """Asks a remote store whether it is there, before hours of preparation.

        Raises:
            InputError: it does not answer.
        """
        problem = remote_problem(self.uri)
        if problem:
            raise InputError(f"{self._unusable} ({problem}); {_CHOICE}")

    @property
    def experiment(self) -> str:
        """Its name."""
        return self._journal.experiment

    def start(self, params: Mapping[str, Any]) -> str:
        """Begins the run, or goes on with the one that the folder belongs to; its id.

        Raises:
            InputError: the store cannot be used.
        """
        before = self._journal.stores.get(self.uri)
        self._journal.status = "RUNNING"
        self._journal.params |= _texts(params)
        with store_errors(self._unusable, _CHOICE):
            self._delivery = Delivery(self._journal, self.uri, self.tags)
            if self._delivery.open() and before is not None:
                self._warn(f"run {before.run_id} is no longer there; a new one takes its place")
            self._journal.save()
            self._delivery.send()
        self.run_id = self._delivery.run_id
        return self.run_id

    def state_dict(self) -> dict[str, Any]:
        """The store and the run's id in it."""
        return {"uri": self.uri, "run_id": self.run_id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; `mlflow.json`, where it is, knows more."""
        if state["run_id"] is not None:
            self._journal.stores.setdefault(state["uri"], Stored(state["run_id"]))

    def attach(self, trainer: Any) -> None:
        """Attaches to every row that the trainer logs."""
        trainer.listen(self)

    def __call__(self, _: Any = None) -> None:
        """Has the rows sent that were written; without a started run, nothing."""
        if self._delivery is None:
            return
        if self._thread is None:
            # not before: a loader's workers are forked at the first batch, and no thread should be in mid-call then
            self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
            self._thread.start()
        self._wake.set()

    def params(self, params: Mapping[str, Any]) -> None:
        """Adds params, nested mappings as dotted names."""
        self._journal.params = self._journal.params | _texts(params)
        self._journal.save()
        self()

    def artifacts(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Adds files and folders of the run's folder; what changes in them is sent again."""
        names = [Path(path).resolve().relative_to(self.folder.resolve()).as_posix() for path in paths]
        self._journal.artifacts = list(dict.fromkeys([*self._journal.artifacts, *names]))
        self._journal.save()
        self()

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> str:
        """Ends the run and waits until it is sent, or the store does not answer: "" or why something is missing."""
        if self._delivery is None or self.uri not in self._journal.stores:
            return ""  # the run was never begun
        self._journal.status = status
        self._journal.save()
        self._closing = True
        self()
        assert self._thread is not None  # started by the line before
        self._thread.join()
        return self._problem

    def _work(self) -> None:
        wait, earliest = _FIRST_WAIT, 0.0
        while True:
            self._wake.wait(None if not self._problem else max(0.0, earliest - time.monotonic()))
            self._wake.clear()
            last = self._closing
            if not last and time.monotonic() < earliest:
                time.sleep(min(0.2, wait))  # rows that come in meanwhile are no reason to ask again
                continue
            assert self._delivery is not None  # the thread is started with one
            try:
                self._delivery.send()
                self._problem, wait, earliest = "", _FIRST_WAIT, 0.0
            except Exception as error:  # whatever a store's driver raises: training goes on
                self._problem = first_line(error)
                earliest, wait = time.monotonic() + wait, min(2 * wait, _LONGEST_WAIT)
            if last:
                return

    def _take_over(self, found: Journal) -> None:
        """Goes on with the run that the folder belongs to, in its store, unless told to stay in the local one."""
        offline = self._journal.offline
        if not offline:
            self.uri = found.uri
        found.uri, found.offline = self.uri, offline or found.offline
        self._journal = found

    def _warn(self, text: str) -> None:
        print(f"Warning: MLflow store {self.uri}: {text}", file=sys.stderr)

    @property
    def _unusable(self) -> str:
        return f"MLflow store {self.uri}: cannot be used"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; lists stay values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {metric_key(name): str(value)[:_LONGEST] for name, value in _flat(params).items()}
