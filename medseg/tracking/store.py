"""Where runs are kept: one SQLite store for all runs of a folder, or what MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import logging
import os
from pathlib import Path

# medseg works on data that must not leave the machine: MLflow's usage telemetry stays off unless asked for
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__all__ = ["artifact_location", "default_uri", "metric_key", "quiet", "store_problem"]


def default_uri(folder: str | os.PathLike[str] = "runs") -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else `folder/mlruns.db` as an SQLite store."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    return f"sqlite:///{Path(folder).absolute() / 'mlruns.db'}"


def artifact_location(uri: str) -> str | None:
    """Beside a local SQLite store the folder `mlartifacts`; None leaves it to the server."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").absolute().as_uri()


def store_problem() -> tuple[str, str]:
    """The default store's URI and what is wrong with it, "" where it answers. A local store that does not exist yet
    is fine: its first run makes it."""
    uri = default_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return uri, ""
    # a doctor's answer should not take the minutes for which a run would go on asking
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    from mlflow import MlflowClient

    quiet()
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever a store's driver raises is the finding
        return uri, str(error).splitlines()[0]
    return uri, ""


def metric_key(name: str) -> str:
    """A name with only the characters that MLflow allows; class names may have others."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def quiet() -> None:
    """Keeps the store's migrations, which it logs line by line when it is made, out of the user's way."""
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
