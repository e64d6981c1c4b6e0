"""Losses and methods on the terminal: a list with a line each, or one with all that its docstring says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from medseg.losses.describe import Description

__all__ = ["print_description", "print_lines"]


def print_lines(console: Console, rows: dict[str, str]) -> None:
    """Names and what is said of them."""
    for name, text in rows.items():
        console.print(Text.assemble((f"  {name:<24}", "cyan"), text), soft_wrap=True)


def print_description(console: Console, described: Description, module: str) -> None:
    """All parts of a docstring, and the parameters."""
    console.print(Text(f"{module}.{described.name}", style="bold cyan"))
    console.print(Text(described.summary))
    for title, text in described.sections.items():
        console.print(Text(f"\n{title}", style="bold"))
        console.print(Padding(Text(text), (0, 0, 0, 2)))
    rows = Table.grid(padding=(0, 2))
    for parameter in described.parameters:
        rows.add_row(Text(f"  {parameter.name}", style="cyan"), Text(parameter.default), Text(parameter.meaning))
    console.print(Text("\nParameters", style="bold"))
    console.print(rows)
