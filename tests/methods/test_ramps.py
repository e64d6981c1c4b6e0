from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.methods import Progress, Ramp
from medseg.methods.ramps import RampShape

SHAPES = get_args(RampShape)
shares = st.floats(0, 1)


def at(ramp: Ramp, share: float, steps: int = 10**6) -> float:
    return ramp(Progress(round(share * steps), steps))


def test_progress() -> None:
    assert Progress(0, 10).share == 0
    assert Progress(5, 10).share == 0.5
    assert Progress(12, 10).share == 1
    assert Progress(0, 0).share == 0


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_shapes_are_their_formulas(t: float) -> None:
    share = 0.2 + 0.4 * t
    expected = {
        "sigmoid": math.exp(-5 * (1 - t) ** 2),
        "linear": t,
        "cosine": 0.5 - 0.5 * math.cos(math.pi * t),
        "constant": 1,
    }
    for shape in SHAPES:
        ramp = Ramp(weight=3, start=0.2, length=0.4, shape=shape)
        assert at(ramp, share) == pytest.approx(3 * expected[shape], abs=1e-5)


@given(st.sampled_from(SHAPES), st.floats(0, 10), shares, shares, shares, shares)
def test_every_ramp_is_0_then_rises_to_its_weight(
    shape: RampShape, weight: float, start: float, length: float, one: float, other: float
) -> None:
    ramp = Ramp(weight, start, length, shape)
    low, high = sorted((one, other))
    assert 0 <= at(ramp, low) <= at(ramp, high) * (1 + 1e-12) <= weight * (1 + 1e-9)
    for share in (low, high):
        if round(share * 10**6) / 10**6 < start:
            assert at(ramp, share) == 0
        if share > start + length + 1e-5:
            assert at(ramp, share) == weight
    if start + length <= 1 - 1e-5:
        assert at(ramp, 1) == weight


def test_a_ramp_depends_on_the_share_of_the_run_alone() -> None:
    ramp = Ramp()
    assert ramp(Progress(20, 100)) == ramp(Progress(200, 1000)) == pytest.approx(math.exp(-1.25))


@given(st.integers(0, 500), st.integers(1, 1000), shares, shares)
def test_a_ramp_begins_neither_before_its_share_nor_before_its_steps(
    not_before: int, steps: int, start: float, length: float
) -> None:
    plain, later = (Ramp(start=start, length=length, not_before=n) for n in (0, not_before))
    first = max(start * steps, not_before)
    for step in range(0, steps, 7):
        found = later(Progress(step, steps))
        assert found <= plain(Progress(step, steps))
        if abs(step - first) > 1e-6:
            assert (found > 0) == (step > first)
    if not_before <= start * steps:
        assert all(later(Progress(step, steps)) == plain(Progress(step, steps)) for step in range(0, steps, 7))


def test_no_length_is_a_switch() -> None:
    for shape in SHAPES:
        ramp = Ramp(weight=2, start=0.5, length=0, shape=shape)
        assert (at(ramp, 0.499), at(ramp, 0.5), at(ramp, 0.9)) == (0, 2, 2)


def test_a_start_at_the_end_is_never_reached_by_a_step() -> None:
    assert all(Ramp(start=1.0)(Progress(step, 10)) == 0 for step in range(10))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shape": "step"}, "shape is one of sigmoid, linear, cosine, constant, found 'step'"),
        ({"start": -0.1}, "start and length are shares of the run and weight is not negative"),
        ({"start": 1.1}, "are shares"),
        ({"length": 400}, "are shares"),
        ({"weight": -1}, "weight is not negative"),
        ({"not_before": -1}, "not_before is a number of steps, found -1"),
        ({"weight": float("nan")}, "weight is not negative"),
    ],
)
def test_what_a_ramp_refuses(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Ramp(**options)  # type: ignore[arg-type]
