from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from medseg.data.anatomy import CLASSES
from medseg.data.case import load_case
from medseg.data.cohort import load_cohort
from medseg.data.phantoms import phantom, write_cohort
from medseg.errors import InputError

SMALL = (20, 18, 16)


def write(folder: Path, **more: object) -> bool:
    return write_cohort(folder, **{"labelled": 2, "unlabelled": 3, "validation": 1, "test": 1, "shape": SMALL, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_phantom_is_a_function_of_seed_and_index() -> None:
    one, again, other, seeded = phantom(1, 5), phantom(1, 5), phantom(1, 6), phantom(2, 5)
    assert_array_equal(one.image, again.image)
    assert_array_equal(one.labels, again.labels)
    assert_array_equal(one.affine, again.affine)
    for different in (other, seeded):
        assert one.image.shape != different.image.shape or (one.image != different.image).any()


@pytest.mark.parametrize("index", range(4))
def test_a_phantom_looks_like_a_ct(index: int) -> None:
    made = phantom(0, index)
    image, labels = made.image, made.labels
    assert image.dtype == np.int16
    assert labels.dtype == np.uint8
    assert image.shape == labels.shape
    assert all(16 <= size <= 64 for size in image.shape)
    spacing = np.diag(made.affine)[:3]
    assert spacing[2] > 1.5 * spacing[0] > 0
    assert_allclose(spacing[0], spacing[1])
    assert set(np.unique(labels)) == set(CLASSES)
    share = [(labels == value).mean() for value in CLASSES]
    assert share[1] > 3 * share[2] > 3 * share[3] > 0.0015
    assert abs(np.median(image[[0, -1]]) + 1000) < 60  # air around the patient
    fat, bone = ((image > -140) & (image < -50)).mean(), (image > 180).mean()
    assert fat > 0.05
    assert 0.001 < bone < 0.1
    inner = ndimage.binary_erosion(labels == 1, iterations=2)
    assert 5 < image[inner].mean() < 140
    assert 8 < image[inner].std() < 60
    assert ndimage.label(labels == 2)[1] >= 2  # two kidneys


def test_patients_and_scanners_differ() -> None:
    made = [phantom(0, index) for index in range(10)]
    aorta = [float(one.image[one.labels == 3].mean()) for one in made]
    liver = [float((one.labels == 1).mean()) for one in made]
    assert max(aorta) - min(aorta) > 80  # contrast phases
    assert max(liver) > 1.2 * min(liver)
    assert len({one.image.shape for one in made}) > 5
    assert len({float(one.affine[2, 2]) for one in made}) == 10


def test_borders_are_shared_by_tissues() -> None:
    """Partial volume: between air and body there are voxels of neither."""
    profile = phantom(0, 0).image.astype(float)
    inside = ((profile > -750) & (profile < -250)).mean()
    assert inside > 0.01


def test_the_cohort_is_what_its_lists_say(tmp_path: Path) -> None:
    assert write(tmp_path / "phantoms")
    cohort = load_cohort(tmp_path / "phantoms", labelled=2)
    counts = [len(part) for part in (cohort.labelled, cohort.unlabelled, cohort.validation, cohort.test)]
    assert counts == [2, 3, 1, 1]
    assert cohort == load_cohort(tmp_path / "phantoms")
    assert cohort.channels == ("CT",)
    assert cohort.classes == CLASSES
    files = {path.name for path in (tmp_path / "phantoms" / "labelsTr").iterdir()}
    assert files == {f"phantom_{index:03}.nii.gz" for index in (0, 1, 5, 6)}
    made = phantom(0, 6, SMALL)
    images, labels, geometry = load_case(cohort.test[0], cohort.classes)
    assert_array_equal(images[0], made.image)
    assert_array_equal(labels, made.labels)
    assert_array_equal(geometry.affine, made.affine)
    header = nib.load(cohort.test[0].images[0]).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert {path.name for path in tmp_path.iterdir()} == {"phantoms"}


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    write(tmp_path / "c", seed=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(contents(tmp_path / "a")) == 7 + 4 + 2
    image = "imagesTr/phantom_000.nii.gz"
    assert contents(tmp_path / "a")[image] != contents(tmp_path / "c")[image]


def test_a_cohort_that_is_there_stays(tmp_path: Path) -> None:
    write(tmp_path / "a")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write(tmp_path / "a") is False
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(InputError, match=r"other parameters \(unlabelled 3, seed 0\)"):
        write(tmp_path / "a", seed=4, unlabelled=2)


def test_an_empty_folder_is_filled_and_another_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match="exists and holds no phantoms"):
            write(tmp_path / name)
    assert contents(tmp_path / "mine") == {"thesis.txt": b"precious"}


def test_what_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int, index: int, shape: object) -> object:
        if index == 3:
            raise OSError(28, "No space left on device")
        return phantom(seed, index, SMALL)

    monkeypatch.setattr("medseg.data.phantoms.phantom", fail)
    with pytest.raises(InputError, match="No space left on device"):
        write(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"labelled": 0}, "0 labelled phantoms asked for, expected at least 1"),
        ({"test": -1}, "-1 test phantoms asked for, expected at least 0"),
        ({"shape": (20, 18, 4)}, r"shape \(20, 18, 4\) asked for"),
    ],
)
def test_parameters_out_of_range(tmp_path: Path, more: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        write(tmp_path / "a", **more)
    assert list(tmp_path.iterdir()) == []


def test_the_description_says_that_it_is_made(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert "no patient" in json.loads((tmp_path / "a" / "dataset.json").read_text())["description"]
