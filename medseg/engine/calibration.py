"""Class results with the calibration error of the probabilities that they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from medseg.inference.reduce import PROBABILITY_STEP
from medseg.metrics.calibration import calibration_error
from medseg.metrics.report import ClassResult
from medseg.plan import Plan

__all__ = ["probability_buffer", "with_calibration"]

_MOST_NUMBERS = 2**28  # half a gigabyte of 16-bit probabilities; larger volumes go without


def probability_buffer(plan: Plan, shape: Sequence[int]) -> np.ndarray | None:
    """Room for the probabilities of all outputs on a grid of `shape`; None where that is more than half a gigabyte."""
    wanted = (plan.outputs, *shape)
    return np.empty(wanted, np.uint16) if math.prod(wanted) <= _MOST_NUMBERS else None


def with_calibration(
    results: Sequence[ClassResult],
    plan: Plan,
    probabilities: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray,
    keep: np.ndarray | None = None,
) -> list[ClassResult]:
    """Adds `ece` to each result: over the box around the class in prediction and reference, NaN where it is in neither.

    Args:
        results: of classes or regions of the plan, by name.
        plan: says which output is whose.
        probabilities: (X, Y, Z, K) in steps of `PROBABILITY_STEP`.
        labels: label values (X, Y, Z) predicted.
        reference: likewise.
        keep: where voxels count; None is everywhere.
    """
    members = {region.name: (i, region.values) for i, region in enumerate(plan.regions)} or {
        plan.classes[value]: (i, (value,)) for i, value in enumerate(plan.label_values)
    }
    found = []
    for result in results:
        output, values = members[result.class_name]
        truth, predicted = np.isin(reference, values), np.isin(labels, values)
        boxes = ndimage.find_objects((truth | predicted).astype(np.uint8))
        error = math.nan
        if boxes:
            inside = boxes[0]
            chosen = np.ones(truth[inside].shape, bool) if keep is None else keep[inside]
            share = probabilities[(*inside, output)][chosen].astype(np.float32) * PROBABILITY_STEP
            error = calibration_error(np.minimum(share, 1.0), truth[inside][chosen])
        found.append(replace(result, more={**result.more, "ece": error}))
    return found
