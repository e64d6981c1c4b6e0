from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance

from medseg.metrics.surface import assd, diagonal_mm, hausdorff, hd95, surface_distances

SPACING = (0.7, 1.0, 3.0)


def _empty(shape: Sequence[int] = (12, 12, 12)) -> np.ndarray:
    return np.zeros(shape, dtype=bool)


def _voxel(*where: int) -> np.ndarray:
    mask = _empty()
    mask[where] = True
    return mask


def _sphere(radius_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 <= radius_mm**2


@pytest.mark.parametrize(("axis", "mm"), list(enumerate(SPACING)))
def test_two_voxels_are_as_far_apart_as_the_spacing_of_the_axis_says(axis: int, mm: float) -> None:
    there = [5, 5, 5]
    there[axis] += 4
    distances = surface_distances(_voxel(5, 5, 5), _voxel(*there), SPACING)
    assert distances.prediction_to_reference.tolist() == pytest.approx([4 * mm])
    for measure in (hausdorff, hd95, assd):
        assert measure(distances) == pytest.approx(4 * mm)


def test_one_voxel_against_two_by_hand() -> None:
    two = _voxel(3, 3, 3) | _voxel(3, 3, 5)
    distances = surface_distances(_voxel(3, 3, 3), two, SPACING)
    assert distances.prediction_to_reference.tolist() == [0]
    assert sorted(distances.reference_to_prediction) == pytest.approx([0, 6])
    assert hausdorff(distances) == pytest.approx(6)
    assert hd95(distances) == pytest.approx(0.95 * 6)  # linear between the two
    assert assd(distances) == pytest.approx(6 / 3)


@pytest.mark.parametrize(("axis", "mm"), list(enumerate(SPACING)))
def test_shifted_boxes(axis: int, mm: float) -> None:
    reference = _empty((20, 20, 20))
    reference[4:12, 4:12, 4:12] = True
    prediction = np.roll(reference, 2, axis)
    distances = surface_distances(prediction, reference, SPACING)
    assert hausdorff(distances) == pytest.approx(2 * mm)
    # The far face is 64 of the 296 surface voxels: more than 5 %, so the percentile is the shift as well.
    assert hd95(distances) == pytest.approx(2 * mm)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.8, 1.6)])
def test_concentric_spheres_are_apart_by_the_difference_of_their_radii(spacing: tuple[float, ...]) -> None:
    shape = tuple(int(2 * 14 / mm) | 1 for mm in spacing)
    distances = surface_distances(_sphere(8, spacing, shape), _sphere(12, spacing, shape), spacing)
    assert assd(distances) == pytest.approx(4, abs=max(spacing) / 2)
    assert hd95(distances) == pytest.approx(4, abs=max(spacing))


def test_the_larger_direction_counts() -> None:
    reference = _empty((30, 12, 12))
    reference[2:6, 4:8, 4:8] = True
    prediction = reference.copy()
    prediction[20:24, 4:8, 4:8] = True  # far from the reference; the reference is near to it
    for a, b in ((prediction, reference), (reference, prediction)):
        assert hd95(surface_distances(a, b, (1, 1, 1))) == pytest.approx(18)


def test_both_empty_is_nan() -> None:
    distances = surface_distances(_empty(), _empty(), SPACING)
    assert not distances.prediction_to_reference.size
    assert math.isnan(hausdorff(distances))
    assert math.isnan(hd95(distances))
    assert math.isnan(assd(distances))


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_is_the_diagonal_of_the_image(swap: bool) -> None:
    pair = (_empty(), _voxel(5, 5, 5))
    prediction, reference = pair[::-1] if swap else pair
    diagonal = 12 * math.sqrt(0.7**2 + 1 + 3**2)
    assert diagonal_mm((12, 12, 12), SPACING) == pytest.approx(diagonal)
    distances = surface_distances(prediction, reference, SPACING)
    for measure in (hausdorff, hd95, assd):
        assert measure(distances) == pytest.approx(diagonal)
    assert hd95(surface_distances(prediction, reference, SPACING, image_diagonal_mm=99)) == 99


def test_no_prediction_is_worse_than_any_prediction() -> None:
    corners = surface_distances(_voxel(0, 0, 0), _voxel(11, 11, 11), SPACING)
    nothing = surface_distances(_empty(), _voxel(11, 11, 11), SPACING)
    assert hd95(nothing) > hd95(corners)


def test_a_voxel_at_the_border_of_the_volume_is_surface() -> None:
    everything = np.ones((5, 5, 5), dtype=bool)
    centre = _empty((5, 5, 5))
    centre[2, 2, 2] = True
    distances = surface_distances(everything, centre, (1, 1, 1))
    assert distances.prediction_to_reference.size == 5**3 - 3**3
    assert hausdorff(distances) == pytest.approx(math.sqrt(12))


def test_the_surface_is_six_connected() -> None:
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1, 1, :] = cross[1, :, 1] = cross[:, 1, 1] = True
    assert surface_distances(cross, cross, (1, 1, 1)).prediction_to_reference.size == 6  # not the centre


def test_where_in_the_volume_the_masks_lie_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 6, 5, 4)) > 0.5
    bare = surface_distances(prediction, reference, SPACING)
    margins = ((3, 7), (0, 2), (5, 0))
    padded = surface_distances(np.pad(prediction, margins), np.pad(reference, margins), SPACING)
    np.testing.assert_allclose(bare.prediction_to_reference, padded.prediction_to_reference)
    np.testing.assert_allclose(bare.reference_to_prediction, padded.reference_to_prediction)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@settings(max_examples=60, deadline=None)
@given(masks=arrays(bool, (2, 5, 4, 6)), percentile=st.sampled_from([50.0, 95.0, 100.0]))
def test_agrees_with_monai(masks: np.ndarray, percentile: float) -> None:
    prediction, reference = masks
    if not (prediction.any() and reference.any()):
        prediction[0, 0, 0] = reference[-1, -1, -1] = True  # the empty cases are ours, MONAI warns of them
    theirs = compute_hausdorff_distance(
        torch.from_numpy(prediction)[None, None].float(),
        torch.from_numpy(reference)[None, None].float(),
        include_background=True,
        percentile=percentile,
        spacing=SPACING,
    )
    ours = hausdorff(surface_distances(prediction, reference, SPACING), percentile)
    assert ours == pytest.approx(theirs.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "message"),
    [
        (_empty(), _empty((2, 2, 2)), SPACING, "differ in shape"),
        (_empty().astype(int), _empty(), SPACING, "must be bool"),
        (_empty(), _empty(), (1, 1), "3 positive numbers"),
        (_empty(), _empty(), (1, 0, 1), "3 positive numbers"),
        (_empty(), _empty(), (1, math.nan, 1), "3 positive numbers"),
    ],
)
def test_exception(prediction, reference, spacing, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        surface_distances(prediction, reference, spacing)
