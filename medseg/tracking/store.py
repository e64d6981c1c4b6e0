"""Where runs are kept: one SQLite store for all runs of a folder, or what MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.errors import InputError, first_line

# medseg works on data that must not leave the machine: MLflow's usage telemetry stays off unless asked for
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__all__ = [
    "artifact_location",
    "default_uri",
    "experiment_id",
    "local_folder",
    "local_uri",
    "make_local",
    "metric_key",
    "quiet",
    "remote_problem",
    "store_errors",
    "store_missing",
    "store_problem",
]

_LOCAL = "sqlite:///"


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else `runs/mlruns.db` as an SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    """`runs/mlruns.db` as an SQLite store."""
    return f"{_LOCAL}{Path('runs/mlruns.db').absolute()}"


def local_folder(uri: str) -> Path | None:
    """The folder of a local SQLite store; None of another store."""
    return Path(uri.removeprefix(_LOCAL)).parent if uri.startswith(_LOCAL) else None


def make_local(uri: str) -> None:
    """Makes a local store that is not there yet, whole or not at all; of another store nothing.

    MLflow makes its tables one by one: were the process stopped among them, the store could never be used again.
    """
    if local_folder(uri) is None or not store_missing(uri):
        return
    from mlflow import MlflowClient

    quiet()
    path = Path(uri.removeprefix(_LOCAL))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")
    try:
        MlflowClient(f"{_LOCAL}{temporary}").search_experiments(max_results=1)
        os.link(temporary, path)  # not renamed: another run may have made it meanwhile, and be in it
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def artifact_location(uri: str) -> str | None:
    """Beside a local SQLite store the folder `mlartifacts`; None leaves it to the server."""
    folder = local_folder(uri)
    return None if folder is None else (folder / "mlartifacts").absolute().as_uri()


def experiment_id(client: Any, uri: str, name: str) -> str:
    """The id of an experiment in the store at `uri`, which is made where absent.

    Raises:
        InputError: it was deleted there.
        MlflowException: the store does not answer, or takes no such name.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location(uri)))
        except MlflowException:  # another run made it at the same moment
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"MLflow store {uri}: experiment {name} was deleted there; choose another one, or take that back: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


@contextmanager
def store_errors(what: str, advice: str = "") -> Iterator[None]:
    """Around calls of a store: one line, `WHAT (the problem); ADVICE`, of whatever its driver raises, which is not only
    MLflow's own: also the database's, the network's, or that a driver is not installed.

    Raises:
        InputError: something was raised.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({first_line(error)})" + (f"; {advice}" if advice else "")) from error


def store_problem() -> tuple[str, str]:
    """The default store's URI and what is wrong with it, "" where it answers. A local store that does not exist yet
    is fine: its first run makes it."""
    uri = default_uri()
    if store_missing(uri):
        return uri, ""
    return uri, _problem(uri)


def store_missing(uri: str) -> bool:
    """Whether it is a local store that does not exist yet; asking MLflow for it would make it."""
    return uri.startswith(_LOCAL) and not Path(uri.removeprefix(_LOCAL)).exists()


def remote_problem(uri: str) -> str:
    """What is wrong with a store on a server, "" where it answers, and for stores in files."""
    return _problem(uri) if uri.startswith(("http://", "https://")) else ""


def _problem(uri: str) -> str:
    from mlflow import MlflowClient

    quiet()
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever a store's driver raises is the finding
        return first_line(error)
    return ""


def metric_key(name: str) -> str:
    """A name with only the characters that MLflow allows; class names may have others."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def quiet() -> None:
    """Keeps the store's migrations, which it logs line by line when it is made, out of the user's way, and its waits
    short: by itself MLflow asks a server that does not answer for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
