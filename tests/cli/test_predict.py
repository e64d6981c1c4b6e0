"""What is seen of a long prediction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console

from medseg.cli.predict import _shown
from medseg.data.case import Case


def test_a_bar_says_which_case_how_many_and_how_long() -> None:
    text = StringIO()
    cases = [Case(name, (Path(name),), None) for name in ("first", "second")]

    def predict(moved: Callable[[int, float], None]) -> Iterator[str]:
        for i, case in enumerate(cases):
            moved(i, 0.5)
            yield case.name

    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    assert list(_shown(cases, console, predict)) == ["first", "second"]
    shown = next(line for line in reversed(text.getvalue().splitlines()) if "second" in line)
    assert re.search(r"segmenting second .* 2 of 2 +\S+ +left \S+", shown)
