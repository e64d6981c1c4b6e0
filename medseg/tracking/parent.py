"""The MLflow run that the runs of a sweep are shown below."""

from __future__ import annotations

import sys

from medseg.errors import InputError, first_line
from medseg.tracking.search import SWEEP_TAG, list_runs
from medseg.tracking.store import default_uri, experiment_id, make_local, quiet

__all__ = ["parent_run"]


def parent_run(experiment: str) -> str | None:
    """The id of the parent run of a sweep in the default store: the one that is there, or a new one. None, with a
    warning, where the store does not answer: runs are then not nested."""
    from mlflow import MlflowClient

    quiet()
    uri = default_uri()
    try:
        there = list_runs(uri, experiment=experiment, tags={SWEEP_TAG: experiment})
        if there:
            return there[0].id
    except InputError:
        pass  # neither store nor experiment may exist yet
    try:
        make_local(uri)
        client = MlflowClient(uri)
        run = client.create_run(
            experiment_id(client, uri, experiment), run_name=experiment, tags={SWEEP_TAG: experiment}
        )
        client.set_terminated(run.info.run_id)
    except Exception as error:  # whatever a store's driver raises
        print(f"Warning: MLflow store {uri}: the sweep's runs are not nested ({first_line(error)})", file=sys.stderr)
        return None
    return str(run.info.run_id)
