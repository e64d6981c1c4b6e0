from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice

from medseg.metrics import overlap
from medseg.metrics.overlap import ClassCounts, class_counts, dice


def test_counts_by_hand() -> None:
    reference = np.array([0, 1, 1, 2, 2, 7], dtype=np.uint8).reshape(1, 2, 3)
    prediction = np.array([1, 1, 0, 2, 2, 2], dtype=np.int16).reshape(1, 2, 3)
    counts = class_counts(prediction, reference, [2, 1, 5])
    assert list(counts.items()) == [
        (2, ClassCounts(reference=2, prediction=3, intersection=2)),
        (1, ClassCounts(reference=2, prediction=2, intersection=1)),
        (5, ClassCounts(reference=0, prediction=0, intersection=0)),
    ]
    assert dice(counts[2]) == pytest.approx(4 / 5)
    assert dice(counts[1]) == pytest.approx(2 / 4)


def test_both_empty_is_nan_and_one_empty_is_zero() -> None:
    assert math.isnan(dice(ClassCounts(0, 0, 0)))
    assert dice(ClassCounts(3, 0, 0)) == 0
    assert dice(ClassCounts(0, 3, 0)) == 0
    assert ClassCounts(0, 0, 0).undefined
    assert not ClassCounts(0, 0, 0).missed
    assert ClassCounts(3, 0, 0).missed
    assert ClassCounts(0, 3, 0).missed
    assert not ClassCounts(3, 3, 0).missed


def test_shifted_boxes() -> None:
    reference, prediction = np.zeros((2, 20, 20, 20), dtype=np.uint8)
    reference[2:12, 2:12, 2:12] = 1
    prediction[5:15, 2:12, 2:12] = 1
    assert dice(class_counts(prediction, reference, [1])[1]) == pytest.approx(0.7)


def test_bool_arrays_are_labels_0_and_1() -> None:
    reference = np.array([[[True, True, False]]])
    prediction = np.array([[[True, False, False]]])
    assert class_counts(prediction, reference, [1]) == {1: ClassCounts(2, 1, 1)}
    assert class_counts(prediction, reference, []) == {}


@settings(deadline=None)
@given(seed=st.integers(0, 2**16), slab=st.integers(1, 40))
def test_slabs_and_foreign_labels_change_nothing(seed: int, slab: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, reference = rng.integers(-2, 6, (2, 3, 4, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_SLAB_VOXELS", slab)
        counts = class_counts(prediction, reference, [1, 3, 4])
    for label in (1, 3, 4):
        p, r = prediction == label, reference == label
        assert counts[label] == ClassCounts(int(r.sum()), int(p.sum()), int((p & r).sum()))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_monai(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, reference = rng.integers(0, 4, (2, 9, 8, 7))
    counts = class_counts(prediction, reference, [1, 2, 3])
    theirs = compute_dice(_one_hot(prediction), _one_hot(reference), include_background=False)[0]
    assert [dice(counts[c]) for c in (1, 2, 3)] == pytest.approx(theirs.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "reference", "classes", "message"),
    [
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), [1], r"\(2, 2, 2\) and \(2, 2, 3\)"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int), [1], "prediction must hold integer labels"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), np.float32), [1], "reference must hold integer"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), [-1], ">= 0"),
    ],
)
def test_exception(prediction, reference, classes, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        class_counts(prediction, reference, classes)


def _one_hot(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([labels == c for c in range(4)]))[None].float()
