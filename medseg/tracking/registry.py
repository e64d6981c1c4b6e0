"""Models by name in MLflow's registry."""

from __future__ import annotations

import os

from medseg import ranks
from medseg.data.runfile import read_run_file
from medseg.tracking.store import quiet, store_errors

__all__ = ["register_model"]


def register_model(folder: str | os.PathLike[str], name: str | None) -> str | None:
    """Registers the model of a finished run as the next version of `name`, in the store that the run is in.

    Args:
        folder: of the run.
        name: None registers nothing.

    Returns:
        The version, None without a name.

    Raises:
        InputError: the store does not answer or takes no such name.
    """
    if name is None or not ranks.is_first():
        return None
    from mlflow import MlflowClient

    quiet()
    tracking = read_run_file(folder).tracking
    with store_errors(
        f"MLflow store {tracking['uri']}: model {name} could not be registered",
        f"the run has ended and its model is in {folder}",
    ):
        client = MlflowClient(tracking["uri"])
        if not any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
            client.create_registered_model(name)
        run = client.get_run(tracking["run_id"])
        source = f"{run.info.artifact_uri}/model"
        return str(client.create_model_version(name, source, tracking["run_id"], tags={"run": str(folder)}).version)
