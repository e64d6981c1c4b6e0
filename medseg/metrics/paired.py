"""Two ways of doing judged on the same cases: the difference, and whether so many cases can show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from medseg.metrics.bootstrap import mean_interval

__all__ = ["PairedDifference", "holm", "paired_difference", "smallest_sample"]

_POWER = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)  # two-sided at 5 %, found in four of five tries
_MOST_EXACT = 50  # cases


@dataclass(frozen=True)
class PairedDifference:
    """One measure of a minus that of b over the `n` cases where both are defined.

    Attributes:
        mean: of the differences, NaN without a case.
        interval_95: its bootstrap interval.
        p: two-sided, of Wilcoxon's signed-rank test (1945); NaN without a case, 1 where all differences are 0.
        ranks: which way that test points: the sum of the ranks of positive differences minus that of negative ones. A
            mean that few cases make may point the other way.
        n: cases.
        detectable: the mean difference that so many cases with this spread would show in four of five tries (normal
            approximation); NaN below two cases.
    """

    mean: float
    interval_95: tuple[float, float]
    p: float
    ranks: float
    n: int
    detectable: float


def paired_difference(a: Mapping[str, float], b: Mapping[str, float]) -> PairedDifference:
    """Compares two measurements by case name; cases that only one has, or where one is NaN, are left out."""
    cases = sorted(case for case in a.keys() & b.keys() if not (math.isnan(a[case]) or math.isnan(b[case])))
    differences = np.array([a[case] - b[case] for case in cases], np.float64)
    if not cases:
        return PairedDifference(math.nan, (math.nan, math.nan), math.nan, 0.0, 0, math.nan)
    p, ranks = _signed_rank(differences)
    spread = float(differences.std(ddof=1)) if len(cases) > 1 else math.nan
    return PairedDifference(
        mean=float(differences.mean()),
        interval_95=mean_interval(differences.tolist()),
        p=p,
        ranks=ranks,
        n=len(cases),
        detectable=_POWER * spread / math.sqrt(len(cases)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): p-values that hold for the whole family; NaN are left out and stay."""
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def smallest_sample(tests: int = 1) -> int:
    """The smallest number of cases with which the signed-rank test can reach 0.05 in a family of `tests`: its smallest
    two-sided p-value is 2 / 2**n."""
    return math.ceil(1 + math.log2(tests / 0.05))


def _signed_rank(differences: np.ndarray) -> tuple[float, float]:
    """p and the difference of the rank sums. Exact up to 50 cases, also with ties, for which SciPy would go through all
    2**n signs one by one."""
    from scipy.stats import rankdata, wilcoxon  # takes half a second to import, and training compares nothing

    if not differences.any():
        return 1.0, 0.0
    # zeros are ranked and then dropped (Pratt 1959): leaving them out first would overstate what is left
    ranked = rankdata(np.abs(differences))
    ranks = float((ranked * np.sign(differences)).sum())
    if len(differences) > _MOST_EXACT:
        return float(wilcoxon(differences, zero_method="pratt", method="approx").pvalue), ranks
    doubled = np.rint(2 * ranked).astype(int)  # ties have halves
    doubled, positive = doubled[differences != 0], differences[differences != 0] > 0
    share = np.zeros(doubled.sum() + 1)  # of the sign assignments that give each sum of positive ranks
    share[0] = 1.0
    for rank in doubled:
        share[rank:] = (share[rank:] + share[:-rank]) / 2
        share[:rank] /= 2
    found = int(doubled[positive].sum())
    return min(1.0, 2 * float(min(share[: found + 1].sum(), share[found:].sum()))), ranks
