from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.geometry import Geometry
from medseg.data.soft import read_soft_labels
from medseg.data.volume import read_geometry
from medseg.errors import InputError

SHAPE = (4, 3, 2)
GRID = Geometry(SHAPE, np.diag([1, 1, 3, 1.0]))


@pytest.fixture
def shares() -> np.ndarray:
    """(X, Y, Z, K) of which the last is the background."""
    random = np.random.default_rng(0).random((*SHAPE, 3))
    return (random / random.sum(axis=-1, keepdims=True)).astype(np.float32)


def nifti(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.float32), GRID.affine), path)
    return path


@pytest.mark.parametrize("shape", [(*SHAPE, 2), (*SHAPE, 1, 2)])
def test_nifti(tmp_path: Path, shares: np.ndarray, shape: tuple[int, ...]) -> None:
    path = nifti(tmp_path / "a.nii.gz", shares[..., :2].reshape(shape))
    found = read_soft_labels(path, GRID, classes=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.moveaxis(shares[..., :2], -1, 0))


def test_one_class_needs_no_fourth_axis(tmp_path: Path, shares: np.ndarray) -> None:
    found = read_soft_labels(nifti(tmp_path / "a.nii.gz", shares[..., 0]), GRID, classes=2)
    np.testing.assert_allclose(found, shares[None, ..., 0])


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("vector", [True, False])
def test_components_and_fourth_axes_of_itk(tmp_path: Path, shares: np.ndarray, name: str, vector: bool) -> None:
    both = shares[..., :2]
    array = both.transpose(2, 1, 0, 3) if vector else both.transpose(3, 2, 1, 0)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=vector), str(tmp_path / name))
    plain = sitk.GetImageFromArray(np.zeros(SHAPE[::-1], np.uint8))
    sitk.WriteImage(plain, str(tmp_path / "plain.mha"))
    found = read_soft_labels(tmp_path / name, read_geometry(tmp_path / "plain.mha"))
    np.testing.assert_allclose(found, np.moveaxis(both, -1, 0))


def test_rounding_is_no_error(tmp_path: Path, shares: np.ndarray) -> None:
    sure = np.zeros_like(shares)
    sure[..., 0] = 1.0005
    assert read_soft_labels(nifti(tmp_path / "a.nii.gz", sure), GRID).max() == 1


def test_a_label_map_of_several_classes_is_sure(tmp_path: Path) -> None:
    """As a corrected pseudo-label is in a cohort of soft labels; also where it holds only some of the classes."""
    for values in ([0, 1, 2, 3], [0, 1]):
        labels = np.resize(values, SHAPE)
        found = read_soft_labels(nifti(tmp_path / "a.nii.gz", labels), GRID, classes=4)
        np.testing.assert_array_equal(found, [labels == value for value in (1, 2, 3)])
    for strange in (0.5, 4):
        path = nifti(tmp_path / "a.nii.gz", np.where(np.arange(4)[:, None, None] == 0, strange, labels))
        with pytest.raises(InputError, match=rf"one number a voxel, {strange} among them; expected 3 probabilities"):
            read_soft_labels(path, GRID, classes=4)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a * 1.02, r"add up to 1\.02 \(24 voxels exceed 1\)"),
        (lambda a: a * 255, r"probabilities from .* to .*, expected 0 to 1"),
        (lambda a: a - 0.5, "probabilities from -"),
        (lambda a: np.where(a == a.max(), np.nan, a), "1 of 72 probabilities are NaN"),
        (lambda a: a[:3], r"shape \(3, 3, 2\) against \(4, 3, 2\)"),
        (lambda a: a[..., :2], "soft labels of 2 classes, expected 3"),
    ],
)
def test_what_are_no_probabilities(tmp_path: Path, shares: np.ndarray, change, text: str) -> None:
    with pytest.raises(InputError, match=text) as error:
        read_soft_labels(nifti(tmp_path / "a.nii.gz", change(shares)), GRID, classes=4)
    assert "\n" not in str(error.value)
