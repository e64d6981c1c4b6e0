from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, wilcoxon

from medseg.metrics.paired import holm, paired_difference, smallest_sample


def test_by_hand() -> None:
    a = {"x": 0.9, "y": 0.8, "z": math.nan, "only": 1.0}
    b = {"x": 0.8, "y": 0.5, "z": 0.1}
    found = paired_difference(a, b)
    assert (found.mean, found.n) == (pytest.approx(0.2), 2)
    assert found.interval_95 == pytest.approx((0.1, 0.3))
    assert found.p == pytest.approx(0.5)  # 2 / 2**2: two cases show nothing
    assert found.detectable == pytest.approx(2.8016 * np.std([0.1, 0.3], ddof=1) / math.sqrt(2), rel=1e-3)


def test_nothing_in_common_and_no_difference() -> None:
    nothing = paired_difference({"x": 1.0}, {"y": 1.0})
    assert nothing.n == 0
    assert math.isnan(nothing.p)
    same = paired_difference({"x": 1.0, "y": 0.5}, {"x": 1.0, "y": 0.5})
    assert (same.p, same.mean, same.interval_95) == (1, 0, (0, 0))


@pytest.mark.parametrize(("n", "tests"), [(6, 1), (7, 2), (8, 6)])
def test_the_smallest_sample_just_reaches_the_level(n: int, tests: int) -> None:
    assert smallest_sample(tests) == n
    for cases, reaches in ((n, True), (n - 1, False)):
        p = paired_difference({str(i): 1 + i for i in range(cases)}, dict.fromkeys(map(str, range(cases)), 0.5)).p
        assert p == pytest.approx(2.0 ** (1 - cases))
        assert (tests * p <= 0.05) is reaches


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(0.1, 0.3, 24),
        np.random.default_rng(1).normal(0.1, 0.3, 80),
        np.array([0.1, 0.1, -0.1, 0.2, 0.3, 0.3, 0.4]),
        np.array([0.0, 0.0, 0.1, 0.2, -0.3, 0.4, 0.5]),
    ],
    ids=["exact", "many", "ties", "zeros"],
)
def test_agrees_with_scipy(values: np.ndarray) -> None:
    cases = [str(i) for i in range(len(values))]
    found = paired_difference(dict(zip(cases, values, strict=True)), dict.fromkeys(cases, 0.0))
    assert found.p == pytest.approx(wilcoxon(values, zero_method="pratt").pvalue)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]
    values = [0.001, 0.2, 0.04]
    assert all(a >= b for a, b in zip(holm(values), false_discovery_control(values), strict=True))
