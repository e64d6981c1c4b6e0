"""Whatever a file's bytes are, reading it gives a volume or one line, and no more memory than the machine has."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.data import limits
from medseg.data.geometry import Geometry
from medseg.data.volume import read_geometry, read_volume
from medseg.errors import InputError

SHAPE = (5, 4, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of one small volume in each format."""
    folder = tmp_path_factory.mktemp("whole")
    array = np.arange(60, dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Image(array, np.diag([1, 1, 2, 1])), folder / "a.nii")
    image = sitk.GetImageFromArray(array.transpose())
    found = {".nii": (folder / "a.nii").read_bytes()}
    for suffix in (".nrrd", ".mha"):
        sitk.WriteImage(image, str(folder / f"a{suffix}"), useCompression=True)
        found[suffix] = (folder / f"a{suffix}").read_bytes()
    return found


changes = st.lists(st.tuples(st.integers(0, 420), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha"]), changes=changes, cut=st.integers(0, 500))
def test_any_bytes_give_a_volume_or_one_line(
    suffix: str, changes: list[tuple[int, bytes]], cut: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    raw = bytearray(whole[".nii" if suffix == ".nii.gz" else suffix])
    for at, new in changes:
        raw[at : at + len(new)] = new
    content = bytes(raw if cut > 400 else raw[: len(raw) - cut // 8])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content, mtime=0) if suffix == ".nii.gz" else content)
    for read in (read_geometry, read_volume):
        problem = None
        try:
            found = read(path)
        except InputError as error:
            problem = str(error)
        if problem is not None:
            assert problem.startswith(str(path))
            assert "\n" not in problem
            continue
        geometry = found if isinstance(found, Geometry) else found.geometry
        assert min(geometry.shape) >= 1
        assert min(geometry.spacing) > 0
        assert not geometry.is_singular


def test_the_limit_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "most_bytes", lambda: 2**30)
    limits.refuse_large("a.nii", (512, 512, 512))
    with pytest.raises(InputError, match=r"a\.nii: the header claims 513 x 512 x 512 voxels, 1 GiB to work with"):
        limits.refuse_large("a.nii", (513, 512, 512))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("length", [7, -1, 0, 1000, 2**30])
def test_extensions_are_not_read_without_end(kind: type[nib.Nifti1Image], length: int, tmp_path: Path) -> None:
    image = kind(np.zeros(SHAPE, np.int16), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 40))
    nib.save(image, tmp_path / "good.nii")
    whole = (tmp_path / "good.nii").read_bytes()
    assert read_geometry(tmp_path / "good.nii").shape == SHAPE
    size = image.header.template_dtype.itemsize
    for order in "<>":
        header = image.header.as_byteswapped(order)
        header["vox_offset"] = size + 4 + 48
        bad = header.binaryblock + whole[size : size + 4] + struct.pack(f"{order}ii", length, 6) + bytes(2**25)
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(bad, 1))
        tracemalloc.start()
        with pytest.raises(InputError, match=r"bomb\.nii\.gz: not readable as NIfTI \(an extension of"):
            read_geometry(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
        tracemalloc.stop()
    header["vox_offset"] = 2**40
    path.write_bytes(gzip.compress(header.binaryblock + bytes(64)))
    with pytest.raises(InputError, match="voxels begin at byte"):
        read_geometry(path)
