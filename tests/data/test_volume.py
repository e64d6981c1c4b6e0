from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.testing import assert_allclose, assert_array_equal

from medseg.data.geometry import Geometry
from medseg.data.volume import (
    SUFFIXES,
    is_volume,
    read_geometry,
    read_labels,
    read_volume,
    strip_suffix,
    write_segmentation,
)
from medseg.errors import InputError

OBLIQUE = np.array([[0.8, -0.9, 0.0, -31.5], [0.6, 1.2, 0.0, 12.25], [0.0, 0.0, 3.0, -700.125], [0.0, 0.0, 0.0, 1.0]])
ROUND_TRIP = settings(max_examples=25, deadline=None)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def save_itk(path: Path, array: np.ndarray, compress: bool = False) -> Path:
    """By SimpleITK alone, with its world: the reference that the reader is held against."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing((1.0, 1.5, 3.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    image.SetOrigin((31.5, -12.25, -700.125))
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path


def message(error: pytest.ExceptionInfo[InputError], path: Path) -> str:
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """A permutation and flips of the axes, a small rotation, a spacing and an origin."""
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angle = draw(st.floats(-0.7, 0.7))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes * draw(st.tuples(*[st.floats(0.3, 6.0)] * 3))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-800, 800)] * 3))
    return affine


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [False, True])
def test_one_volume_reads_the_same_from_every_format(tmp_path: Path, suffix: str, compress: bool) -> None:
    array = np.random.default_rng(0).integers(-1000, 2000, (7, 5, 4)).astype(np.int16)
    volume = read_volume(save_itk(tmp_path / f"case{suffix}", array, compress))
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert_array_equal(volume.array, array)
    expected = np.array([[-0.8, 0.9, 0, -31.5], [-0.6, -1.2, 0, 12.25], [0, 0, 3, -700.125], [0, 0, 0, 1]])
    assert_allclose(volume.geometry.affine, expected, atol=1e-5)
    assert_allclose(volume.geometry.spacing, (1.0, 1.5, 3.0), atol=1e-6)
    assert read_geometry(tmp_path / f"case{suffix}").difference(volume.geometry) is None


@pytest.mark.parametrize("suffix", [suffix.upper() for suffix in SUFFIXES])
def test_suffixes_in_capitals(tmp_path: Path, suffix: str) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 3, 2)))
    labels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    path = tmp_path / f"A.1{suffix}"
    write_segmentation(path, labels, image)
    assert_array_equal(read_labels(path).array, labels)
    assert read_geometry(path).difference(read_geometry(image)) is None
    assert {p.name for p in tmp_path.iterdir()} <= {"image.nii.gz", path.name, "A.1.zraw"}


@ROUND_TRIP
@given(affine=affines(), shape=array_shapes(min_dims=3, max_dims=3, max_side=6), suffix=st.sampled_from(SUFFIXES))
def test_segmentations_keep_the_grid_between_formats(
    tmp_path_factory: pytest.TempPathFactory, affine: np.ndarray, shape: tuple[int, int, int], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    image = save_nifti(folder / "image.nii.gz", np.zeros(shape, np.float32), affine)
    labels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    write_segmentation(folder / f"first{suffix}", labels, image)
    write_segmentation(folder / "second.nii.gz", labels, folder / f"first{suffix}")
    for name in (f"first{suffix}", "second.nii.gz"):
        read = read_labels(folder / name)
        assert read.array.dtype == np.uint8
        assert_array_equal(read.array, labels)
        assert_allclose(read.geometry.affine, affine, atol=1e-3, rtol=1e-6)
        assert read.geometry.difference(read_geometry(image)) is None


@pytest.mark.parametrize(("sform", "qform"), [(1, 2), (0, 1), (4, 0), (0, 0)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_header_of_the_input_is_kept(tmp_path: Path, sform: int, qform: int, kind: type) -> None:
    image = kind(np.ones((4, 5, 6), np.int16), OBLIQUE)
    image.set_sform(OBLIQUE, code=sform)
    turned = OBLIQUE[[1, 0, 2, 3]]  # the two forms may disagree; both are kept
    image.set_qform(turned, code=qform)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.0, -1024.0)
    image.header["descrip"] = b"Jane Doe"
    image.header["cal_max"] = 400
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe, born 1970"))
    nib.save(image, tmp_path / "image.nii.gz")
    labels = np.full((4, 5, 6), 300, np.uint16)
    write_segmentation(tmp_path / "seg.nii.gz", labels, tmp_path / "image.nii.gz")

    before, after = nib.load(tmp_path / "image.nii.gz"), nib.load(tmp_path / "seg.nii.gz")
    assert type(after) is kind
    assert_array_equal(after.affine, before.affine)
    for form in ("get_sform", "get_qform"):
        assert_array_equal(getattr(after, form)(), getattr(before, form)())
    for field in ("sform_code", "qform_code", "xyzt_units", "pixdim", "quatern_b", "srow_x"):
        assert_array_equal(after.header[field], before.header[field])
    assert after.get_data_dtype() == np.uint16
    assert_array_equal(np.asanyarray(after.dataobj), labels)
    assert after.header.get_slope_inter() == (None, None)
    assert b"Jane" not in gzip.decompress((tmp_path / "seg.nii.gz").read_bytes())


def test_equal_segmentations_are_equal_bytes(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 4, 4)))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_segmentation(tmp_path / name, np.ones((4, 4, 4), np.uint8), image)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz", "image.nii.gz"]


def test_mhd_names_its_own_data_file(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 3, 2)))
    write_segmentation(tmp_path / "seg.mhd", np.ones((4, 3, 2), np.uint8), image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nii.gz", "seg.mhd", "seg.zraw"]
    assert read_labels(tmp_path / "seg.mhd").array.all()


def test_slope_and_intercept_apply(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full((3, 3, 3), 10, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -2.0)
    nib.save(image, tmp_path / "a.nii")
    raw = np.asarray(nib.load(tmp_path / "a.nii").dataobj.get_unscaled())
    assert_allclose(read_volume(tmp_path / "a.nii").array, raw * 0.5 - 2.0)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3)])
def test_nifti_units_become_mm(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([2.0, 2.0, 4.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    assert_allclose(read_geometry(tmp_path / "a.nii").spacing, np.array([2.0, 2.0, 4.0]) * factor)


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 3, 2, 1), np.float32))
    assert read_volume(tmp_path / "a.nii.gz").array.shape == (4, 3, 2)
    write_segmentation(tmp_path / "seg.nii.gz", np.zeros((4, 3, 2), np.uint8), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "seg.nii.gz").shape == (4, 3, 2)
    four = sitk.JoinSeries([sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))])
    sitk.WriteImage(four, str(tmp_path / "a.nrrd"))
    assert read_volume(tmp_path / "a.nrrd").array[3, 2, 1] == 23


@pytest.mark.parametrize(
    ("stored", "values", "dtype"),
    [(np.float64, [0, 3], np.uint8), (np.int32, [-1, 3], np.int16), (np.uint16, [0, 300], np.int16)],
)
def test_labels_are_small_integers_whatever_is_stored(
    tmp_path: Path, stored: type, values: list[int], dtype: type
) -> None:
    array = np.resize(np.array(values, stored), (2, 3, 4))
    labels = read_labels(save_nifti(tmp_path / "a.nii.gz", array)).array
    assert labels.dtype == dtype
    assert_array_equal(labels, array)


def test_labels_that_are_not_whole_or_too_large_are_refused(tmp_path: Path) -> None:
    array = np.zeros((3, 3, 3))
    array[1, 1] = 0.5
    with pytest.raises(InputError) as error:
        read_labels(save_nifti(tmp_path / "a.nii.gz", array))
    assert "label value 0.5 is not a whole number (3 voxels" in message(error, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="label value 70000"):
        read_labels(save_nifti(tmp_path / "b.nii.gz", np.full((2, 2, 2), 70000, np.int32)))
    array[1, 1] = 0
    array[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 of 27 label voxels are NaN"):
        read_labels(save_nifti(tmp_path / "c.nii.gz", array))


def test_voxels_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[0, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError) as error:
        read_volume(save_nifti(tmp_path / "a.nii.gz", array))
    assert "3 of 27 voxels are NaN or infinite" in message(error, tmp_path / "a.nii.gz")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_other_than_three_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        save_nifti(path, np.zeros(shape, np.float32))
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape[::-1], np.float32), isVector=False), str(path))
    for read in (read_volume, read_geometry):
        with pytest.raises(InputError) as error:
            read(path)
        assert f"{len(shape)}-D image of shape {shape}" in message(error, path)


def test_complex_and_colour_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="complex"):
        read_volume(save_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.complex64)))
    colour = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="colour"):
        read_volume(save_nifti(tmp_path / "b.nii", colour))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2, 3), np.uint8), isVector=True), str(tmp_path / "c.mha"))
    with pytest.raises(InputError, match="3 values a voxel"):
        read_volume(tmp_path / "c.mha")


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["sform_code"], image.header["srow_z"] = 1, (1, 0, 0, 0)
    image.header["srow_x"], image.header["srow_y"] = (1, 0, 0, 0), (0, 1, 0, 0)
    with (tmp_path / "a.nii").open("wb") as file:
        image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
        file.write(image.header.binaryblock + bytes(4 + 8))
    with pytest.raises(InputError) as error:
        read_volume(tmp_path / "a.nii")
    assert "singular affine" in message(error, tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [False, True])
def test_truncated_files_are_told_from_unreadable_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, compress: bool
) -> None:
    array = np.random.default_rng(0).normal(size=(7, 5, 9)).astype(np.float32)
    path = save_itk(tmp_path / f"a{suffix}", array, compress)
    data = next((p for p in tmp_path.iterdir() if p.suffix in (".raw", ".zraw")), path)
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) * 4 // 5])
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert "truncated or damaged" in message(error, path)
    path.write_bytes(b"hello")
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert "not readable as" in message(error, path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_damaged_compressed_data_is_found(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 20, (12, 12, 12)).astype(np.int16)
    path = save_itk(tmp_path / f"a{suffix}", array, compress=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-300] + bytes(100) + whole[-200:])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_volume(path)


def test_paths_that_are_no_volumes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "folder.nii.gz").mkdir()
    for name, text in {
        "b.nii.gz": "no such file",
        f"{'x' * 300}.nii.gz": "",  # that no file can have
        "folder.nii.gz": "a folder",
        "a.txt": "unknown file",
    }.items():
        with pytest.raises(InputError) as error:
            read_volume(tmp_path / name)
        assert text in message(error, tmp_path / name)


def test_a_segmentation_that_cannot_be_written(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((4, 4, 4)))
    good = np.zeros((4, 4, 4), np.uint8)
    for suffix in SUFFIXES:
        with pytest.raises(InputError, match="cannot be written"):
            write_segmentation(tmp_path / "absent" / f"a{suffix}", good, image)
    with pytest.raises(InputError, match="unknown file type"):
        write_segmentation(tmp_path / "a.png", good, image)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        write_segmentation(tmp_path / "a.nii.gz", good.astype(np.int64), image)
    with pytest.raises(ValueError, match="shape"):
        write_segmentation(tmp_path / "a.nii.gz", good[:2], image)


FULL_DISK = """
import resource, sys
import numpy as np
from medseg.data.volume import write_segmentation
from medseg.errors import InputError

