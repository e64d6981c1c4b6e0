"""`medseg compare`: runs against runs, and what may be concluded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from medseg.cli.console import print_runs, table_console
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.report.comparison import Comparison
    from medseg.report.page import Cell

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Run folders, folders of runs, or MLflow run ids.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="All finished runs of this MLflow experiment.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the experiment's runs those with this tag.")
    ] = None,
    store: Annotated[str | None, typer.Option(metavar="URI", help="The MLflow store. Default: runs/mlruns.db.")] = None,
    measure: Annotated[str, typer.Option(help="What is tested, such as dice, hd95_mm, surface_dice.")] = "dice",
    baseline: Annotated[
        str | None, typer.Option(help="The method, loss or group that others are compared with.")
    ] = None,
    split: Annotated[str, typer.Option(help="validation, or test where it was judged.")] = "validation",
    checkpoint: Annotated[str, typer.Option(help="Of validation: last; or best, which these cases chose.")] = "last",
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Also runs on different data, cases or budgets.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write CSV, Markdown, figures and comparison.html here.")
    ] = None,
) -> None:
    """Compare runs by what differs between them: method, loss, labels.

    Runs that differ in seed or fold are averaged case by case; then cases
    are paired. Says what so many cases and seeds can show, and what not.

    \b
    Example:
      medseg compare runs/a runs/b runs/c --output comparison/
      medseg compare --experiment hippocampus --baseline supervised
    """
    from medseg.report.comparison import compare as compare_runs
    from medseg.report.comparison_files import write_comparison
    from medseg.report.runs import find_runs, read_run

    if not runs and experiment is None:
        raise InputError("no runs given; name run folders or ids, or an --experiment")
    for text in tag or ():
        if experiment is None or "=" not in text:
            raise InputError(f"--tag {text}: expected KEY=VALUE, which chooses among the runs of an --experiment")
    if split not in ("validation", "test") or checkpoint not in ("best", "last"):
        raise InputError(f"--split {split} --checkpoint {checkpoint}: expected validation or test, best or last")
    with tempfile.TemporaryDirectory() as fetched:
        folders = [Path(name) for name in runs or () if Path(name).exists()]
        ids = [name for name in runs or () if not Path(name).exists()]
        found = find_runs(folders) if folders else []
        found += _fetched(ids, experiment, tag or [], store, Path(fetched)) if ids or experiment else []
        records = [read_run(folder, split, checkpoint) for folder in found]
        comparison = compare_runs(
            records,
            measure=measure,
            baseline=baseline,
            allow_mixed=allow_mixed,
            split=split,
            checkpoint=checkpoint,
        )
    _show(comparison)
    if output is not None:
        write_comparison(output, comparison)
        Console().print(f"Written: {output / 'comparison.html'}", markup=False, highlight=False, soft_wrap=True)


def _fetched(ids: list[str], experiment: str | None, tags: list[str], store: str | None, folder: Path) -> list[Path]:
    """Run folders with the files of MLflow runs, below `folder`."""
    from medseg.tracking import default_uri, fetch_run, list_runs

    uri = store or default_uri()
    for text in ids:
        if not text.isalnum():
            raise InputError(f"{text}: no such folder; expected a run folder, or the id of an MLflow run")
    wanted = dict(text.partition("=")[::2] for text in tags)
    chosen = list_runs(uri, ids=ids) if ids else []
    if experiment is not None:
        finished = [run for run in list_runs(uri, experiment=experiment, tags=wanted) if run.status == "FINISHED"]
        if not finished:
            raise InputError(f"experiment {experiment}: no finished run{' with these tags' if tags else ''} in {uri}")
        chosen += finished
    return [fetch_run(uri, run, folder) for run in chosen]


def _show(comparison: Comparison) -> None:
    from medseg.report.comparison_files import basis, group_rows
    from medseg.report.conclusions import conclusions

    console = table_console()
    head = ("runs", "n", "seeds", "class", "Dice", "HD95 mm", "cases", "steps", "min.")
    digits = {"Dice": 3, "HD95 mm": 2, "min.": 1}
    cells = dict(zip(head, zip(*group_rows(comparison), strict=True), strict=True))
    columns = {name: [_text(cell, digits.get(name)) for cell in column] for name, column in cells.items()}
    spare = ("n", "min.", "seeds", "cases", "HD95 mm")
    print_runs(console, columns, ("runs", "class"), spare, "")
    for line in (*conclusions(comparison), *(f"Note: {remark}" for remark in comparison.remarks)):
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(basis(comparison), style="dim", markup=False, highlight=False, soft_wrap=True)


def _text(cell: Cell, digits: int | None) -> str:
    if cell is None:
        return "-"
    return str(cell) if digits is None else f"{cell:.{digits}f}"
