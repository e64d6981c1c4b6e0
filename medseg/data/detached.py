"""The files that hold the voxels of a header: NRRD and MetaImage may name one, list several, or number them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from medseg.errors import InputError

__all__ = ["data_files", "header_of"]

_MOST_FILES = 10_000
_NUMBER = re.compile(r"%0?[0-9]?d")


def data_files(path: Path) -> tuple[Path, ...]:
    """The files of the voxels of an NRRD, MHA or MHD file, in their order; none where it holds them itself.

    Raises:
        InputError: files are numbered in a way that cannot be followed.
        OSError: the file cannot be read.
    """
    nrrd = path.suffix.lower() == ".nrrd"
    fields, start = header_of(path)
    name = fields.get("data file", fields.get("datafile", "")) if nrrd else fields.get("ElementDataFile", "")
    if not name or (not nrrd and name.lower() == "local"):
        return ()
    words = name.split()
    if words[0] == "LIST":
        with path.open("rb") as file:
            file.seek(start)
            names = os.fsdecode(file.read()).splitlines()
        names = [line.strip() for line in names if line.strip()]
    elif _NUMBER.search(words[0]):
        names = _numbered(path, words)
    else:
        names = [name]
    return tuple(path.parent / name for name in names)


def header_of(path: Path) -> tuple[Mapping[str, str], int]:
    """The fields of an NRRD, MHA or MHD file (of NRRD in lower case), and where what follows the header begins."""
    nrrd = path.suffix.lower() == ".nrrd"
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(4096):
            key, _, value = os.fsdecode(line).partition(":" if nrrd else "=")
            key, value = key.strip().lower() if nrrd else key.strip(), value.strip()
            fields[key] = value
            if key == ("" if nrrd else "ElementDataFile") or (key in ("data file", "datafile") and value[:4] == "LIST"):
                break
        return fields, file.tell()


def _numbered(path: Path, words: list[str]) -> list[str]:
    """The names of `slice_%03d.raw FIRST LAST STEP`."""
    try:
        first, last, step = map(int, words[1:4])
        numbers = range(first, last + (1 if step > 0 else -1), step)
    except ValueError as error:
        raise InputError(
            f"{path}: data files {' '.join(words)!r:.80}, expected such as slice_%03d.raw 1 40 1; save it in one file"
        ) from error
    if not 0 < len(numbers) <= _MOST_FILES:
        raise InputError(f"{path}: {len(numbers)} data files, expected 1 to {_MOST_FILES}; save it in one file")
    place = _NUMBER.findall(words[0])[0]
    return [words[0].replace(place, place % number) for number in numbers]