labels = np.random.default_rng(0).integers(0, 256, (64, 64, 64)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
for path in sys.argv[2:]:
    try:
        write_segmentation(path, labels, sys.argv[1])
    except InputError as error:
        print(error)
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk; it is set in a process of its own."""
    pytest.importorskip("resource")
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((64, 64, 64), np.uint8))
    paths = [str(tmp_path / f"seg{suffix}") for suffix in SUFFIXES]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, image, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == paths
    assert all("free space or choose another output folder" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]


def test_names() -> None:
    assert [strip_suffix(f"a.b{suffix}") for suffix in SUFFIXES] == ["a.b"] * len(SUFFIXES)
    assert strip_suffix("A.NII.GZ") == "A"
    assert strip_suffix("a.txt") == "a.txt"
    assert is_volume("x/a.mha")
    assert not is_volume("x/._a.nii.gz")
    assert not is_volume("a.gz")


def test_a_geometry_is_read_only_and_says_what_differs() -> None:
    one = Geometry((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        one.affine[0, 0] = 2
    moved = np.eye(4)
    moved[0, 3] = 0.25
    assert one.difference(Geometry((2, 2, 2), np.eye(4))) is None
    assert "0.25 mm" in str(one.difference(Geometry((2, 2, 2), moved)))
    assert "(2, 2, 2) against (2, 2, 3)" in str(one.difference(Geometry((2, 2, 3), moved)))
