"""The further measures: values derived by hand, and agreement with other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import surface_distance
import torch
from monai.metrics import compute_average_surface_distance, compute_surface_dice

from medseg.metrics.bootstrap import mean_interval
from medseg.metrics.calibration import calibration_error
from medseg.metrics.judge import judge
from medseg.metrics.lesions import LesionCounts, count_lesions, lesion_f1
from medseg.metrics.measures import MEASURES, undefined_measures
from medseg.metrics.report import ClassResult, as_json, read_results, summarise, undefined_result
from medseg.metrics.surface import assd, surface_dice, surface_distances

SPACING = (0.7, 1.0, 3.0)


def _blank(*shape: int) -> np.ndarray:
    return np.zeros(shape or (20, 20, 20), np.uint8)


def _judge(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...] = SPACING) -> ClassResult:
    return judge(prediction, reference, spacing, {1: "organ"}, tolerance_mm=1.0)[0]


def test_shifted_boxes_by_hand() -> None:
    """Boxes of 10x10x10 voxels of 0.7x1x3 mm, one shifted by two voxels (1.4 mm) along X: they share 8x10x10."""
    reference, prediction = _blank(), _blank()
    reference[2:12, 2:12, 2:12] = 1
    prediction[4:14, 2:12, 2:12] = 1
    found = _judge(prediction, reference).measures
    assert set(found) == set(MEASURES) - {"ece"}
    assert found["dice"] == pytest.approx(0.8)
    assert found["jaccard"] == pytest.approx(800 / 1200)
    assert found["precision"] == found["recall"] == pytest.approx(0.8)
    assert found["volume_difference_ml"] == found["volume_difference_relative"] == 0
    assert found["hd_mm"] == found["hd95_mm"] == pytest.approx(1.4)
    # Of the 10**3 - 8**3 = 488 surface voxels: the far face (100) is 2 voxels off, the ring beside it (36) one. Of the
    # near face, inside the other box, the rim (36) lies in the other's side walls; of the 64 others the 16 beside the
    # walls along Y are 1 mm from them, the 48 left 1.4 mm from the other's face.
    assert found["assd_mm"] == pytest.approx((100 * 1.4 + 36 * 0.7 + 16 * 1.0 + 48 * 1.4) / 488)
    assert found["surface_dice"] == pytest.approx(1 - 148 / 488)  # 1 mm is within 1 mm, 1.4 mm is not
    assert (found["lesion_f1"], found["lesions_found"]) == (1, 1)


def test_one_voxel_against_two_by_hand() -> None:
    reference, prediction = _blank(), _blank()
    reference[3, 3, [3, 5]] = 1
    prediction[3, 3, 3] = 1
    found = _judge(prediction, reference).measures
    assert (found["precision"], found["recall"], found["jaccard"]) == (1, 0.5, 0.5)
    assert found["volume_difference_ml"] == pytest.approx(-0.0021)
    assert found["volume_difference_relative"] == -0.5
    assert found["hd_mm"] == pytest.approx(6)
    assert found["assd_mm"] == pytest.approx(2)
    assert found["surface_dice"] == pytest.approx(2 / 3)
    assert (found["lesions_found"], found["lesions_missed"], found["lesions_false"]) == (1, 1, 0)
    assert found["lesion_f1"] == pytest.approx(2 / 3)


def test_an_empty_prediction_is_rewarded_by_no_measure() -> None:
    reference = _blank()
    reference[0, 0, 0] = 1  # at the border
    missed = _judge(_blank(), reference).measures
    diagonal = 20 * math.hypot(*SPACING)
    for name in ("dice", "jaccard", "precision", "recall", "surface_dice", "lesion_f1"):
        assert missed[name] == 0, name
    for name in ("hd95_mm", "hd_mm", "assd_mm"):
        assert missed[name] == pytest.approx(diagonal), name
    assert missed["volume_difference_relative"] == -1
    false = _judge(reference, _blank()).measures
    assert math.isnan(false["volume_difference_relative"])
    assert (false["surface_dice"], false["precision"], false["recall"], false["lesions_false"]) == (0, 0, 0, 1)
    # also where the tolerance is larger than the image
    assert surface_dice(surface_distances(_blank() > 0, reference > 0, SPACING), 1000) == 0


def test_both_empty_is_undefined() -> None:
    (result,) = judge(_blank(), _blank(), SPACING, {1: "organ"}, tolerance_mm=1.0)
    assert repr(result) == repr(undefined_result("organ", all_measures=True))
    assert all(
        math.isnan(value) for name, value in result.measures.items() if MEASURES[name].better in ("higher", "lower")
    )
    assert set(undefined_measures()) == set(result.more)


def test_spheres_in_anisotropic_voxels() -> None:
    spacing = (0.5, 0.8, 1.6)
    axes = [(np.arange(int(28 / mm) | 1) - (int(28 / mm) | 1) // 2) * mm for mm in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    inner, outer = (radius <= 8).astype(np.uint8), (radius <= 12).astype(np.uint8)
    found = _judge(inner, outer, spacing).measures
    assert found["recall"] == pytest.approx((8 / 12) ** 3, abs=0.01)
    assert found["precision"] == 1
    assert found["volume_difference_ml"] == pytest.approx(4 / 3 * math.pi * (8**3 - 12**3) / 1000, rel=0.01)
    assert found["assd_mm"] == pytest.approx(4, abs=0.5)
    assert found["surface_dice"] == 0


def test_lesions_are_26_connected_and_found_by_any_voxel() -> None:
    reference, prediction = _blank() > 0, _blank() > 0
    reference[1, 1, 1] = reference[2, 2, 2] = True  # one lesion: they touch at a corner
    reference[6:9, 6:9, 6:9] = True
    reference[12, 12, 12] = True  # missed
    prediction[2, 2, 2] = True
    prediction[8, 8, 8] = prediction[10:12, 8, 8] = True  # finds the second one, and a false one beside it
    prediction[16, 16, 16] = prediction[16, 16, 18] = True  # two false ones
    counts = count_lesions(prediction, reference)
    assert counts == LesionCounts(found=2, missed=1, false=3)
    assert lesion_f1(counts) == pytest.approx(4 / (4 + 1 + 3))
    assert math.isnan(lesion_f1(LesionCounts(0, 0, 0)))
    bridge = reference | prediction
    bridge[:, :, :] = True
    assert count_lesions(bridge, reference) == LesionCounts(found=3, missed=0, false=0)


def test_calibration_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    assert calibration_error(probability, np.array([False, False, True, True])) == pytest.approx(0.1)
    assert calibration_error(probability, np.array([True, False, True, False])) == pytest.approx(0.4)
    sure = np.array([0.0, 1.0])
    assert calibration_error(sure, np.array([False, True])) == 0
    assert calibration_error(sure, np.array([True, False])) == 1
    assert calibration_error(np.full(10, 0.3), np.arange(10) < 3) == pytest.approx(0)
    assert math.isnan(calibration_error(np.empty(0), np.empty(0, bool)))
    with pytest.raises(ValueError, match="must be in"):
        calibration_error(np.array([1.2]), np.array([True]))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_surface_measures_agree_with_monai() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        prediction, reference = rng.random((2, 7, 6, 5)) > 0.5
        ours = surface_distances(prediction, reference, SPACING)
        a, b = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference))
        # MONAI averages the distances of both surfaces together, as we do
        theirs = compute_average_surface_distance(a, b, include_background=True, symmetric=True, spacing=SPACING)
        assert assd(ours) == pytest.approx(float(theirs), abs=1e-4)
        theirs = compute_surface_dice(a, b, class_thresholds=[0.9], include_background=True, spacing=SPACING)
        assert surface_dice(ours, 0.9) == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*namespace is deprecated:DeprecationWarning")
def test_surface_measures_agree_with_surface_distance() -> None:
    """It measures between the corners of voxels and weighs by area, so the two agree to a fraction of a voxel."""
    spacing = (0.5, 0.6, 0.8)
    x, y, z = np.meshgrid(*((np.arange(int(48 / mm)) * mm - 24) for mm in spacing), indexing="ij")
    reference = (x / 18) ** 2 + (y / 14) ** 2 + (z / 16) ** 2 <= 1
    prediction = ((x - 2) / 16) ** 2 + ((y + 1.5) / 15) ** 2 + (z / 15) ** 2 <= 1
    ours = surface_distances(prediction, reference, spacing)
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
    for tolerance in (1.0, 2.0, 3.5):
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert surface_dice(ours, tolerance) == pytest.approx(expected, abs=0.05)
    both = np.mean(surface_distance.compute_average_surface_distance(theirs))
    assert assd(ours) == pytest.approx(both, abs=0.2)


def test_bootstrap_interval() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 50)
    low, high = mean_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(50), rel=0.15)
    assert mean_interval(values) == (low, high)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)
    assert all(map(math.isnan, mean_interval([0.5])))
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, math.nan])


def test_results_are_summed_up_written_and_read_back() -> None:
    reference, prediction = _blank(), _blank()
    reference[2:8, 2:8, 2:8] = prediction[3:8, 2:8, 2:8] = 1
    results = {
        "a": [_judge(prediction, reference)],
        "b": [_judge(_blank(), _blank())],
        "c": [_judge(reference, reference)],
    }
    summary = summarise(results, intervals=True)
    of_class = summary.classes[0].measures["jaccard"]
    assert (of_class.n, of_class.n_undefined) == (2, 1)
    assert of_class.mean == pytest.approx((5 / 6 + 1) / 2)
    assert of_class.interval_95 == pytest.approx((5 / 6, 1))
    assert summary.more["jaccard"].mean == of_class.mean
    record = as_json(results)
    assert record["b"][0]["surface_dice"] is None
    assert repr(read_results(record)) == repr(results)
    assert as_json(summary)["classes"][0]["surface_dice"]["n_undefined"] == 1
