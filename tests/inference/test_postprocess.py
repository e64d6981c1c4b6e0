from __future__ import annotations

import numpy as np
import pytest

from medseg.data.geometry import Geometry
from medseg.inference.findings import find_flags
from medseg.inference.postprocess import clean
from medseg.inference.tuning import CANDIDATES, FEWEST_CASES, choose, dice_of_candidates
from medseg.plan import Cleaning, SeenPlan

MM = (1.0, 1.0, 10.0)  # 0.01 mL a voxel


def _two() -> np.ndarray:
    """Class 1: a shell of 26 voxels about a hole, and 3 voxels apart that touch by corners; class 2 beside them."""
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 2] = 0
    for i in range(3):
        labels[8 + i, 8 + i, 8 + i] = 1
    labels[6, 0, 0] = 2
    return labels


@pytest.mark.parametrize(
    ("rule", "voxels"),
    [
        (Cleaning(), 29),
        (Cleaning(largest=True), 26),
        (Cleaning(minimum_ml=0.03), 29),
        (Cleaning(minimum_ml=0.031), 26),
        (Cleaning(minimum_ml=1), 0),
        (Cleaning(fill_holes=True), 30),
        (Cleaning(largest=True, fill_holes=True), 27),
    ],
)
def test_each_rule(rule: Cleaning, voxels: int) -> None:
    labels = _two()
    before = labels.copy()
    cleaned = clean(labels, {1: rule}, MM)
    assert (cleaned == 1).sum() == voxels
    assert (cleaned == 2).sum() == 1  # the others stay
    assert np.array_equal(labels, before)


def test_a_filled_hole_takes_nothing_from_another_class() -> None:
    labels = _two()
    labels[2, 2, 2] = 2
    assert clean(labels, {1: Cleaning(fill_holes=True)}, MM)[2, 2, 2] == 2
    assert not clean(np.zeros((2, 2, 2), np.uint8), {1: Cleaning(largest=True)}, MM).any()


def _scores(noisy: list[bool]) -> list[list[float]]:
    rows = []
    for i, noise in enumerate(noisy):
        reference = np.zeros((14, 14, 14), np.uint8)
        reference[2:6, 2:6, 2:7] = 1
        labels = reference.copy()
        labels[2, 2, 2 : 2 + i % 3] = 0
        if noise:
            labels[10:12, 10:12, 10 : 11 + i % 2] = 1
        rows.append(dice_of_candidates(labels, reference, 1, MM))
    return rows


def test_only_a_real_gain_is_kept() -> None:
    always = choose({1: _scores([True] * 8)})[1][0]
    assert always is not None
    assert always.rule.largest or always.rule.minimum_ml
    assert always.low > 0
    assert choose({1: _scores([False] * 8)})[1][0] is None  # nothing to gain
    assert choose({1: _scores([True] + [False] * 7)})[1][0] is None  # one case is chance
    assert choose({1: _scores([True] * (FEWEST_CASES - 1))})[1] == (None, [])
    assert len(CANDIDATES) == len(set(CANDIDATES))


def test_a_rule_that_harms_is_not_kept() -> None:
    """Two kidneys: the largest component is one of them."""
    reference = np.zeros((14, 14, 14), np.uint8)
    reference[1:5, 2:6, 2:6], reference[9:13, 2:6, 2:6] = 1, 1
    kept, judged = choose({1: [dice_of_candidates(reference, reference, 1, MM)] * 8})[1]
    assert kept is None
    (largest,) = [one for one in judged if one.rule == Cleaning(largest=True)]
    assert largest.high == pytest.approx(2 / 3 - 1)


