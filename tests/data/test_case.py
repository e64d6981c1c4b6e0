from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.data.case import Case, load_case
from medseg.errors import InputError

CLASSES = {0: "background", 1: "liver"}


def test_images_and_labels_come_checked(tmp_path: Path, save) -> None:
    images = (save(tmp_path / "a_0000.nii.gz", [1, 2]), save(tmp_path / "a_0001.nii.gz", [3, 4]))
    label = save(tmp_path / "label.nii.gz", [0, 1], np.uint8)
    arrays, labels, geometry = load_case(Case("a", images, label), CLASSES)
    assert arrays.shape == (2, 4, 3, 2)
    assert arrays.dtype == np.float32
    assert arrays[1].max() == 4
    assert labels is not None
    assert labels.dtype == np.uint8
    assert geometry.spacing == (1, 1, 3)
    assert load_case(Case("a", images, None), CLASSES)[1] is None


def test_grids_that_differ_are_refused_with_numbers(tmp_path: Path, save) -> None:
    image = save(tmp_path / "image.nii.gz")
    short = save(tmp_path / "short.nii.gz", shape=(4, 3, 1))
    moved = np.diag([1, 1, 3, 1.0])
    moved[2, 3] = 1.5
    shifted = save(tmp_path / "shifted.nii.gz", affine=moved)
    with pytest.raises(InputError, match=r"short.*image.*shape \(4, 3, 1\) against \(4, 3, 2\)"):
        load_case(Case("a", (image,), short), CLASSES)
    with pytest.raises(InputError, match=r"shifted.*1\.5 mm apart"):
        load_case(Case("a", (image,), shifted), CLASSES)


def test_rounding_of_file_formats_is_no_difference(tmp_path: Path, save) -> None:
    affine = np.diag([1, 1, 3, 1.0])
    affine[0, 3] = 3e-4
    label = save(tmp_path / "label.nii.gz", affine=affine)
    assert load_case(Case("a", (save(tmp_path / "a.nii.gz"),), label), CLASSES)[1] is not None


def test_label_values_outside_the_task_are_counted(tmp_path: Path, save) -> None:
    label = save(tmp_path / "label.nii.gz", [0, 1, 7], np.uint8)
    case = Case("a", (save(tmp_path / "a.nii.gz"),), label)
    with pytest.raises(InputError) as error:
        load_case(case, CLASSES)
    assert "label value 7 (8 voxels) is not of the task, which has 0, 1" in str(error.value)
    assert load_case(case, {0: "background", 1: "a", 7: "b"})[1] is not None


def test_voxels_that_are_not_finite_are_refused(tmp_path: Path, save) -> None:
    image = save(tmp_path / "a.nii.gz", [0, float("nan")])
    with pytest.raises(InputError, match="12 of 24 voxels"):
        load_case(Case("a", (image,), None), CLASSES)
