"""`medseg runs`: the runs that there are in folders and in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look after runs and what MLflow knows of them.")


@app.callback()
def _runs() -> None:  # with it a single command keeps its name
    pass


@app.command()
def sync(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that nobody trains now.")],
    store: Annotated[
        str | None, typer.Option(metavar="URI", help="An MLflow store. Default: the one the run is tracked in.")
    ] = None,
) -> None:
    """Send to MLflow what it lacks of a run, and nothing twice.

    For runs whose store did not answer at times, and for runs that were
    trained --offline: those go to the store of MLFLOW_TRACKING_URI.

    \b
    Example:
      medseg runs sync runs/a
    """
    from medseg.engine.output import locked
    from medseg.errors import InputError
    from medseg.tracking import sync_run

    if not (run / "mlflow.json").exists():
        raise InputError(f"{run}: no tracked run; expected the folder of a run, with its mlflow.json")
    with locked(run):
        found = sync_run(run, store)
    sent = f"{found.sent.metrics} metrics, {found.sent.params} params, {found.sent.artifacts} artifacts"
    Console().print(f"{found.uri}: run {found.run_id}, sent now: {sent}", markup=False, highlight=False, soft_wrap=True)
