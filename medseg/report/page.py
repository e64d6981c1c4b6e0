"""Web pages of one file: no network, no other file, light and dark."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Cell", "asset", "escape", "picture", "table", "web_page"]

Cell = str | int | float | None
"""Of a table: a float is shown as given by the table's digits, None and NaN as a dash that sorts last."""


def web_page(title: str, body: str, scripts: Sequence[str] = ("sort.js",), data: str = "") -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        scripts: assets, run in this order after the body.
        data: JSON that scripts find in the element `data`.
    """
    # in a script element "</script" would end it and "<!--<script" hide its end; JSON may write the sign by its number
    data = data.replace("<", "\\u003c")
    block = f'<script type="application/json" id="data">{data}</script>' if data else ""
    code = "\n".join(asset(name) for name in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{asset("style.css")}</style>
</head>
<body>
{body}
{block}
<script>
{code}</script>
</body>
</html>
"""


def escape(text: object) -> str:
    """Text that may stand in HTML."""
    return html.escape(str(text))


def asset(name: str) -> str:
    """The text of a file of `medseg/report/assets`."""
    return files("medseg.report").joinpath("assets", name).read_text(encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], digits: Sequence[int] = ()) -> str:
    """A sortable table; text columns to the left, numbers to the right.

    Args:
        head: names of the columns.
        rows: as many cells each.
        digits: of each column's floats, 3 where not given.
    """
    rows = [list(row) for row in rows]
    texts = [all(isinstance(row[i], str) for row in rows) for i in range(len(head))]
    cells = "".join(
        f"<th scope=col{' class=text' if text else ''}>{escape(name)}</th>"
        for name, text in zip(head, texts, strict=True)
    )
    lines = [f"<thead><tr>{cells}</tr></thead><tbody>"]
    for row in rows:
        shown = (_cell(value, digits[i] if i < len(digits) else 3, texts[i]) for i, value in enumerate(row))
        lines.append(f"<tr>{''.join(shown)}</tr>")
    return f"<div class=wide><table class=sortable>{''.join(lines)}</tbody></table></div>"


def picture(figure: Figure, description: str) -> str:
    """A figure within the page, with its description below and for screen readers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    source = base64.b64encode(buffer.getvalue()).decode()
    text = escape(description)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{source}"><figcaption>{text}</figcaption></figure>'


def _cell(value: Cell, digits: int, text: bool) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return '<td data-value="">–</td>'
    if isinstance(value, float):
        return f'<td data-value="{value!r}">{value:.{digits}f}</td>'
    return f"<td{' class=text' if text else ''}>{escape(value)}</td>"
