"""A comparison written down: CSV, Markdown, figures, and one page with all of it."""

from __future__ import annotations

import math
import os
from typing import Any

from medseg.files import make_folder, write_rows, write_text, writing
from medseg.metrics.measures import MEASURES
from medseg.report.comparison import Comparison, Difference
from medseg.report.comparison_figures import FIGURES
from medseg.report.conclusions import conclusions
from medseg.report.page import Cell, escape, picture, table, web_page
from medseg.report.runs import RunRecord

__all__ = ["basis", "comparison_page", "difference_rows", "group_rows", "write_comparison"]

_CAPTIONS = {
    "learning_curves": "Validation Dice during training: mean of a group's runs, the band from lowest to highest",
    "cases": "Every case, averaged over seeds",
    "differences": "Mean differences over paired cases with bootstrap 95 % intervals",
    "label_efficiency": "The measure against the number of labelled training cases",
    "pseudo_labels": "Pseudo-labels on validation cases: Dice of the voxels kept, during training",
}
_GROUP_HEAD = ("runs", "n", "seeds", "class", "Dice", "HD95 mm", "cases", "steps", "minutes")


def group_rows(comparison: Comparison) -> list[list[Cell]]:
    """A row a group and class: label, number of runs and seeds, class, mean Dice, mean HD95, cases, steps and minutes a
    run; steps are a range where its runs differ."""
    rows: list[list[Cell]] = []
    for group in comparison.groups:
        minutes = sum(run.seconds for run in group.runs) / len(group.runs) / 60
        fewest, most = (of(run.steps for run in group.runs) for of in (min, max))
        steps = most if fewest == most else f"{fewest}-{most}"
        for name in group.class_names:
            dice = [v for v in group.values(name, "dice").values() if not math.isnan(v)]
            hd95 = [v for v in group.values(name, "hd95_mm").values() if not math.isnan(v)]
            means = [sum(values) / len(values) if values else None for values in (dice, hd95)]
            rows.append([group.label, len(group.runs), group.n_seeds, name, *means, len(dice), steps, minutes])
    return rows


def difference_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A record a difference: both groups, class, measure, mean, interval, p, corrected p, cases, seeds; NaN is None."""
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for difference in comparison.differences
        for row in _records(difference, comparison.measure)
    ]


def basis(comparison: Comparison) -> str:
    """What the comparison rests on, in a sentence."""
    known = MEASURES[comparison.measure]
    which = "checkpoint best" if comparison.split == "test" else f"checkpoint {comparison.checkpoint}"
    return (
        f"{comparison.split.capitalize()} cases, {which}; seeds averaged per case, cases paired; {known.label} tested "
        f"by Wilcoxon's signed ranks, p-values after Holm for {len(comparison.differences)} comparisons; intervals are "
        "bootstrap 95 %. Other measures are described, not tested."
    )


def write_comparison(folder: str | os.PathLike[str], comparison: Comparison) -> None:
    """Writes groups.csv, differences.csv, cases.csv, comparison.md, comparison.html and a PNG a figure to `folder`.
    Figures that an earlier comparison left there and this one has not are removed.

    Raises:
        InputError: it cannot be written.
    """
    folder = make_folder(folder)
    write_rows(folder / "groups.csv", [dict(zip(_GROUP_HEAD, row, strict=True)) for row in group_rows(comparison)])
    write_rows(folder / "differences.csv", difference_rows(comparison))
    write_rows(folder / "cases.csv", _case_rows(comparison))
    write_text(folder / "comparison.md", _markdown(comparison))
    figures = {name: draw(comparison) for name, draw in FIGURES.items()}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with writing(path) as temporary:
            figure.savefig(temporary, dpi=150)
    write_text(folder / "comparison.html", comparison_page(comparison, figures))


def comparison_page(comparison: Comparison, figures: dict[str, Any]) -> str:
    """The page; `figures` are those of `FIGURES`, None where there is nothing to draw."""
    said = "".join(f"<li>{escape(line)}</li>" for line in conclusions(comparison))
    remarks = "".join(f"<li class=bad>{escape(line)}</li>" for line in comparison.remarks)
    differences = difference_rows(comparison)
    head = list(differences[0]) if differences else []
    parts = [
        f"<h1>Comparison: {escape('; '.join(g.label for g in comparison.groups[:4]))}</h1>",
        f"<p class=soft>{escape(basis(comparison))}</p>",
        f"<h2>What may be concluded</h2><ul class=said>{said}{remarks}</ul>",
        "<h2>Groups</h2>" + table(_GROUP_HEAD, group_rows(comparison), digits=(0, 0, 0, 0, 3, 2, 0, 0, 1)),
        "<h2>Figures</h2>",
        *(picture(figure, _CAPTIONS[name]) for name, figure in figures.items() if figure is not None),
        "<h2>All differences</h2>" + table(head, [list(row.values()) for row in differences], digits=(4,) * len(head)),
        "<h2>Runs</h2>"
        + table(
            ("group", "run", "seed", "fold", "steps", "minutes"),
            [[group.label, *_run_row(run)] for group in comparison.groups for run in group.runs],
            digits=(0, 0, 0, 0, 0, 1),
        ),
    ]
    return web_page("medseg comparison", "\n".join(parts))


def _run_row(run: RunRecord) -> list[Cell]:
    return [run.name, str(run.params.get("seed")), str(run.params.get("fold")), run.steps, run.seconds / 60]


def _records(difference: Difference, measure: str) -> list[dict[str, Any]]:
    rows = []
    for name, found in ((measure, difference.primary), *difference.others.items()):
        low, high = found.interval_95
        tested = name == measure
        rows.append(
            {
                "a": difference.a,
                "b": difference.b,
                "class": difference.class_name,
                "measure": name,
                "difference": found.mean,
                "low_95": low,
                "high_95": high,
                "p": found.p if tested else math.nan,
                "p_holm": difference.p_holm if tested else math.nan,
                "cases": found.n,
                "seeds": difference.seeds,
                "detectable": found.detectable,
            }
        )
    return rows


def _case_rows(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for group in comparison.groups:
        for name in group.class_names:
            for case in group.values(name, "dice"):
                found = {m: group.values(name, m).get(case, math.nan) for m in group.measures(name)}
                values = {m: None if math.isnan(value) else value for m, value in found.items()}
                rows.append({"group": group.label, "case": case, "class": name, **values})
    return rows


def _markdown(comparison: Comparison) -> str:
    lines = ["# Comparison", "", basis(comparison), ""]
    lines += [f"- {line}" for line in (*conclusions(comparison), *comparison.remarks)]
    lines += ["", f"| {' | '.join(_GROUP_HEAD)} |", f"|{'---|' * len(_GROUP_HEAD)}"]
    lines += [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in group_rows(comparison)]
    return "\n".join(lines) + "\n"


def _plain(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell).replace("|", "\\|")
