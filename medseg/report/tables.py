"""Measures as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from medseg.metrics.measures import MEASURES
from medseg.metrics.report import ClassResult, ClassSummary, Statistics, Summary

__all__ = ["cases_table", "checkpoint_table", "measures_table", "metrics_table", "worst_cases"]

_UNDEFINED = "-"
_OVER_CLASSES = "mean"


def metrics_table(title: str, summary: Summary) -> Table:
    """One row per class: Dice and HD95 in mm (mean, sd, median), cases that define them of all, cases missed.

    The title goes on with the number of cases. The last row is the mean over the classes' means; a measure that no
    case defines is "-".
    """
    table = _table(_counted(title, summary.n_cases), summary)
    for column in ("Dice ± sd", "median", "HD95 mm ± sd", "median", "n", "missed"):
        table.add_column(column, justify="right")
    for row in summary.classes:
        table.add_row(
            Text(row.class_name),
            _spread(row.dice, _dice),
            _dice(row.dice.median),
            _spread(row.hd95_mm, _mm),
            _mm(row.hd95_mm.median),
            f"{row.dice.n}/{row.dice.n + row.dice.n_undefined}",
            str(row.n_missed),
            end_section=row is summary.classes[-1],
        )
    table.add_row(
        _OVER_CLASSES,
        _dice(summary.dice.mean),
        "",
        _mm(summary.hd95_mm.mean),
        "",
        f"{summary.dice.n_cases}/{summary.n_cases}",
        str(summary.n_missed),
    )
    return table


def measures_table(title: str, summary: Summary) -> Table:
    """Every measure of every class: mean, sd, median, the bootstrap 95 % interval of the mean, cases that define it of
    all. Counts of lesions are means a case."""
    table = _table(title, summary)
    table.add_column("Measure")
    for column in ("mean ± sd", "median", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for row in summary.classes:
        for name, found in row.measures.items():
            known = MEASURES[name]

            def written(value: float, digits: int = max(known.digits, 1)) -> str:
                return _UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"

            low, high = found.interval_95 or (math.nan, math.nan)
            table.add_row(
                Text(row.class_name if name == "dice" else ""),
                Text(known.shown),
                _spread(found, written),
                written(found.median),
                _UNDEFINED if math.isnan(low) else f"{written(low)} to {written(high)}",
                f"{found.n}/{found.n + found.n_undefined}",
                end_section=name == list(row.measures)[-1],
            )
    return table


def worst_cases(results: Mapping[str, Sequence[ClassResult]], most: int = 3) -> list[str]:
    """A line a class that names the cases with the lowest Dice, worst first, and says which were missed."""
    lines = []
    for name in dict.fromkeys(result.class_name for of_case in results.values() for result in of_case):
        found = [(r.dice, case, r) for case, of_case in results.items() for r in of_case if r.class_name == name]
        worst = sorted((row for row in found if not math.isnan(row[0])), key=lambda row: row[:2])[:most]
        named = (
            f"{case} ({'missed' if r.missed else f'Dice {dice:.3f}, HD95 {r.hd95_mm:.1f} mm'})"
            for dice, case, r in worst
        )
        lines.append(f"worst of {name}: {', '.join(named) or 'no case has it'}")
    return lines


def checkpoint_table(title: str, summaries: Mapping[str, Summary]) -> Table:
    """Checkpoints side by side, one row per class: mean Dice and mean HD95 in mm of each, cases, missed.

    Args:
        title: goes on with the number of cases.
        summaries: checkpoint ("best", "last") -> what its predictions of the same cases are worth; at least one.

    A count on which checkpoints differ is given for each: "0 / 2".
    """
    columns = list(summaries.values())
    table = _table(_counted(title, columns[0].n_cases), *columns)
    for measure in ("Dice", "HD95 mm"):
        for name in summaries:
            table.add_column(f"{measure} {name}", justify="right")
    for column in ("n", "missed"):
        table.add_column(column, justify="right")
    by_name = [{row.class_name: row for row in summary.classes} for summary in columns]
    names = list(dict.fromkeys(name for rows in by_name for name in rows))
    for name in names:
        rows: list[ClassSummary | None] = [of_class.get(name) for of_class in by_name]
        table.add_row(
            Text(name),
            *(_dice(row.dice.mean if row else math.nan) for row in rows),
            *(_mm(row.hd95_mm.mean if row else math.nan) for row in rows),
            _counts(row.dice.n if row else 0 for row in rows),
            _counts(row.n_missed if row else 0 for row in rows),
            end_section=name == names[-1],
        )
    table.add_row(
        _OVER_CLASSES,
        *(_dice(summary.dice.mean) for summary in columns),
        *(_mm(summary.hd95_mm.mean) for summary in columns),
        _counts(summary.dice.n_cases for summary in columns),
        _counts(summary.n_missed for summary in columns),
    )
    return table


def cases_table(title: str, results: Mapping[str, Sequence[ClassResult]]) -> Table:
    """One row per case and class: Dice, HD95 in mm, volumes in mL, and whether it was missed."""
    table = _plain(title)
    table.add_column("Case", overflow="fold")
    table.add_column("Class", overflow="fold")
    for column in ("Dice", "HD95 mm", "ref. mL", "pred. mL"):
        table.add_column(column, justify="right")
    table.add_column("")
    for case, of_case in results.items():
        for result in of_case:
            table.add_row(
                Text(case if result is of_case[0] else ""),
                Text(result.class_name),
                _dice(result.dice),
                _mm(result.hd95_mm),
                f"{result.reference_ml:.4g}",
                f"{result.prediction_ml:.4g}",
                "missed" if result.missed else "",
                end_section=result is of_case[-1],
            )
    return table


def _counted(title: str, cases: int) -> str:
    return f"{title}: {cases} case{'' if cases == 1 else 's'}"


def _table(title: str, *summaries: Summary) -> Table:
    notes = []
    if any(row.dice.n_undefined for summary in summaries for row in summary.classes):
        notes.append("n: cases with the class in reference or prediction; others are left out.")
    if any(summary.n_missed for summary in summaries):
        notes.append("missed: only one of the two has it: Dice 0, HD95 the image's diagonal.")
    table = _plain(title, "\n".join(notes) or None)
    table.add_column("Class", overflow="fold")
    return table


def _plain(title: str, caption: str | None = None) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def _spread(statistics: Statistics, written: Callable[[float], str]) -> str:
    sd = "" if math.isnan(statistics.sd) else f" ± {written(statistics.sd)}"
    return written(statistics.mean) + sd


def _dice(value: float) -> str:
    return _UNDEFINED if math.isnan(value) else f"{value:.3f}"


def _mm(value: float) -> str:
    return _UNDEFINED if math.isnan(value) else f"{value:.2f}"


def _counts(values: Iterable[int]) -> str:
    counts = list(values)
    return str(counts[0]) if len(set(counts)) == 1 else " / ".join(map(str, counts))
