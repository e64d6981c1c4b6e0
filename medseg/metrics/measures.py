"""The measures by name: what each is called, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.lesions import count_lesions, lesion_f1
from medseg.metrics.overlap import ClassCounts, jaccard, precision, recall, relative_volume_difference
from medseg.metrics.surface import SurfaceDistances, assd, hausdorff, surface_dice

__all__ = ["MEASURES", "TOLERANCE_MM", "Measure", "further_measures", "undefined_measures"]

TOLERANCE_MM = 2.0
"""Of the surface Dice, where nobody says another: two voxels of a usual scan."""


@dataclass(frozen=True)
class Measure:
    """`better`: "higher", "lower", or "zero" where the sign says which way it is off, or None for a count."""

    label: str
    unit: str
    better: Literal["higher", "lower", "zero"] | None
    digits: int

    @property
    def shown(self) -> str:
        """The name with its unit: "HD95 [mm]"."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


MEASURES: dict[str, Measure] = {
    "dice": Measure("Dice", "", "higher", 3),
    "hd95_mm": Measure("HD95", "mm", "lower", 2),
    "jaccard": Measure("Jaccard", "", "higher", 3),
    "precision": Measure("precision", "", "higher", 3),
    "recall": Measure("recall", "", "higher", 3),
    "volume_difference_ml": Measure("volume diff.", "mL", "zero", 2),
    "volume_difference_relative": Measure("volume diff.", "share", "zero", 3),
    "hd_mm": Measure("HD", "mm", "lower", 2),
    "assd_mm": Measure("ASSD", "mm", "lower", 2),
    "surface_dice": Measure("surface Dice", "", "higher", 3),
    "lesion_f1": Measure("lesion F1", "", "higher", 3),
    "lesions_found": Measure("lesions found", "", None, 0),
    "lesions_missed": Measure("lesions missed", "", None, 0),
    "lesions_false": Measure("false lesions", "", None, 0),
    "ece": Measure("calibration error", "", "lower", 3),
}


def further_measures(
    counts: ClassCounts,
    voxel_ml: float,
    distances: SurfaceDistances,
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    tolerance_mm: float,
) -> dict[str, float]:
    """What is said of one class of one case beside Dice and HD95, by name; the calibration error needs probabilities
    and is not among them.

    Args:
        counts: of the class.
        voxel_ml: a voxel's volume.
        distances: between the two surfaces.
        prediction: the class's mask (X, Y, Z), or a crop that holds all of both masks.
        reference: of the same shape.
        tolerance_mm: of the surface Dice.
    """
    lesions = count_lesions(prediction, reference)
    return {
        "jaccard": jaccard(counts),
        "precision": precision(counts),
        "recall": recall(counts),
        "volume_difference_ml": (counts.prediction - counts.reference) * voxel_ml,
        "volume_difference_relative": relative_volume_difference(counts),
        "hd_mm": hausdorff(distances),
        "assd_mm": assd(distances),
        "surface_dice": surface_dice(distances, tolerance_mm),
        "lesion_f1": lesion_f1(lesions),
        "lesions_found": float(lesions.found),
        "lesions_missed": float(lesions.missed),
        "lesions_false": float(lesions.false),
    }


def undefined_measures() -> dict[str, float]:
    """`further_measures` of a class that is in neither of the two: NaN, and counts and a volume difference of 0."""
    nothing = np.zeros((0, 0, 0), bool)
    return further_measures(ClassCounts(0, 0, 0), 1.0, SurfaceDistances(np.empty(0), np.empty(0)), nothing, nothing, 0)
