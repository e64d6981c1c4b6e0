from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from medseg.metrics.report import ClassResult, summarise, undefined_result
from medseg.report.tables import cases_table, checkpoint_table, metrics_table


def _rows(table: Table, width: int = 80) -> list[list[str]]:
    """The cells of each line that has some."""
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return [line.split() for line in text.getvalue().splitlines() if line.strip() and "─" not in line]


def _liver(dice: float, hd95_mm: float, missed: bool = False) -> ClassResult:
    return ClassResult("liver", dice, hd95_mm, 1.5, 0.0 if missed else 1.25, missed)


RESULTS = {
    "a": [_liver(0.9, 2.0), undefined_result("[red]cyst")],
    "b": [_liver(0.0, 70.0, True), undefined_result("[red]cyst")],
}


def test_metrics_table_has_a_row_a_class_and_the_mean() -> None:
    rows = _rows(metrics_table("validation", summarise(RESULTS)))
    assert rows[0] == ["validation:", "2", "cases"]
    assert ["liver", "0.450", "±", "0.636", "0.450", "36.00", "±", "48.08", "36.00", "2/2", "1"] in rows
    assert ["[red]cyst", "-", "-", "-", "-", "0/2", "0"] in rows
    assert ["mean", "0.450", "36.00", "2/2", "1"] in rows


def test_notes_only_where_they_apply() -> None:
    perfect = summarise({"a": [_liver(1.0, 0.0)]})
    text = str(_rows(metrics_table("x", perfect), 200))
    assert "diagonal" not in text
    assert "left" not in text
    text = str(_rows(metrics_table("x", summarise(RESULTS)), 200))
    assert "diagonal" in text
    assert "left" in text


def test_one_case_has_no_spread() -> None:
    rows = _rows(metrics_table("x", summarise({"a": [_liver(0.9, 2.0)]})))
    assert ["liver", "0.900", "0.900", "2.00", "2.00", "1/1", "0"] in rows


def test_checkpoints_stand_side_by_side() -> None:
    best, last = summarise({"a": [_liver(0.9, 2.0)]}), summarise({"a": [_liver(0.0, 70.0, True)]})
    rows = _rows(checkpoint_table("test", {"best": best, "last": last}))
    assert rows[0] == ["test:", "1", "case"]
    assert ["liver", "0.900", "0.000", "2.00", "70.00", "1", "0", "/", "1"] in rows
    assert ["mean", "0.900", "0.000", "2.00", "70.00", "1", "0", "/", "1"] in rows


def test_a_class_that_one_checkpoint_lacks_is_undefined_there() -> None:
    both = summarise({"a": [_liver(0.9, 2.0)]})
    rows = _rows(checkpoint_table("test", {"best": both, "last": summarise({})}))
    assert ["liver", "0.900", "-", "2.00", "-", "1", "/", "0", "0"] in rows


def test_cases_table_has_a_row_a_case_and_class() -> None:
    rows = _rows(cases_table("PRED against REF", RESULTS))
    assert ["a", "liver", "0.900", "2.00", "1.5", "1.25"] in rows
    assert ["b", "liver", "0.000", "70.00", "1.5", "0", "missed"] in rows
    assert rows.count(["[red]cyst", "-", "-", "0", "0"]) == 2


def test_nothing_judged_is_undefined() -> None:
    assert ["mean", "-", "-", "0/0", "0"] in _rows(metrics_table("nothing", summarise({})))
