"""Names of runs stay whole where tables are printed."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from medseg.cli.console import print_runs, table_console

NAME = "hippocampus_pseudo_label_9_labels_seed_1"
COLUMNS = {"name": [NAME, "b"], "loss": ["tversky(alpha=0.4)", "dice_ce"], "seed": ["1", "2"], "Dice": ["0.887", ""]}


def shown(width: int) -> list[list[str]]:
    console = Console(file=StringIO(), width=width)
    print_runs(console, COLUMNS, ("name", "loss"), ("seed", "loss"), "store")
    assert isinstance(console.file, StringIO)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip(" ─")]


def test_what_a_terminal_does_not_hold_is_left_out_before_a_name_is_broken() -> None:
    assert shown(75) == [
        ["name", "loss", "seed", "Dice"],
        [NAME, "tversky(alpha=0.4)", "1", "0.887"],
        ["b", "dice_ce", "2"],
        ["store"],
    ]
    assert shown(74)[:2] == [["name", "loss", "Dice"], [NAME, "tversky(alpha=0.4)", "0.887"]]
    assert shown(60)[:2] == [["name", "Dice"], [NAME, "0.887"]]
    assert shown(60)[3:] == [["store;", "too", "narrow", "for", "seed,", "loss"]]


def test_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table_console().width >= 1000
    monkeypatch.setenv("COLUMNS", "60")
    assert table_console().width == 60