def test_removing_what_was_never_there_is_a_gain() -> None:
    """The class is in none of the cases, but a speck of it in every prediction."""
    reference = np.zeros((14, 14, 14), np.uint8)
    labels = reference.copy()
    labels[3, 3, 3] = 1
    row = dice_of_candidates(labels, reference, 1, MM)
    assert set(row) == {0.0, 1.0}
    kept, _ = choose({1: [row] * 8})[1]
    assert kept is not None
    assert (kept.rule.minimum_ml, kept.gain) == (0.05, 1)
    assert np.isnan(dice_of_candidates(reference, reference, 1, MM)).all()


def test_flags_say_what_is_unusual(small_plan) -> None:  # type: ignore[no-untyped-def]
    ct = {"name": "CT", "normalisation": "clip_zscore", "lower": -100, "upper": 200, "mean": 50, "std": 50}
    seen = SeenPlan(spacing=((0.7, 0.7, 1.0), (1.0, 1.0, 3.0)), intensities=((-1000, 200),))
    plan = small_plan(classes={0: "b", 1: "liver", 2: "kidneys"}, channels=[ct], seen=seen)
    good = Geometry((12, 12, 12), np.diag([-0.8, 0.8, 2.0, 1]))
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 3:8, 3:8] = 1
    found = find_flags(labels, {1: 0.95}, good, plan, [(-990.0, 180.0)])
    assert found.flags == ()
    assert found.classes["liver"].ml == pytest.approx(125 * 0.64 * 2 / 1000)
    assert found.classes["kidneys"].confidence is None

    labels[:] = 0
    labels[::4, ::4, 3] = 2
    # two axes exchanged: 2 mm lie along R, where training saw at most 1 mm
    turned = Geometry((12, 12, 12), np.array([[0, 0, 2.0, 0], [0.8, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0, 1]]))
    found = find_flags(labels, {2: 0.4}, turned, plan, [(0.0, 4000.0)])
    assert [flag.kind for flag in found.flags] == ["spacing", "intensity", "components", "border", "confidence"]
    assert "2 mm along R" in found.flags[0].text
    nothing = find_flags(np.zeros_like(labels), {}, good, plan, [(-990.0, 180.0)])
    assert [flag.kind for flag in nothing.flags] == ["empty"]


def test_small_voxels_are_something(small_plan) -> None:  # type: ignore[no-untyped-def]
    """Of ten micrometres, as of micro-CT: 27,000 of them are 0.000027 mL."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[5:35, 5:35, 5:35] = 1
    spacing = (0.01, 0.01, 0.01)
    found = find_flags(labels, {1: 0.9}, Geometry((40, 40, 40), np.diag([*spacing, 1])), small_plan())
    assert found.classes["organ"].ml == pytest.approx(2.7e-5)
    assert found.flags == ()
    assert np.array_equal(clean(labels, {1: Cleaning(largest=True)}, spacing), labels)


def test_a_region_is_measured_whole(small_plan) -> None:  # type: ignore[no-untyped-def]
    """A tumour of 5 x 5 x 5 voxels with a core of 27, of which one component is painted as a ring about the other."""
    regions = [
        {"name": "whole tumour", "values": (1, 2), "painted": 1},
        {"name": "core", "values": (2,), "painted": 2},
    ]
    plan = small_plan(classes={0: "b", 1: "oedema", 2: "necrosis"}, regions=regions)
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[3:6, 3:6, 3:6] = 2
    labels[11, 11, 11] = 2
    found = find_flags(labels, {1: 0.5, 2: 0.9}, Geometry((12, 12, 12), np.diag([1, 1, 2.0, 1])), plan)
    whole, core = found.classes["whole tumour"], found.classes["core"]
    assert (whole.ml, core.ml) == (pytest.approx(126 * 2 / 1000), pytest.approx(28 * 2 / 1000))
    assert (whole.value, whole.values, whole.components) == (1, (1, 2), 2)
    assert whole.confidence == pytest.approx((98 * 0.5 + 28 * 0.9) / 126, abs=1e-4)
    assert [flag.text.split(":")[0] for flag in found.flags if flag.kind == "border"] == ["whole tumour", "core"]
