"""`medseg runs`: the runs that there are in folders and in MLflow."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from medseg.cli.console import print_runs, table_console

if TYPE_CHECKING:
    from medseg.tracking import RunInfo

__all__ = ["app"]

app = typer.Typer(help="List runs, and look after what MLflow knows of them.")

_STATUS = {"FINISHED": "ended", "SCHEDULED": "waits"}


@app.callback(invoke_without_command=True)
def _runs(
    context: typer.Context,
    store: Annotated[str | None, typer.Option(metavar="URI", help="The MLflow store. Default: runs/mlruns.db.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only runs of this one.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="How many of the newest.")] = 50,
) -> None:
    """List runs: status, method, loss, labels, Dice, time. Commands do more.

    \b
    Example:
      medseg runs --experiment loss_study
      medseg runs show 3f2a
    """
    if context.invoked_subcommand is not None:
        return
    from medseg.tracking import default_uri, list_runs

    uri = store or default_uri()
    found = list_runs(uri, experiment=experiment, most=most)
    console = table_console()
    if not found:
        console.print(f"{uri}: no runs yet", markup=False, highlight=False, soft_wrap=True)
        return
    columns = {
        "id": [run.id[:7] for run in found],
        "name": [run.name for run in found],
        "status": [_STATUS.get(run.status, run.status.lower()) for run in found],
        "method": [run.params.get("method", "") for run in found],
        "loss": [run.params.get("loss", "") for run in found],
        "labels": [run.params.get("labelled", "") for run in found],
        "seed": [run.params.get("seed", "") for run in found],
        "Dice": [_number(run, "validation_last/dice", 3) for run in found],
        "HD95": [_number(run, "validation_last/hd95_mm", 1) for run in found],
        "min.": ["" if math.isnan(run.seconds) else f"{run.seconds / 60:.1f}" for run in found],
    }
    caption = f"{uri}; Dice and HD95 (mm): validation, checkpoint last"
    spare = ("seed", "min.", "HD95", "labels", "loss", "method")
    print_runs(console, columns, ("name", "method", "loss"), spare, caption)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="A run's id, its beginning, or its name.")],
    store: Annotated[str | None, typer.Option(metavar="URI", help="The MLflow store. Default: runs/mlruns.db.")] = None,
) -> None:
    """Show what is known of one run: settings, versions, metrics, files.

    \b
    Example:
      medseg runs show 3f2a
    """
    from medseg.tracking import default_uri, list_runs

    uri, console = store or default_uri(), Console()
    (run,) = list_runs(uri, ids=[run_id])
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.start))
    took = "" if math.isnan(run.seconds) else f", {run.seconds / 60:.1f} minutes"
    lines = [f"{run.name} ({run.id})", f"{run.status.lower()}, began {began}{took}", f"experiment {run.experiment}",
             f"files: {run.artifacts}"]  # fmt: skip
    own = {key: value for key, value in run.params.items() if not key.startswith("config.")}
    for title, values in (("settings and versions", own), ("tags", run.tags)):
        lines += ["", f"{title}:", *(f"  {key}: {value}" for key, value in sorted(values.items()))]
    measured = {key: value for key, value in run.metrics.items() if key.startswith(("validation", "test"))}
    lines += ["", "metrics:", *(f"  {key}: {value:.4g}" for key, value in sorted(measured.items()))]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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


def _number(run: RunInfo, key: str, digits: int) -> str:
    value = run.metrics.get(key)
    return "" if value is None else f"{value:.{digits}f}"
