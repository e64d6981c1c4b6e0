"""`medseg data fetch`: public data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import InputError

__all__ = ["fetch"]


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Task04_Hippocampus, or Task04, or hippocampus.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="NAME becomes a folder in it.")] = Path(),
    url: Annotated[str | None, typer.Option(help="Another address of the same file, such as a mirror.")] = None,
    accept: Annotated[bool, typer.Option("--accept-licence", help="Do not ask.")] = False,
) -> None:
    """Download a task of the Medical Segmentation Decathlon.

    Shows the licence and asks. The checksum is MONAI's. There is the whole
    data set afterwards, or nothing of it. Ends with exit code 1 where the
    net or the server failed.

    \b
    Example:
      medseg data fetch hippocampus --output data
    """
    from medseg.data.fetch import LICENCE, FetchError, fetch_task, task_name

    task = task_name(name)
    typer.echo(LICENCE, err=True)
    if not accept:
        if not sys.stdin.isatty():
            raise InputError(f"{task}: nobody to ask whether the licence is accepted; give --accept-licence")
        if not typer.confirm("Accept?", err=True):
            raise typer.Exit(1)
    there = (output / task).is_dir()
    try:
        folder = fetch_task(task, output, url, progress=sys.stderr.isatty())
    except FetchError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{folder}: {'there already' if there else 'complete'}; look at it with `medseg data check {folder}`")
