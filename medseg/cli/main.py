"""The command line. Wrong input is one line and exit code 2."""

from __future__ import annotations

import sys
from functools import cache
from typing import Annotated

import typer

import medseg
from medseg.errors import Interrupted, last_words

__all__ = ["app", "main", "register"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="3-D segmentation of CT and MRI volumes of which only some are labelled.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medseg {medseg.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """The entry point `medseg`."""
    register()
    try:
        app()
    except (Exception, Interrupted) as error:
        end = last_words(error)
        if end is None:
            raise
        line, code = end
        print(line, file=sys.stderr)
        raise SystemExit(code) from None


@cache
def register() -> None:
    """Adds all commands to `app`, once: those that were added again would be built again at every call."""
    from medseg.cli import data, runs
    from medseg.cli.cache import cache as cache_command
    from medseg.cli.compare import compare
    from medseg.cli.doctor import doctor
    from medseg.cli.evaluate import evaluate
    from medseg.cli.export import export
    from medseg.cli.losses import losses
    from medseg.cli.methods import methods
    from medseg.cli.plan import plan
    from medseg.cli.predict import predict
    from medseg.cli.report import report
    from medseg.cli.suggest import suggest
    from medseg.cli.sweep import sweep
    from medseg.cli.train import train
    from medseg.cli.tune import tune_postprocessing
    from medseg.cli.ui import ui

    runs_and_models = (plan, train, sweep, predict, tune_postprocessing, export)
    results = (evaluate, compare, report, ui)
    for command in (*runs_and_models, *results, losses, methods, suggest, doctor):
        app.command()(command)
    data.app.command("cache")(cache_command)
    app.add_typer(data.app, name="data")
    app.add_typer(runs.app, name="runs")
