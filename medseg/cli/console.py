"""Where tables are printed, and how much of them fits there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_runs", "table_console"]

_WIDE = 1000  # columns, of which a table takes those that it needs


def table_console() -> Console:
    """Standard output. A pipe or a file has no width, so that names stay whole there, unless COLUMNS gives one."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def print_runs(
    console: Console, columns: Mapping[str, Sequence[str]], texts: Iterable[str], spare: Iterable[str], caption: str
) -> None:
    """Prints a table of runs, in which names stay whole as long as anything else can give way.

    Args:
        console: where.
        columns: by name of each column its cells.
        texts: the columns that stand to the left.
        spare: those that are left out one after another, which the caption then says, where it is too narrow.
        caption: what is said below; may be empty.
    """
    widths = {name: max(map(cell_len, (name, *cells))) for name, cells in columns.items()}
    left_out = []
    for name in spare:
        if sum(widths.values()) + 2 * len(widths) <= console.width:
            break
        left_out.append(name)
        del widths[name]
    said = "; ".join(filter(None, (caption, f"too narrow for {', '.join(left_out)}" if left_out else "")))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in widths:
        table.add_column(name, justify="left" if name in texts else "right", overflow="fold")
    for row in zip(*(columns[name] for name in widths), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    if said:
        console.print(said, style="dim italic", markup=False, highlight=False, soft_wrap=True)
