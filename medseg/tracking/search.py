"""Runs found in MLflow, and their files brought here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.tracking.store import metric_key, quiet, store_errors, store_missing

__all__ = ["SWEEP_TAG", "RunInfo", "fetch_run", "list_runs"]

SWEEP_TAG = "medseg.sweep"  # of the run that a sweep's are shown below, which has trained nothing itself

_FILES = ("metrics.json", "metrics.jsonl", "config.yaml", "run.json", "plan.yaml", "test.json")
_PAGE = 1000  # runs: MLflow gives up to 50,000 at once


@dataclass(frozen=True)
class RunInfo:
    """What MLflow knows of a run.

    Attributes:
        id: of the run; `name` and `experiment` are for people.
        status: FINISHED, FAILED, KILLED or RUNNING.
        start: seconds since the epoch.
        seconds: that it took, NaN while it runs.
        params: as logged, texts; `metrics` the latest of each; `tags` without MLflow's own.
        artifacts: where they are.
    """

    id: str
    name: str
    experiment: str
    status: str
    start: float
    seconds: float
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: str


def list_runs(
    uri: str,
    *,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    ids: Sequence[str] = (),
    most: int | None = None,
) -> list[RunInfo]:
    """Runs of a store, the newest first; those that only hold a sweep together are left out, unless ids or tags ask for
    them.

    Args:
        uri: the store.
        experiment: by name; None looks in all.
        tags: that runs must have, with these values.
        ids: of runs, or the beginnings of ids; all must be there.
        most: runs at most; None: all.

    Raises:
        InputError: the store does not answer, or has no such experiment or run.
    """
    from mlflow import MlflowClient

    quiet()
    if store_missing(uri):
        raise InputError(f"MLflow store {uri}: no such file; train a run first, or name another store with --store")
    with store_errors(f"MLflow store {uri}: cannot be read"):
        client = MlflowClient(uri)
        names = {e.experiment_id: e.name for e in client.search_experiments()}
        if experiment is not None:
            names = {key: name for key, name in names.items() if name == experiment}
            if not names:
                raise InputError(f"MLflow store {uri}: no experiment {experiment}")
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items())
        found = _all(client, list(names), wanted, most, sweeps=bool(ids) or SWEEP_TAG in (tags or {}))
    infos = [_info(run, names[run.info.experiment_id]) for run in found]
    return infos if not ids else [_only(infos, text, uri) for text in ids]


def fetch_run(uri: str, run: RunInfo, folder: Path) -> Path:
    """Brings the files that a comparison needs to a folder named after the run, below `folder` whatever it is called.

    Raises:
        InputError: the run has not ended, or its files cannot be had.
    """
    from mlflow import MlflowClient

    name = metric_key(run.name).replace("/", "_").strip(". ")
    target = folder / run.id / (name or run.id)
    target.mkdir(parents=True, exist_ok=True)
    with store_errors(f"MLflow store {uri}: files of run {run.id} cannot be had"):
        client = MlflowClient(uri)
        there = {item.path for item in client.list_artifacts(run.id)}
        if "metrics.json" not in there:
            raise InputError(f"MLflow run {run.id} ({run.name}): has no metrics.json; has it ended?")
        for file in _FILES:
            if file in there:
                client.download_artifacts(run.id, file, str(target))
    return target


def _all(client: Any, experiments: list[str], wanted: str, most: int | None, sweeps: bool) -> list[Any]:
    runs: list[Any] = []
    token = None
    while most is None or len(runs) < most:
        size = _PAGE if most is None else min(most - len(runs), _PAGE)
        page = client.search_runs(experiments, wanted, max_results=size, page_token=token)
        runs += [run for run in page if sweeps or SWEEP_TAG not in run.data.tags]
        token = page.token
        if not token:
            break
    return runs


def _info(run: Any, experiment: str) -> RunInfo:
    info = run.info
    ended = info.end_time
    return RunInfo(
        id=info.run_id,
        name=info.run_name or "",
        experiment=experiment,
        status=info.status,
        start=info.start_time / 1000,
        seconds=(ended - info.start_time) / 1000 if ended else float("nan"),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags={key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
        artifacts=info.artifact_uri,
    )


def _only(infos: Sequence[RunInfo], text: str, uri: str) -> RunInfo:
    found = [info for info in infos if info.id.startswith(text)] or [info for info in infos if info.name == text]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise InputError(f"MLflow store {uri}: {what} with the id or name {text}; medseg runs names them")
    return found[0]
