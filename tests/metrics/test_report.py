from __future__ import annotations

import json
import math

import numpy as np
import pytest

from medseg.metrics.judge import judge
from medseg.metrics.overlap import class_counts, dice
from medseg.metrics.report import ClassResult, as_json, summarise, undefined_result
from medseg.metrics.surface import diagonal_mm, hd95, surface_distances

CLASSES = {1: "liver", 2: "tumour", 3: "cyst"}
SPACING = (0.7, 1.0, 3.0)


def _result(name: str, dice: float, hd95_mm: float, missed: bool = False) -> ClassResult:
    return ClassResult(name, dice, hd95_mm, reference_ml=1.0, prediction_ml=2.0, missed=missed)


def test_judge_by_hand() -> None:
    reference, prediction = np.zeros((2, 20, 20, 20), dtype=np.uint8)
    reference[2:12, 2:12, 2:12] = 1
    prediction[4:14, 2:12, 2:12] = 1
    reference[15, 15, 15] = 2
    liver, tumour, cyst = judge(prediction, reference, SPACING, CLASSES)
    assert liver == ClassResult(
        "liver", pytest.approx(0.8), pytest.approx(1.4), pytest.approx(2.1), pytest.approx(2.1), missed=False
    )
    assert tumour == ClassResult(
        "tumour", 0.0, pytest.approx(20 * math.hypot(*SPACING)), pytest.approx(0.0021), 0.0, missed=True
    )
    assert math.isnan(cyst.dice)
    assert math.isnan(cyst.hd95_mm)
    assert (cyst.reference_ml, cyst.prediction_ml, cyst.missed) == (0, 0, False)
    assert repr(cyst) == repr(undefined_result("cyst"))


def test_a_class_only_in_the_prediction_is_missed() -> None:
    reference, prediction = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    prediction[0, 0, 0] = 2
    (result,) = judge(prediction, reference, SPACING, {2: "tumour"})
    assert result.missed
    assert result.dice == 0
    assert result.hd95_mm == pytest.approx(4 * math.hypot(*SPACING))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_judge_equals_the_measures_of_each_mask(dtype: type) -> None:
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 5, (2, 9, 8, 7)).astype(dtype)
    prediction[reference == 2] = 0  # overlaps nowhere
    prediction[prediction == 3] = 0  # missed
    for label, result in zip(CLASSES, judge(prediction, reference, SPACING, CLASSES), strict=True):
        assert result.dice == dice(class_counts(prediction, reference, [label])[label])
        expected = hd95(surface_distances(prediction == label, reference == label, SPACING))
        assert result.hd95_mm == pytest.approx(expected)
    assert judge(prediction, reference, SPACING, {3: "x"})[0].hd95_mm == diagonal_mm((9, 8, 7), SPACING)


def test_judge_takes_masks_and_views() -> None:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[1:3, 2:5, 1:4] = True
    (result,) = judge(mask[::-1].T, mask.T, SPACING, {1: "organ"})
    (same,) = judge(mask[::-1].T.copy(), mask.T.copy().astype(np.int32), SPACING, {1: "organ"})
    assert result == same
    assert judge(mask, mask, SPACING, {}) == []


def test_the_background_is_not_judged() -> None:
    labels = np.zeros((2, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=r">= 1, found \[0, 1\]"):
        judge(labels, labels, SPACING, {0: "background", 1: "organ"})


def test_summarise_leaves_undefined_out_and_counts_it() -> None:
    nan = math.nan
    summary = summarise(
        {
            "a": [_result("liver", 0.9, 2.0), _result("tumour", nan, nan), _result("cyst", nan, nan)],
            "b": [_result("liver", 0.8, 4.0), _result("tumour", 0.0, 50.0, True), _result("cyst", nan, nan)],
            "c": [_result("liver", 0.4, 9.0), _result("tumour", 0.5, 10.0), _result("cyst", nan, nan)],
        }
    )
    liver, tumour, cyst = summary.classes
    assert (liver.dice.mean, liver.dice.median, liver.dice.n) == (pytest.approx(0.7), 0.8, 3)
    assert liver.dice.sd == pytest.approx(np.std([0.9, 0.8, 0.4], ddof=1))
    assert (tumour.dice.mean, tumour.dice.n, tumour.dice.n_undefined) == (0.25, 2, 1)
    assert (tumour.hd95_mm.mean, tumour.n_missed) == (30, 1)
    assert (cyst.dice.n, cyst.dice.n_undefined, cyst.n_missed) == (0, 3, 0)
    assert math.isnan(cyst.dice.mean)
    # the mean of the classes' means, not of all values; the class without a value is left out
    assert summary.dice.mean == pytest.approx((0.7 + 0.25) / 2)
    assert summary.hd95_mm.mean == pytest.approx((5 + 30) / 2)
    assert (summary.dice.n_classes, summary.dice.n_cases) == (2, 3)
    assert (summary.n_cases, summary.n_missed) == (3, 1)


def test_a_case_without_a_defined_class_is_not_among_those_the_mean_rests_on() -> None:
    summary = summarise({"a": [_result("liver", 0.9, 2.0)], "b": [_result("liver", math.nan, math.nan)]})
    assert (summary.dice.n_cases, summary.n_cases) == (1, 2)
    assert math.isnan(summary.classes[0].dice.sd)


def test_summary_of_nothing_is_undefined() -> None:
    summary = summarise({})
    assert math.isnan(summary.dice.mean)
    assert (summary.classes, summary.n_cases) == ((), 0)


def test_json_has_null_where_python_has_nan() -> None:
    results = {"a": [_result("liver", 0.9, 2.0), _result("cyst", math.nan, math.nan)]}
    text = json.dumps({"cases": as_json(results), "summary": as_json(summarise(results))}, allow_nan=False)
    back = json.loads(text)
    assert back["cases"]["a"][1]["dice"] is None
    assert back["cases"]["a"][0] == {
        "class_name": "liver",
        "dice": 0.9,
        "hd95_mm": 2.0,
        "reference_ml": 1.0,
        "prediction_ml": 2.0,
        "missed": False,
    }
    assert back["summary"]["classes"][1]["dice"]["mean"] is None
    assert back["summary"]["dice"] == {"mean": 0.9, "n_classes": 1, "n_cases": 1}
