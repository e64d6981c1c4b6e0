"""What is missing or damaged in the voxel data of an NRRD, MHA or MHD file.

ITK reads compressed data without its checksum, or gives whatever was in memory, and prints about missing data
on stderr. So it is looked at here before ITK reads.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from medseg.data.detached import header_of

__all__ = ["damage"]

_BYTES = {
    "CHAR": 1,
    "UCHAR": 1,
    "SHORT": 2,
    "USHORT": 2,
    "INT": 4,
    "UINT": 4,
    "LONG": 4,
    "ULONG": 4,
    "LONG_LONG": 8,
    "ULONG_LONG": 8,
    "FLOAT": 4,
    "DOUBLE": 8,
}


def damage(path: Path) -> str | None:
    """What is wrong with the voxel data, or None; None also where only ITK can tell (lists of data files, text).

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    return _nrrd(path) if path.suffix.lower() == ".nrrd" else _metaimage(path)


def _nrrd(path: Path) -> str | None:
    """Gzipped data in the file itself; ITK reports what is missing in other encodings."""
    fields, start = header_of(path)
    if fields.get("encoding") not in ("gzip", "gz") or "data file" in fields or "datafile" in fields:
        return None
    return _stream(path, start)


def _metaimage(path: Path) -> str | None:
    fields, start = header_of(path)
    name = fields.get("ElementDataFile", "")
    size = _BYTES.get(fields.get("ElementType", "").removeprefix("MET_"))
    text = not _is_true(fields.get("BinaryData", "True"))
    if size is None or text or not name or name.startswith("LIST") or "%" in name:
        return None
    for count in (*fields.get("DimSize", "").split(), fields.get("ElementNumberOfChannels", "1")):
        size *= int(count)
    data = path if name.lower() == "local" else path.parent / name
    if not data.is_file():
        return f"its data file {name!r:.80} is missing"
    if data != path:
        start = max(int(fields.get("HeaderSize", "0")), 0)
    if _is_true(fields.get("CompressedData", "False")):
        # of a file's own voxels ITK inflates as many bytes as the header says, and goes on where these are too few
        length = max(int(fields.get("CompressedDataSize", "0")), 0)
        return _stream(data, start, size, sys.maxsize if data != path and not length else length)
    return _missing(data.stat().st_size - start, size)


def _is_true(value: str) -> bool:
    """As MetaIO reads it."""
    return value[:1] in ("T", "t", "1")


def _stream(path: Path, start: int, size: int = 0, length: int = sys.maxsize) -> str | None:
    """What is wrong with the zlib or gzip stream of at most `length` bytes from `start`: not whole, by its checksum, or
    of less than `size` bytes when inflated; None where nothing is."""
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    found = 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            while not stream.eof and (chunk := file.read(min(1 << 20, length))):
                length -= len(chunk)
                while chunk and not stream.eof:
                    found += len(stream.decompress(chunk, 1 << 24))
                    chunk = stream.unconsumed_tail
        except zlib.error as error:
            return str(error)
    return _missing(found, size) if stream.eof else "the compressed data ends early"


def _missing(found: int, size: int) -> str | None:
    return f"{found} bytes of voxels, expected {size}" if found < size else None
