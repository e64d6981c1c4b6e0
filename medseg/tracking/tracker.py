"""One MLflow run for one training run, with an id of its own from its start to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medseg.errors import InputError
from medseg.tracking.store import artifact_location, default_uri, metric_key, quiet

__all__ = ["Tracker"]

_BATCH = 100  # of params in one call, MLflow's limit
_LONGEST = 500  # characters of a param's value that every store takes


class Tracker:
    """Writes params, metrics and artifacts of one run.

    Args:
        experiment: its name; made where absent.
        uri: the store; None is `default_uri()`.
        run_name: shown in the list of runs.
        tags: of the run.
    """

    def __init__(
        self,
        experiment: str = "default",
        uri: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.experiment = experiment
        self.uri = uri or default_uri()
        self.run_name = run_name
        self.tags = dict(tags or {})
        self.run_id: str | None = None
        self._client: Any = None

    def start(self, params: Mapping[str, Any]) -> str:
        """Begins the run; its id.

        Raises:
            InputError: the store cannot be reached.
        """
        # imported here: MLflow takes seconds, and commands that track nothing need not wait for it
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        quiet()
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = MlflowClient(self.uri)
            if self.run_id is not None:  # resumed
                self._client.update_run(self.run_id, status="RUNNING")
                return self.run_id
            run = self._client.create_run(self._experiment_id(), run_name=self.run_name, tags=self.tags)
        except (MlflowException, OSError) as error:
            raise InputError(
                f"MLflow store {self.uri}: cannot be used ({str(error).splitlines()[0]}); start its server, or "
                "unset MLFLOW_TRACKING_URI to use the local runs/mlruns.db"
            ) from error
        self.run_id = run.info.run_id
        self.params(params)
        return run.info.run_id

    def state_dict(self) -> dict[str, Any]:
        """The run's id."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave: `start` goes on with that run."""
        self.run_id = state["run_id"]

    def attach(self, trainer: Any) -> None:
        """Attaches to every row that the trainer logs."""
        trainer.listen(self)

    def __call__(self, trainer: Any) -> None:
        """Sends the row that was logged; without a started run, nothing."""
        if self.run_id is not None:
            self.metrics(trainer.state.logged.metrics, trainer.state.logged.step)

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends numbers of one step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(metric_key(name), float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def params(self, params: Mapping[str, Any]) -> None:
        """Sends params, nested mappings as dotted names."""
        from mlflow.entities import Param

        rows = [Param(metric_key(name), str(value)[:_LONGEST]) for name, value in flat(params).items()]
        for i in range(0, len(rows), _BATCH):
            self._client.log_batch(self.run_id, params=rows[i : i + _BATCH])

    def artifacts(self, paths: Sequence[str | os.PathLike[str]], folder: str | None = None) -> None:
        """Copies files and folders to the run, below `folder`."""
        for path in map(Path, paths):
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), artifact_path=folder or path.name)
            else:
                self._client.log_artifact(self.run_id, str(path), artifact_path=folder)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Ends the run; a run that was not started has nothing to end."""
        if self.run_id is not None:
            self._client.set_terminated(self.run_id, status)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return self._client.create_experiment(self.experiment, artifact_location(self.uri))
            except MlflowException:  # another run made it at the same moment
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return found.experiment_id


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots; lists stay values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
