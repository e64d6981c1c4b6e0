"""`medseg report`: a run as one web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: RUN/report.html.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Cases with the lowest Dice in the slice viewer.")] = 4,
    best: Annotated[int, typer.Option(min=0, help="Cases with the highest Dice there.")] = 2,
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="With the slices of these cases.")] = True,
) -> None:
    """Write a run as one web page: results, curves, slices, settings.

    It needs no network and no other file. The slices are those of the
    validation cases: treat the page as you treat the images.

    \b
    Example:
      medseg report runs/a
    """
    from medseg.files import make_folder, write_text
    from medseg.report.run_report import run_report

    target = output or run / "report.html"
    page = run_report(run, worst if viewer else 0, best if viewer else 0)
    make_folder(target.parent)
    write_text(target, page)
    size = len(page.encode()) / 1e6
    Console().print(f"{target}: {size:.1f} MB", markup=False, highlight=False, soft_wrap=True)
