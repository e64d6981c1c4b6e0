"""The report of a run: one web page that opens anywhere."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.case import Case
from medseg.data.description import IGNORE_NAME
from medseg.data.runfile import RUN_FILE, RunFile, read_run_file
from medseg.errors import InputError
from medseg.metrics.measures import MEASURES
from medseg.metrics.report import ClassResult, Summary, summarise
from medseg.report.case_view import COLOURS, case_view
from medseg.report.page import Cell, escape, picture, table, web_page
from medseg.report.runs import RunRecord, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["run_report"]

_CURVES = (("loss", "train", "loss"), ("validation/dice", "validation", "validation Dice"))


def run_report(folder: str | os.PathLike[str], worst: int = 4, best: int = 2) -> str:
    """The page of a finished run: summary, curves, cases, a slice viewer of the worst and best ones, configuration.

    Args:
        folder: of the run.
        worst: how many cases with the lowest mean Dice the viewer shows.
        best: and how many with the highest.

    Raises:
        InputError: no finished run, or a file of a case is missing.
    """
    folder = Path(folder)
    run = read_run(folder, checkpoint="best")
    run_file = read_run_file(folder) if (folder / RUN_FILE).exists() else None
    summary = summarise(run.results, intervals=True)
    views, why = _views(folder, run, run_file, worst, best)
    sections = [
        ("summary", "Summary", _summary(folder, run, summary)),
        ("curves", "Curves", picture(_curves(run), "Loss and validation Dice during training")),
        ("cases", "Cases", _cases(run, [view["name"] for view in views])),
        ("viewer-section", "Viewer", _viewer(views, run_file) if views else f"<p>{escape(why)}</p>"),
        ("configuration", "Configuration", _files(folder, ("config.yaml", "plan.yaml"))),
        ("provenance", "Provenance", _provenance(run)),
    ]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{content}</section>' for key, title, content in sections)
    title = f"{run.name}: {run.method}, {run.loss}, {_trained_on(run)}"
    head = f"<h1>{escape(title)}</h1><nav aria-label=Sections>{links}</nav>"
    scripts = ("sort.js", "viewer.js") if views else ("sort.js",)
    return web_page(f"medseg report: {run.name}", head + body, scripts, json.dumps(views) if views else "")


def _trained_on(run: RunRecord) -> str:
    """ "5 labelled and 20 unlabelled cases", or what the budget was where an older run does not say."""
    known = run.params.get("cases", {})
    counts = [f"{known[kind]} {kind}" for kind in ("labelled", "unlabelled") if known.get(kind)]
    return f"{' and '.join(counts)} cases" if counts else run.labels


def _summary(folder: Path, run: RunRecord, summary: Summary) -> str:
    model = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("model", {})
    which = f"the {model.get('network', 'student')} of step {model.get('step', '?')}"
    said = (
        f"{run.steps} steps in {run.seconds / 60:.1f} minutes. The model is {which}, chosen by the {summary.n_cases} "
        "validation cases below: on new cases expect less."
    )
    rows: list[list[Cell]] = []
    for of_class in summary.classes:
        for name, found in of_class.measures.items():
            low, high = found.interval_95 or (math.nan, math.nan)
            label = MEASURES[name].shown if name in MEASURES else name
            counts: list[Cell] = [found.n, found.n_undefined, of_class.n_missed]
            rows.append([of_class.class_name, label, found.mean, found.sd, found.median, low, high, *counts])
    head = ("class", "measure", "mean", "sd", "median", "low 95 %", "high 95 %", "n", "undefined", "missed")
    overall = f"<p><b>Mean Dice {summary.dice.mean:.3f}, HD95 {summary.hd95_mm.mean:.2f} mm</b> over the classes.</p>"
    main = [row for row in rows if row[1] in (MEASURES["dice"].shown, MEASURES["hd95_mm"].shown)]
    more = f"<details><summary>All measures</summary>{table(head, rows)}</details>" if len(rows) > len(main) else ""
    return f"<p>{escape(said)}</p>{overall}{table(head, main)}{more}"


def _curves(run: RunRecord) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained", facecolor="white")
    for axis, (key, kind, label) in zip(figure.subplots(1, 2), _CURVES, strict=True):
        rows = [row for row in run.history if row.get("kind") == kind and row.get(key) is not None]
        axis.plot([row["step"] for row in rows], [row[key] for row in rows], "o-" if kind == "validation" else "-")
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure


def _cases(run: RunRecord, viewed: Sequence[str]) -> str:
    rows: list[list[Cell]] = []
    names = [name for name in MEASURES if any(name in r.measures for of in run.results.values() for r in of)]
    for case, results in run.results.items():
        for result in results:
            values: list[Cell] = [result.measures.get(name) for name in names]
            missed = "missed" if result.missed else ""
            seen = "in the viewer" if case in viewed else ""
            rows.append([case, result.class_name, *values, result.reference_ml, result.prediction_ml, missed, seen])
    head = ("case", "class", *(MEASURES[name].shown for name in names), "ref. mL", "pred. mL", "missed", "shown")
    return table(head, rows, digits=(0, 0, *(MEASURES[name].digits for name in names), 2, 2))


def _views(
    folder: Path, run: RunRecord, run_file: RunFile | None, worst: int, best: int
) -> tuple[list[dict[str, Any]], str]:
    """The cases of the viewer, worst first, or why there are none."""
    if run_file is None:
        return (
            [],
            f"No {RUN_FILE} in the run's folder: it is of an older version, which does not say where its cases lie.",
        )
    known = {case.name: case for case in run_file.cases["validation"]}
    dice = {case: _mean_dice(results) for case, results in run.results.items() if case in known}
    # a case in which all is undefined is neither good nor bad
    ordered = sorted((case for case in dice if not math.isnan(dice[case])), key=dice.__getitem__)
    chosen = ordered if len(ordered) <= worst + best else [*ordered[:worst], *ordered[len(ordered) - best :]]
    views = [_view(folder, known[name], run.results[name], run_file.classes) for name in chosen]
    return views, "No case to show."


def _view(folder: Path, case: Case, results: Sequence[ClassResult], classes: Mapping[int, str]) -> dict[str, Any]:
    prediction = folder / "predictions" / f"{case.name}.nii.gz"
    for path in (prediction, *case.images, case.label):
        if path is None or not path.exists():
            raise InputError(f"{path}: no such file, which the viewer of case {case.name} needs; pass --no-viewer")
    said = ", ".join(
        f"{r.class_name} {'missed' if r.missed else 'undefined' if math.isnan(r.dice) else f'Dice {r.dice:.3f}'}"
        for r in results
    )
    return case_view(case, prediction, classes, said)


def _mean_dice(results: Sequence[ClassResult]) -> float:
    defined = [r.dice for r in results if not math.isnan(r.dice)]
    return statistics.fmean(defined) if defined else math.nan


def _viewer(views: Sequence[Mapping[str, Any]], run_file: RunFile | None) -> str:
    buttons = "".join(
        f'<button type=button data-case="{i}" aria-pressed=false>{escape(view["name"])}</button>'
        for i, view in enumerate(views)
    )
    names = [n for v, n in sorted(run_file.classes.items()) if v and n != IGNORE_NAME] if run_file else []
    legend = "".join(
        f'<span class=key><i style="background:rgb{COLOURS[i % len(COLOURS)]}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    planes = "".join(
        f'<div class=plane><canvas id="plane-{name}" tabindex=0 role=img aria-label="{name} plane; arrow keys scroll">'
        f'</canvas><label><span id="where-{name}">{name}</span>'
        f'<input type=range id="slice-{name}" min=0 max=1 value=0 aria-label="{name} slice"></label></div>'
        for name in ("axial", "coronal", "sagittal")
    )
    return f"""<div id=viewer>
<div class=choices role=group aria-label="Cases, worst first">{buttons}</div>
<p id=case-name aria-live=polite></p>
<div class=controls>
<label><input type=checkbox id=show-prediction checked> prediction, coloured (p)</label>
<label><input type=checkbox id=show-reference checked> reference, white outline (r)</label>
<label>opacity <input type=range id=opacity min=0 max=100 value=35></label>
{legend}
</div>
<div class=planes>{planes}</div>
<p class=soft>Wheel or arrow keys on a plane scroll; a click moves the other planes there; n and b change the case. The
patient's right is on the left. Cropped to the labels; large cases are thinned out.</p>
</div>"""


def _files(folder: Path, names: Sequence[str]) -> str:
    return "".join(
        f"<details><summary>{name}</summary><pre tabindex=0>{escape((folder / name).read_text(encoding='utf-8'))}</pre>"
        "</details>"
        for name in names
        if (folder / name).exists()
    )


def _provenance(run: RunRecord) -> str:
    flat: dict[str, Any] = {}
    for key, value in run.params.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return table(("what", "value"), [[key, str(value)] for key, value in sorted(flat.items())])
