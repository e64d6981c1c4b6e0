from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from medseg.data.volume import read_volume
from medseg.errors import InputError

HEADER = """ObjectType = Image
NDims = 3
DimSize = 20 20 10
ElementSpacing = 1 1 3
ElementType = MET_SHORT
"""
ARRAY = np.arange(4000, dtype="<i2")
PACKED = zlib.compress(ARRAY.tobytes())


def save(path: Path, fields: str, data: bytes, file: str = "LOCAL") -> Path:
    path.write_bytes(f"{HEADER}{fields}\nElementDataFile = {file}\n".encode() + (data if file == "LOCAL" else b""))
    if file != "LOCAL":
        (path.parent / file).write_bytes(data)
    return path


@pytest.mark.parametrize("file", ["LOCAL", "Bäume 木.raw"])
@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ("BinaryData = True", ARRAY.tobytes()),
        (f"CompressedData = True\nCompressedDataSize = {len(PACKED)}", PACKED),
        (f"CompressedData = T\nCompressedDataSize = {len(PACKED)}", PACKED),
    ],
)
def test_what_is_whole_is_read(tmp_path: Path, fields: str, data: bytes, file: str) -> None:
    volume = read_volume(save(tmp_path / "a.mhd", fields, data, file))
    np.testing.assert_array_equal(volume.array.ravel(order="F"), ARRAY)


def test_text_is_whole_though_its_bytes_are_less_than_its_voxels(tmp_path: Path) -> None:
    header = HEADER.replace("SHORT", "DOUBLE")
    (tmp_path / "a.mha").write_text(f"{header}BinaryData = False\nElementDataFile = LOCAL\n{'7 ' * 4000}")
    assert (read_volume(tmp_path / "a.mha").array == 7).all()


@pytest.mark.parametrize("size", ["", "CompressedDataSize = 10"])
def test_less_compressed_bytes_than_there_are_is_damage(tmp_path: Path, size: str) -> None:
    """ITK would give whatever was in memory."""
    path = save(tmp_path / "a.mha", f"CompressedData = True\n{size}", PACKED)
    with pytest.raises(InputError, match="the compressed data ends early"):
        read_volume(path)
