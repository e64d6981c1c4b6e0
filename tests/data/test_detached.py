from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.detached import data_files
from medseg.data.digests import file_digest
from medseg.data.volume import read_volume, volume_files
from medseg.errors import InputError

META = """ObjectType = Image
NDims = 3
DimSize = 4 3 2
ElementType = MET_UCHAR
ElementSpacing = 1 1 1
"""
NRRD = """NRRD0004
type: uchar
dimension: 3
space: left-posterior-superior
sizes: 4 3 2
space directions: (1,0,0) (0,1,0) (0,0,1)
kinds: domain domain domain
space origin: (0,0,0)
encoding: raw
"""
LAST = {"LIST": "LIST{2}\ns1.raw\ns2.raw\n", "numbered": "s%d.raw 1 2 1{2}\n", "one": "all.raw\n"}


@pytest.mark.parametrize("kind", LAST)
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd"])
def test_every_data_file_counts(tmp_path: Path, name: str, kind: str) -> None:
    """What SimpleITK reads is what the digest is of: each file that is replaced changes both."""
    nrrd = name.endswith(".nrrd")
    last = LAST[kind].replace("{2}", " 2" if nrrd else "")
    (tmp_path / name).write_text((NRRD + "data file: " if nrrd else META + "ElementDataFile = ") + last)
    files = [tmp_path / file for file in (["all.raw"] if kind == "one" else ["s1.raw", "s2.raw"])]
    for file in files:
        file.write_bytes(bytes(range(24 // len(files))))
    assert volume_files(tmp_path / name) == (tmp_path / name, *files)
    seen = {(read_volume(tmp_path / name).array.tobytes(), file_digest(tmp_path / name))}
    for file in files:
        file.write_bytes(file.read_bytes()[::-1])
        seen.add((read_volume(tmp_path / name).array.tobytes(), file_digest(tmp_path / name)))
    assert len({array for array, _ in seen}) == len({digest for _, digest in seen}) == len(files) + 1
    files[-1].unlink()
    with pytest.raises(InputError):
        file_digest(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_that_holds_its_voxels_is_alone(tmp_path: Path, name: str, compressed: bool) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8)), str(tmp_path / name), compressed)
    assert volume_files(tmp_path / name) == (tmp_path / name,)


@pytest.mark.parametrize("last", ["s%d.raw", "s%d.raw 1 x 1", "s%d.raw 1 2 0", "s%d.raw 1 99999 1", "s%d.raw 5 1 1"])
def test_numbers_that_cannot_be_followed(tmp_path: Path, last: str) -> None:
    (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = {last}\n")
    with pytest.raises(InputError, match=r"a\.mhd: .*data files.*; save it in one file"):
        data_files(tmp_path / "a.mhd")
