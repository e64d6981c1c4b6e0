"""`medseg data check`: what a dataset holds and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medseg.cli.console import table_console

if TYPE_CHECKING:
    from medseg.data.findings import Findings

__all__ = ["DATA_HELP", "check"]

DATA_HELP = "A folder with dataset.json, cases.csv, or images/ and labels/; or a CSV file."


def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help=DATA_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: all cases and findings.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write that JSON into a file.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="Modality of the channels: CT, or CT,PET. Replaces dataset.json's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split where none is written, as in training.")] = 0,
) -> None:
    """Say what a dataset holds and what is wrong with it.

    Reads every image and label once. Ends with exit code 1 where there are
    errors: unreadable files, grids that differ, NaN, unknown label values,
    one image or one patient both in training and in validation or test.

    \b
    Example:
      medseg data check my_cohort/
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from medseg.data.check import check_data
    from medseg.files import write_text

    errors = Console(stderr=True)
    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("")
        found = check_data(
            data, modality, seed, on_case=lambda done, total: progress.update(task, completed=done, total=total)
        )
    text = json.dumps(found.as_json(), indent=1)
    if output:
        write_text(output, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print(found)
    raise typer.Exit(1 if found.errors else 0)


def _print(found: Findings) -> None:
    console = table_console()
    table = Table(title=Text(found.name), show_header=False, title_justify="left")
    for role, count in found.counts.items():
        table.add_row(f"{role} cases", str(count))
    table.add_row("channels", ", ".join(found.channels))
    table.add_row("classes", ", ".join(f"{v} {name}" for v, name in (found.classes or {}).items()) or "not found")
    for name, limits in (("shape (voxels)", found.range_of("shape")), ("spacing (mm)", found.range_of("spacing"))):
        if limits:
            low, high = (" x ".join(f"{value:.4g}" for value in row) for row in limits)
            table.add_row(name, low if low == high else f"{low} to {high}")
    console.print(table, markup=False)
    for finding in sorted(found.findings, key=lambda finding: finding.severity != "error"):
        console.print(f"{finding.severity}: {finding.text}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{found.errors} errors, {found.warnings} warnings in {len(found.cases)} cases", highlight=False)
