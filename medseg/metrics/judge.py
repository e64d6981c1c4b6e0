"""One case judged class by class: label map against label map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.metrics.measures import further_measures, undefined_measures
from medseg.metrics.overlap import Labels, class_counts, dice
from medseg.metrics.report import ClassResult
from medseg.metrics.surface import SurfaceDistances, diagonal_mm, hd95, surface_distances

__all__ = ["judge"]


def judge(
    prediction: Labels,
    reference: Labels,
    spacing: Sequence[float],
    classes: Mapping[int, str],
    tolerance_mm: float | None = None,
) -> list[ClassResult]:
    """Judges one case: index labels against index labels on the same grid.

    Args:
        prediction: index labels (X, Y, Z) of an integer type.
        reference: the same shape.
        spacing: mm along X, Y, Z.
        classes: label value -> class name, without the background. Other label values are not judged.
        tolerance_mm: None finds Dice and HD95 only, for use during training; a number finds all measures, the surface
            Dice at this tolerance.

    Returns:
        A result per class in the order of `classes`. Both empty: measures are NaN. One empty: Dice 0, HD95 the image's
        diagonal, `missed`.

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
        further: dict[str, float] = {}
        if box is None:
            distances = SurfaceDistances(np.empty(0), np.empty(0))
            further = undefined_measures() if tolerance_mm is not None else {}
        else:
            in_prediction, in_reference = prediction[box] == label, reference[box] == label
            distances = surface_distances(in_prediction, in_reference, spacing, image_diagonal_mm=diagonal)
            if tolerance_mm is not None:
                further = further_measures(found, voxel_ml, distances, in_prediction, in_reference, tolerance_mm)
        results.append(
            ClassResult(
                class_name=name,
                dice=dice(found),
                hd95_mm=hd95(distances),
                reference_ml=found.reference * voxel_ml,
                prediction_ml=found.prediction * voxel_ml,
                missed=found.missed,
                more=further,
            )
        )
    return results


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
