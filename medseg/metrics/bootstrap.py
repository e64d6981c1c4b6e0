"""How far a mean over cases may be off: intervals by resampling the cases."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

__all__ = ["mean_interval"]


def mean_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of the mean of `values`, bias-corrected and accelerated (BCa; Efron 1987), by SciPy.

    Args:
        values: one a case, all finite.
        level: of confidence, in (0, 1).
        resamples: drawn.
        seed: of the draw: equal values give an equal interval.

    Returns:
        Its two ends; NaN below two values, where a spread is unknown. Equal values give that value twice.
    """
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError("an interval needs finite values: leave undefined cases out")
    if array.size < 2:
        return math.nan, math.nan
    if np.ptp(array) == 0:
        return float(array[0]), float(array[0])
    low, high = _interval(array, level, resamples, seed, "BCa")
    if not (math.isfinite(low) and math.isfinite(high)):  # two or three values may leave the correction undefined
        low, high = _interval(array, level, resamples, seed, "percentile")
    return low, high


def _interval(array: np.ndarray, level: float, resamples: int, seed: int, method: str) -> tuple[float, float]:
    from scipy.stats import bootstrap  # takes half a second to import, and training asks for no interval

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate values, which the caller sees as NaN
        found = bootstrap(
            (array,),
            np.mean,
            confidence_level=level,
            n_resamples=resamples,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(found.low), float(found.high)
