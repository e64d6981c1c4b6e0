"""Cases judged class by class, and what a set of cases says together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.metrics.overlap import Labels, class_counts, dice
from medseg.metrics.surface import diagonal_mm, hd95, surface_distances

__all__ = [
    "ClassResult",
    "ClassSummary",
    "MeanOverClasses",
    "Statistics",
    "Summary",
    "as_json",
    "judge",
    "summarise",
    "undefined_result",
]


@dataclass(frozen=True)
class ClassResult:
    """One class of one case: NaN is undefined (both empty), `missed` is one of the two empty but not both."""

    class_name: str
    dice: float
    hd95_mm: float
    reference_ml: float
    prediction_ml: float
    missed: bool


@dataclass(frozen=True)
class Statistics:
    """One measure over the `n` cases where it is defined; `n_undefined` cases are left out.

    `sd` is the sample's (n - 1), NaN below two cases; `mean` and `median` are NaN without a case.
    """

    mean: float
    sd: float
    median: float
    n: int
    n_undefined: int


@dataclass(frozen=True)
class ClassSummary:
    """One class over all cases, `n_missed` of which had it in the reference or the prediction only."""

    class_name: str
    dice: Statistics
    hd95_mm: Statistics
    n_missed: int


@dataclass(frozen=True)
class MeanOverClasses:
    """The mean of the classes' means, NaN ones left out: `n_classes` had one, resting on `n_cases` cases."""

    mean: float
    n_classes: int
    n_cases: int


@dataclass(frozen=True)
class Summary:
    """What `n_cases` cases say together, per class and over the classes."""

    classes: tuple[ClassSummary, ...]
    dice: MeanOverClasses
    hd95_mm: MeanOverClasses
    n_cases: int
    n_missed: int


def judge(
    prediction: Labels,
    reference: Labels,
    spacing: Sequence[float],
    classes: Mapping[int, str],
) -> list[ClassResult]:
    """Judges one case: index labels against index labels on the same grid.

    Args:
        prediction: index labels (X, Y, Z) of an integer type.
        reference: the same shape.
        spacing: mm along X, Y, Z.
        classes: label value -> class name, without the background. Other label values are not judged.

    Returns:
        A result per class in the order of `classes`. Both empty: Dice and HD95 are NaN. One empty: Dice 0,
        HD95 the image's diagonal, `missed`.

    Raises:
        ValueError: shapes differ, labels are not integers, a class value is below 1, a spacing is not
            positive.
    """
    if any(label < 1 for label in classes):
        raise ValueError(f"classes to judge have label values >= 1, found {sorted(classes)}")
    counts = class_counts(prediction, reference, classes)
    diagonal = diagonal_mm(reference.shape, spacing)
    voxel_ml = math.prod(spacing) / 1000
    boxes = _class_boxes(prediction, reference, max(classes, default=0))
    results = []
    for label, name in classes.items():
        box, found = boxes[label - 1], counts[label]
        distance = math.nan
        if box is not None:
            distance = hd95(
                surface_distances(
                    prediction[box] == label, reference[box] == label, spacing, image_diagonal_mm=diagonal
                )
            )
        results.append(
            ClassResult(
                class_name=name,
                dice=dice(found),
                hd95_mm=distance,
                reference_ml=found.reference * voxel_ml,
                prediction_ml=found.prediction * voxel_ml,
                missed=found.missed,
            )
        )
    return results


def undefined_result(class_name: str) -> ClassResult:
    """What `judge` gives for a class that has no voxel in either of the two."""
    return ClassResult(class_name, math.nan, math.nan, 0.0, 0.0, missed=False)


def summarise(results: Mapping[str, Sequence[ClassResult]]) -> Summary:
    """Sums up cases (case name -> the results of `judge`), classes in the order in which they first appear.

    Undefined values are left out and counted; a miss counts with the values that `judge` gave it.
    """
    per_class: dict[str, list[ClassResult]] = {}
    for case in results.values():
        for result in case:
            per_class.setdefault(result.class_name, []).append(result)
    classes = tuple(
        ClassSummary(
            class_name=name,
            dice=_statistics([result.dice for result in of_class]),
            hd95_mm=_statistics([result.hd95_mm for result in of_class]),
            n_missed=sum(result.missed for result in of_class),
        )
        for name, of_class in per_class.items()
    )
    return Summary(
        classes=classes,
        dice=_over_classes([c.dice for c in classes], [[r.dice for r in case] for case in results.values()]),
        hd95_mm=_over_classes([c.hd95_mm for c in classes], [[r.hd95_mm for r in case] for case in results.values()]),
        n_cases=len(results),
        n_missed=sum(c.n_missed for c in classes),
    )


def as_json(value: Any) -> Any:
    """A record of this module, or lists and mappings of them, as plain values for JSON: NaN becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _class_boxes(prediction: Labels, reference: Labels, last: int) -> list[tuple[slice, ...] | None]:
    """For each label 1..last the box around its voxels in either array, or None: one pass for all classes."""
    if last < 1:
        return []
    boxes = [ndimage.find_objects(_as_integers(array), max_label=last) for array in (prediction, reference)]
    return [
        tuple(slice(min(p.start, r.start), max(p.stop, r.stop)) for p, r in zip(in_p, in_r, strict=True))
        if in_p and in_r
        else (in_p or in_r)
        for in_p, in_r in zip(*boxes, strict=True)
    ]


def _as_integers(labels: Labels) -> Labels:
    return labels.view(np.uint8) if labels.dtype == np.bool_ else labels


def _statistics(values: Sequence[float]) -> Statistics:
    defined = [value for value in values if not math.isnan(value)]
    return Statistics(
        mean=statistics.fmean(defined) if defined else math.nan,
        sd=statistics.stdev(defined) if len(defined) > 1 else math.nan,
        median=statistics.median(defined) if defined else math.nan,
        n=len(defined),
        n_undefined=len(values) - len(defined),
    )


def _over_classes(classes: Sequence[Statistics], cases: Sequence[Sequence[float]]) -> MeanOverClasses:
    means = [of_class.mean for of_class in classes if of_class.n]
    return MeanOverClasses(
        mean=statistics.fmean(means) if means else math.nan,
        n_classes=len(means),
        n_cases=sum(any(not math.isnan(value) for value in case) for case in cases),
    )
