"""Further facts written to a run that has ended."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping

from medseg.errors import InputError
from medseg.tracking.store import metric_key, quiet, store_errors, store_missing

__all__ = ["annotate"]


def annotate(
    uri: str,
    run_id: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float] | None = None,
    files: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Sets tags and metrics of a run and copies files to it; undefined metrics are left out.

    Raises:
        InputError: the store does not answer, or has no such run.
    """
    from mlflow import MlflowClient

    quiet()
    if store_missing(uri):
        raise InputError(f"MLflow store {uri}: no such file, so run {run_id} was not noted there; has it moved?")
    with store_errors(f"MLflow store {uri}: run {run_id} could not be noted there"):
        client = MlflowClient(uri)
        for path in files:
            client.log_artifact(run_id, str(path))
        for name, value in (metrics or {}).items():
            if math.isfinite(value):
                client.log_metric(run_id, metric_key(name), value, int(time.time() * 1000))
        for name, text in tags.items():
            client.set_tag(run_id, name, text)
