"""Which post-processing helps, class by class, judged on validation cases; only a gain that is real is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.postprocess import cleaned_mask
from medseg.metrics.bootstrap import mean_interval
from medseg.plan import Cleaning

__all__ = ["CANDIDATES", "FEWEST_CASES", "Judged", "choose", "dice_of_candidates"]

CANDIDATES = (
    Cleaning(fill_holes=True),
    *(Cleaning(minimum_ml=ml) for ml in (0.05, 0.2, 1.0, 5.0)),
    *(Cleaning(minimum_ml=ml, fill_holes=True) for ml in (0.2, 1.0)),
    Cleaning(largest=True),
    Cleaning(largest=True, fill_holes=True),
)
"""What is tried for each class."""

FEWEST_CASES = 5
"""With fewer cases in which a class is defined, no interval means anything and nothing is chosen."""


@dataclass(frozen=True)
class Judged:
    """What one candidate does to one class: the mean gain in Dice over `n` cases and its interval."""

    rule: Cleaning
    gain: float
    low: float
    high: float
    n: int


def dice_of_candidates(
    labels: NDArray[Any], reference: NDArray[Any], value: int, spacing: Sequence[float]
) -> list[float]:
    """Dice of a class in one case, without cleaning and then with each of `CANDIDATES`.

    All are NaN where neither prediction nor reference has the class. Where only the prediction has it, its Dice is 0,
    and that of a candidate which leaves nothing of it 1: there was nothing to find, and nothing is found any more.
    """
    mask, wanted = labels == value, reference == value
    cleaned = [mask, *(cleaned_mask(mask, rule, spacing) if mask.any() else mask for rule in CANDIDATES)]
    # as in `clean`: holes are filled where background was, not over another class
    free = mask | (labels == 0)
    scores = [_dice(found & free, wanted) for found in cleaned]
    return scores if math.isnan(scores[0]) else [1.0 if math.isnan(dice) else dice for dice in scores]


def choose(scores: Mapping[int, Iterable[Sequence[float]]]) -> dict[int, tuple[Judged | None, list[Judged]]]:
    """The candidate of each class that gains most among those whose gain is real, None where none is.

    A gain is real where the bootstrap interval over cases lies above 0. The interval is that of 95 % over all
    candidates together (Bonferroni): with nine of them one would otherwise look good by chance.

    Args:
        scores: by label value, what `dice_of_candidates` gave for each case.
    """
    found: dict[int, tuple[Judged | None, list[Judged]]] = {}
    for value, rows in scores.items():
        table = np.array([row for row in rows if math.isfinite(row[0])], float).reshape(-1, 1 + len(CANDIDATES))
        judged: list[Judged] = []
        if len(table) >= FEWEST_CASES:
            gains = table[:, 1:] - table[:, :1]
            for rule, gain in zip(CANDIDATES, gains.T, strict=True):
                low, high = mean_interval(gain.tolist(), 1 - 0.05 / len(CANDIDATES))
                judged.append(Judged(rule, float(gain.mean()), low, high, len(gain)))
        real = [one for one in judged if one.low > 0]
        found[value] = (max(real, key=lambda one: one.gain) if real else None), judged
    return found


def _dice(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / total if total else math.nan
