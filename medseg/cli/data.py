"""`medseg data`: phantoms to try things on, and what is done to one's own data before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medseg.cli.data_check import check
from medseg.cli.data_fetch import fetch
from medseg.cli.data_split import split

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make phantoms; check, split and fetch data.")

for _command in (check, split, fetch):
    app.command()(_command)


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
