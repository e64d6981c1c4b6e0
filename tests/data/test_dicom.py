from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.data.case import Case, load_case
from medseg.data.volume import read_geometry, read_labels, read_volume, volume_files, write_segmentation
from medseg.errors import InputError

ARRAY = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)


def test_a_series_is_a_volume_in_its_own_units(tmp_path: Path, save_dicom) -> None:
    folder = save_dicom(tmp_path / "series", ARRAY)
    (folder / "notes.txt").write_text("no image")
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, ARRAY - 1000.0)
    # LPS becomes RAS+; the first slice is the lowest, whatever its file is called
    expected = np.array([[-0.5, 0, 0, -10], [0, -0.75, 0, -20], [0, 0, 2, -5], [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.geometry.affine, expected)
    assert read_geometry(folder).difference(volume.geometry) is None
    assert len(volume_files(folder)) == 5


def test_each_slice_is_scaled_by_its_own_slope(tmp_path: Path, save_dicom) -> None:
    folder = save_dicom(tmp_path / "pet", np.full((4, 3, 3), 10), slope=lambda z: 1 + z / 4)
    np.testing.assert_allclose(read_volume(folder).array[0, 0], [-990, -987.5, -985])


def test_a_segmentation_of_a_series_lies_on_its_grid(tmp_path: Path, save_dicom) -> None:
    folder = save_dicom(tmp_path / "series", ARRAY)
    write_segmentation(tmp_path / "out.nii.gz", (ARRAY % 3).astype(np.uint8), folder)
    label = read_labels(tmp_path / "out.nii.gz")
    assert label.geometry.difference(read_geometry(folder)) is None
    images, labels, _ = load_case(Case("a", (folder,), tmp_path / "out.nii.gz"), {0: "background", 1: "a", 2: "b"})
    assert labels is not None
    assert images.shape == (1, *labels.shape)


def test_a_missing_slice_is_found(tmp_path: Path, save_dicom) -> None:
    folder = save_dicom(tmp_path / "series", ARRAY, slices=[0, 1, 2, 4])
    with pytest.raises(InputError, match=r"2 mm apart, but IM97\.dcm and IM95\.dcm 4 mm: slices are missing"):
        read_volume(folder)


def test_two_series_are_named(tmp_path: Path, save_dicom) -> None:
    folder = save_dicom(tmp_path / "series", ARRAY)
    save_dicom(folder, ARRAY[..., :3], slices=[0], SeriesInstanceUID="1.2.3.5", SeriesDescription="scout")
    with pytest.raises(InputError, match=r"2 DICOM series: .*'scout' \(1 files, 1\.2\.3\.5\)"):
        read_geometry(folder)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"ImagePositionPatient": [10, 20, -5]}, "lie at one position"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}, "direction"),
        ({"PixelSpacing": [1, 1]}, r"spacing 1 1 against 0\.5 0\.75"),
    ],
)
def test_slices_that_make_no_volume(tmp_path: Path, save_dicom, header: dict[str, list[float]], text: str) -> None:
    folder = save_dicom(tmp_path / "series", ARRAY, slices=[0, 1, 2])
    save_dicom(folder, ARRAY, slices=[3], **header)
    with pytest.raises(InputError, match=text):
        read_geometry(folder)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path, save_dicom) -> None:
    folder = tmp_path / "series"
    for z in range(3):
        save_dicom(folder, ARRAY, slices=[z], ImagePositionPatient=[10, 20 + 0.5 * z, 2 * z])
    with pytest.raises(InputError, match=r"tilted by 14\.0 degrees"):
        read_geometry(folder)


def test_what_is_no_series(tmp_path: Path, save_dicom) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without DICOM images in it"):
        read_volume(tmp_path / "empty")
    folder = save_dicom(tmp_path / "series", ARRAY)
    with pytest.raises(InputError, match="a folder, expected one label file"):
        read_labels(folder)
    file = folder / "IM97.dcm"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"series"):
        read_volume(folder)
