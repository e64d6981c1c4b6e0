"""Figures of a comparison, one function a figure; each gives None where there is nothing to draw."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.metrics.measures import MEASURES
from medseg.report.comparison import Comparison
from medseg.report.grouping import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "box_plots", "label_efficiency", "learning_curves", "paired_differences", "pseudo_label_quality"]

_POINTS = 200  # on a curve


def learning_curves(comparison: Comparison) -> Figure | None:
    """Validation Dice over the minutes of training: the mean of each group's runs, the band from lowest to highest."""
    return _curves(comparison.groups, "validation/dice", "validation", "validation Dice")


def pseudo_label_quality(comparison: Comparison) -> Figure | None:
    """The Dice of the pseudo-labels kept on validation cases over the minutes of training; None without any."""
    key = "validation/pseudo_label_dice"
    if not any(key in row for group in comparison.groups for run in group.runs for row in run.history):
        return None
    return _curves(comparison.groups, key, "validation", "Dice of the pseudo-labels kept")


def box_plots(comparison: Comparison) -> Figure:
    """The cases of each group and class as points over a box."""
    classes = list(dict.fromkeys(name for group in comparison.groups for name in group.class_names))
    figure, axes = _row(len(classes), _height(comparison.groups), share_y=True)
    for axis, class_name in zip(axes, classes, strict=True):
        values = [_defined(group.values(class_name, comparison.measure)) for group in comparison.groups]
        axis.boxplot(values, orientation="horizontal", widths=0.6, showfliers=False, medianprops={"color": "black"})
        for place, (of_group, colour) in enumerate(zip(values, _colours(len(values)), strict=True), start=1):
            spread = np.linspace(-0.2, 0.2, len(of_group)) if len(of_group) > 1 else np.zeros(len(of_group))
            axis.scatter(of_group, place + spread, s=10, color=colour, alpha=0.7, zorder=3)
        axis.set_title(class_name, parse_math=False)
        axis.set_yticks(range(1, len(values) + 1), [group.label for group in comparison.groups], parse_math=False)
        axis.set_xlabel(MEASURES[comparison.measure].shown)
    axes[0].invert_yaxis()  # which they share
    return figure


def paired_differences(comparison: Comparison) -> Figure:
    """The mean difference of each pair and class with its 95 % interval; filled where the test, corrected, finds it."""
    rows = comparison.differences
    figure, (axis,) = _row(1, 0.4 * len(rows) + 1.2)
    for place, row in enumerate(rows):
        found = row.primary
        if found.n == 0:
            continue
        low, high = found.interval_95 if not math.isnan(found.interval_95[0]) else (found.mean, found.mean)
        shown = row.p_holm <= 0.05
        axis.plot([low, high], [place, place], color="C0", linewidth=2)
        axis.plot([found.mean], [place], "o", color="C0", markerfacecolor="C0" if shown else "white")
    axis.axvline(0, color="0.5", linewidth=1)
    names = [f"{row.a} - {row.b}: {row.class_name}" for row in rows]
    axis.set_yticks(range(len(rows)), names, parse_math=False)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(f"difference in {MEASURES[comparison.measure].shown} (filled: p ≤ 0.05 after Holm)")
    return figure


def label_efficiency(comparison: Comparison) -> Figure | None:
    """The measure against the number of labels, a line a method and a dot a run; what has all labels is a horizontal
    line. None below two budgets."""
    by_method: dict[str, dict[str, Group]] = defaultdict(dict)
    for group in comparison.groups:
        method = ", ".join(part for part in group.parts if part != group.labels) or "method"
        by_method[method][group.labels] = group
    if len({labels for of_method in by_method.values() for labels in of_method}) < 2:
        return None
    figure, (axis,) = _row(1, 4.0)
    for (method, groups), colour in zip(by_method.items(), _colours(len(by_method)), strict=True):
        points = sorted((int(labels.split()[0]), g) for labels, g in groups.items() if labels.split()[0].isdigit())
        if points:
            counts, means = [n for n, _ in points], [g.mean(comparison.measure) for _, g in points]
            axis.plot(counts, means, "o-", color=colour, label=method)
            for count, group in points:
                runs = [replace(group, runs=(run,)).mean(comparison.measure) for run in group.runs]
                axis.scatter([count] * len(runs), runs, s=14, color=colour, alpha=0.4, linewidths=0)
        if "all labels" in groups:
            level = groups["all labels"].mean(comparison.measure)
            axis.axhline(level, color=colour, linestyle="--", label=f"{method}, all labels")
    axis.set_xlabel("labelled training cases")
    axis.set_xticks(sorted({int(g.labels.split()[0]) for g in comparison.groups if g.labels[0].isdigit()}))
    axis.set_ylabel(MEASURES[comparison.measure].shown)
    _legend(axis)
    return figure


FIGURES: Mapping[str, Callable[[Comparison], Any]] = {
    "learning_curves": learning_curves,
    "cases": box_plots,
    "differences": paired_differences,
    "label_efficiency": label_efficiency,
    "pseudo_labels": pseudo_label_quality,
}


def _curves(groups: Sequence[Group], key: str, kind: str, label: str) -> Figure | None:
    figure, (axis,) = _row(1, 4.0)
    drawn = False
    for group, colour in zip(groups, _colours(len(groups)), strict=True):
        curves = [_curve(run.history, key, kind) for run in group.runs]
        curves = [(x, y) for x, y in curves if len(x)]
        if not curves:
            continue
        drawn = True
        begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
        if len(curves) == 1 or begin >= end:
            x, values = curves[0][0], np.array([curves[0][1]])
        else:
            x = np.linspace(begin, end, _POINTS)
            values = np.array([np.interp(x, at, of) for at, of in curves])
        axis.plot(x, values.mean(axis=0), color=colour, label=group.label)
        axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    if not drawn:
        return None
    axis.set_xlabel("minutes of training")
    axis.set_ylabel(label)
    _legend(axis)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], key: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in history if row.get("kind") == kind and row.get(key) is not None]
    x = np.array([float(row.get("seconds", 0)) / 60 for row in rows])
    return x, np.array([float(row[key]) for row in rows])


def _row(columns: int, height: float, share_y: bool = False) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure and wants a display

    figure = Figure(figsize=(min(4.0 + 4.0 * columns, 16.0), max(height, 2.0)), layout="constrained", facecolor="white")
    axes = figure.subplots(1, columns, sharey=share_y, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def _height(groups: Sequence[Group]) -> float:
    return 0.5 * len(groups) + 1.2


def _colours(number: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10" if number <= 10 else "tab20"](i % 20) for i in range(number)]


def _defined(values: Mapping[str, float]) -> list[float]:
    return [value for value in values.values() if not math.isnan(value)]


def _legend(axis: Axes) -> None:
    legend = axis.legend(frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name is not TeX
