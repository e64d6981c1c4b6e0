"""What the user names on the command line: files and folders become cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.data.case import Case
from medseg.data.volume import SUFFIXES, is_volume, strip_suffix
from medseg.errors import InputError

__all__ = ["find_cases"]


def find_cases(inputs: Sequence[Path], channels: int) -> list[Case]:
    """Cases from files and folders, in the order given, a folder's by name.

    With several channels the files of a case are `NAME_0000`, `NAME_0001` and so on; with one channel a trailing
    `_0000` is dropped from the name.

    Raises:
        InputError: an input is missing or no volume, a folder holds none, a channel is missing, a name comes twice.
    """
    files = [file for path in inputs for file in _files(Path(path))]
    parts: dict[str, dict[int, Path]] = {}
    for file in files:
        name, channel = _name_and_channel(file)
        other = parts.setdefault(name, {}).get(channel)
        if other is not None and other != file:
            raise InputError(f"{file}: the same case name as {other}; outputs would overwrite each other, rename one")
        parts[name][channel] = file
    for name, found in parts.items():
        if sorted(found) != list(range(channels)):
            raise InputError(
                f"{next(iter(found.values()))}: case {name} has channel files {sorted(found)}, the model expects "
                f"{channels}: " + ", ".join(f"{name}_{i:04d}" for i in range(channels))
            )
    return [Case(name, tuple(found[i] for i in range(channels)), None) for name, found in parts.items()]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and is_volume(file))
        if not found:
            raise InputError(f"{path}: no volumes in this folder; expected files ending in {', '.join(SUFFIXES)}")
        return found
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not is_volume(path):
        raise InputError(f"{path}: not a volume by its name; expected one of {', '.join(SUFFIXES)}")
    return [path]


def _name_and_channel(file: Path) -> tuple[str, int]:
    name = strip_suffix(file.name)
    stem, separator, digits = name.rpartition("_")
    if separator and stem and len(digits) == 4 and digits.isdigit():
        return stem, int(digits)
    return name, 0
