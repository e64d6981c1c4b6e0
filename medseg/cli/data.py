"""`medseg data`: phantoms to try things on, and a check of one's own data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from medseg.data.check import Findings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make phantoms, check data.")


@app.command()
def phantoms(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; new, or empty.")],
    labelled: Annotated[int, typer.Option(help="Training cases with a label.")] = 4,
    unlabelled: Annotated[int, typer.Option(help="Training cases without one.")] = 12,
    validation: Annotated[int, typer.Option(help="Cases that choose the checkpoint.")] = 4,
    test: Annotated[int, typer.Option(help="Cases that choose nothing.")] = 4,
    seed: Annotated[int, typer.Option(help="Other seeds are other patients.")] = 0,
) -> None:
    """Write a cohort of CT-like phantoms (liver, kidneys, aorta) as NIfTI.

    The layout is that of the Medical Segmentation Decathlon, with a
    splits.json. Equal options give equal files; a cohort that is there
    already is left as it is.

    \b
    Example:
      medseg data phantoms runs/phantoms --seed 1
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from medseg.data.phantoms import write_cohort

    written = write_cohort(out, labelled, unlabelled, validation, test, seed)
    cases = f"{labelled} labelled, {unlabelled} unlabelled, {validation} validation, {test} test"
    state = "written" if written else "there already"
    Console().print(f"{out}: {cases} phantoms {state}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="dataset.json or images/ and labels/ in it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: all cases and findings.")] = False,
    modality: Annotated[
        str | None, typer.Option(help="Modality of the channels: CT, or CT,PET. Replaces dataset.json's.")
    ] = None,
) -> None:
    """Say what a folder of cases holds and what is wrong with it.

    Reads every image and label once. Ends with exit code 1 where there are
    errors: unreadable files, grids that differ, NaN, unknown label values.

    \b
    Example:
      medseg data check my_cohort/
    """
    from medseg.data.check import check_data

    errors = Console(stderr=True)
    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("")
        found = check_data(
            data, modality, on_case=lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        _print(found)
    raise typer.Exit(1 if found.errors else 0)


def _print(found: Findings) -> None:
    console = Console()
    table = Table(title=found.name, show_header=False, title_justify="left")
    for role, count in found.counts.items():
        table.add_row(f"{role} cases", str(count))
    table.add_row("channels", ", ".join(found.channels))
    table.add_row("classes", ", ".join(f"{v} {name}" for v, name in (found.classes or {}).items()) or "not found")
    for what, unit in (("shape", "voxels"), ("spacing", "mm")):
        limits = found.range_of("shape" if what == "shape" else "spacing")
        if limits:
            low, high = (" x ".join(f"{value:.4g}" for value in row) for row in limits)
            table.add_row(f"{what} ({unit})", low if low == high else f"{low} to {high}")
    console.print(table)
    for finding in found.findings:
        console.print(f"{finding.level}: {finding.text}", markup=False, highlight=False, soft_wrap=True)
    warnings = len(found.findings) - found.errors
    console.print(f"{found.errors} errors, {warnings} warnings in {len(found.cases)} cases", highlight=False)
