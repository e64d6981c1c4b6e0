"""`medseg data cache`: what prepared cases take on the disk, and their removal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.errors import InputError

__all__ = ["cache"]

_DAY = 86_400.0


def cache(
    folder: Annotated[Path, typer.Option(help="The cache of your runs: cache_dir.")] = Path("runs/cache"),
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is shown.")] = False,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", help="Only what no run has used for so many days.")
    ] = 0.0,
) -> None:
    """Show what prepared cases take on the disk, or clear it.

    Training prepares each case once for each spacing and normalisation. What
    is cleared is prepared again when a run needs it, also in the middle of one.

    \b
    Example:
      medseg data cache --clear --older-than 30
    """
    from medseg.data.housekeeping import cache_content, clear_cache

    if older_than < 0:
        raise InputError(f"--older-than {older_than:g}: expected a number of days from 0")
    content = (clear_cache if clear else cache_content)(folder, older_than * _DAY)
    which = f" not used for {older_than:g} days" if older_than else ""
    typer.echo(
        f"{folder}: {content.entries} entries{which}, {content.size / 1e6:,.1f} MB{' removed' if clear else ''}"
        + (f"; last used {_ago(content.used[-1])}" if content.used and not clear else "")
    )


def _ago(moment: float) -> str:
    import time

    hours = (time.time() - moment) / 3600
    return "within the hour" if hours < 1 else f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"
