"""Sends to a store what it lacks of a run, and nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from medseg.tracking.journal import Journal, Stored
from medseg.tracking.store import experiment_id, make_local, metric_key, quiet

__all__ = ["Delivery", "Sent"]

_PARAMS, _METRICS = 100, 1000  # MLflow's limits of one call


@dataclass(frozen=True)
class Sent:
    """How much was sent."""

    params: int = 0
    metrics: int = 0
    artifacts: int = 0


class Delivery:
    """The way of a run, from its folder to one store. Not for two threads at once.

    Args:
        journal: of the run; it learns which artifacts arrived.
        uri: the store.
        tags: of a run that is made there.
    """

    def __init__(self, journal: Journal, uri: str, tags: Mapping[str, str] | None = None) -> None:
        # imported here: MLflow takes seconds, and commands that track nothing need not wait for it
        from mlflow import MlflowClient

        quiet()
        make_local(uri)
        self.journal = journal
        self.uri = uri
        self.tags = dict(tags or {})
        self._client: Any = MlflowClient(uri)
        self._first = 0  # byte of metrics.jsonl that was not sent
        self._status = ""  # in the store
        self._there: dict[str, set[int]] | None = None  # steps of each metric in the store; None is not asked yet
        self._params: dict[str, str] | None = None  # in the store

    def open(self) -> bool:
        """Makes the run in the store, where it is not; whether it had to."""
        from mlflow.exceptions import MlflowException

        stored = self.journal.stores.get(self.uri)
        if stored is not None:
            try:
                if self._client.get_run(stored.run_id).info.lifecycle_stage == "active":
                    return False
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        where = experiment_id(self._client, self.uri, self.journal.experiment)
        run = self._client.create_run(where, run_name=self.journal.run_name, tags=self.tags)
        self.journal.stores[self.uri] = Stored(run.info.run_id)
        self.journal.save()  # at once: a run that nobody remembers would stay RUNNING for ever
        self._there, self._params, self._status = {}, {}, "RUNNING"
        return True

    @property
    def run_id(self) -> str:
        """The run's id in the store."""
        return self.journal.stores[self.uri].run_id

    def send(self) -> Sent:
        """Sends params, metrics, artifacts and the status, as far as the store lacks them.

        Raises:
            Exception: whatever the store's driver raises; what was not sent is sent by the next call.
        """
        try:
            self._ask()
            sent = Sent(self._send_params(), self._send_metrics(), self._send_artifacts())
            self._send_status()
        except BaseException:
            self._there = self._params = None  # a call that failed may have arrived all the same
            raise
        return sent

    def _ask(self) -> None:
        if self._there is None or self._params is None:
            run = self._client.get_run(self.run_id)
            self._first, self._status = 0, run.info.status
            self._params = dict(run.data.params)
            self._there = {
                name: {point.step for point in self._client.get_metric_history(self.run_id, name)}
                for name in run.data.metrics
            }

    def _send_params(self) -> int:
        from mlflow.entities import Param, RunTag

        there = self._params
        assert there is not None  # asked before
        absent = {name: value for name, value in self.journal.params.items() if name not in there}
        rows = [Param(name, value) for name, value in absent.items()]
        for i in range(0, len(rows), _PARAMS):
            self._client.log_batch(self.run_id, params=rows[i : i + _PARAMS])
        # a param is for ever: what another config or budget changed is a tag
        tags = [
            RunTag(f"changed.{name}", value)
            for name, value in self.journal.params.items()
            if there.get(name, value) != value
        ]
        if tags:
            self._client.log_batch(self.run_id, tags=tags)
        there |= self.journal.params
        return len(rows)

    def _send_metrics(self) -> int:
        from mlflow.entities import Metric

        there = self._there
        assert there is not None  # asked before
        rows, end = self.journal.rows(self._first)
        points = [
            Metric(metric_key(name), value, time, step)
            for step, time, metrics in rows
            for name, value in metrics.items()
            if step not in there.get(metric_key(name), ())
        ]
        for i in range(0, len(points), _METRICS):
            self._client.log_batch(self.run_id, metrics=points[i : i + _METRICS])
        for point in points:
            there.setdefault(point.key, set()).add(point.step)
        self._first = end
        return len(points)

    def _send_artifacts(self) -> int:
        arrived = self.journal.stores[self.uri].artifacts
        missing = [(name, state) for name, state in self.journal.files() if arrived.get(name) != state]
        for name, state in missing:
            folder = PurePosixPath(name).parent.as_posix()
            self._client.log_artifact(self.run_id, str(self.journal.folder / name), None if folder == "." else folder)
            arrived[name] = state
            self.journal.save()
        return len(missing)

    def _send_status(self) -> None:
        status = self.journal.status
        if status == self._status:
            return
        if status == "RUNNING":
            self._client.update_run(self.run_id, status=status)
        else:
            self._client.set_terminated(self.run_id, status)
        self._status = status
