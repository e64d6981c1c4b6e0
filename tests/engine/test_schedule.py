"""The learning rate: warm-up in steps or as a share of the run, then the decay."""

from __future__ import annotations

from itertools import pairwise

import pytest

from medseg.engine import PolynomialDecay
from medseg.errors import InputError
from medseg.methods import Progress


@pytest.mark.parametrize(("warmup", "steps", "rising"), [(10, 1000, 10), (0.05, 1000, 50), (0, 1000, 0), (1, 100, 1)])
def test_it_rises_for_so_long_and_then_falls(warmup: float, steps: int, rising: int) -> None:
    factors = [PolynomialDecay(0.9, warmup)(Progress(step, steps)) for step in range(steps)]
    assert factors.index(max(factors)) == rising
    assert all(a < b for a, b in pairwise(factors[: rising + 1]))
    assert all(a > b for a, b in pairwise(factors[rising:]))
    assert factors[rising] == pytest.approx((1 - rising / steps) ** 0.9)
    assert 0 < factors[-1] < 0.02 * (1000 / steps)


def test_a_negative_warmup_is_refused() -> None:
    with pytest.raises(InputError, match="warmup is -1"):
        PolynomialDecay(warmup=-1)
