"""Entries of the cache: `.npy` files and, written last, the record that makes them one and says what they must be."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.stored import ArrayFile
from medseg.errors import InputError
from medseg.files import writing

__all__ = ["RECORD", "Entry", "one_at_a_time", "read_entry", "write_entry"]

RECORD = ".record"
"""The suffix of a record. Its time of writing is, within the hour, that of the entry's last use."""

_USE_NOTED = 3600.0  # seconds: how exactly the time of the last use is kept


@dataclass(frozen=True)
class Entry:
    """Arrays by kind, and what was said about them when they were written."""

    arrays: dict[str, ArrayFile]
    about: dict[str, Any]


def write_entry(folder: Path, key: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Writes the entry `key` of `folder`, whole or not at all.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    files = {}
    for kind, array in arrays.items():
        path = folder / f"{key}.{kind}.npy"
        with writing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
            offset = file.tell() - array.nbytes
        files[kind] = {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "offset": offset,
            "crc32": _checksum(path),
            **_stamp(path),
        }
    _write_record(folder / f"{key}{RECORD}", {"files": files, "about": about})


def read_entry(folder: Path, key: str) -> Entry | None:
    """The entry, None where it is absent or torn.

    Each file must have the size and the time of writing that the record names; where the time differs (a copied
    cache, a file that somebody wrote to) its checksum decides. So damage done by writing is found; a disk that
    changes bytes by itself is not.
    """
    path = folder / f"{key}{RECORD}"
    try:
        check, _, text = path.read_text(encoding="utf-8").partition("\n")
        if check != _check(text):
            return None
        record = json.loads(text)
        files = record["files"]
        stamps = {kind: _stamp(folder / f"{key}.{kind}.npy") for kind in files}
        if any(stamps[kind]["size"] != file["size"] for kind, file in files.items()):
            return None
        moved = [kind for kind, file in files.items() if stamps[kind]["written"] != file["written"]]
        if any(_checksum(folder / f"{key}.{kind}.npy") != files[kind]["crc32"] for kind in moved):
            return None
        arrays = {
            kind: ArrayFile(folder / f"{key}.{kind}.npy", tuple(file["shape"]), file["dtype"], file["offset"])
            for kind, file in files.items()
        }
        entry = Entry(arrays, record["about"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    with contextlib.suppress(OSError, InputError):  # a cache that is only read keeps its records
        if moved:
            for kind in moved:
                files[kind] |= stamps[kind]
            _write_record(path, record)
        elif time.time() - path.stat().st_mtime > _USE_NOTED:
            os.utime(path)
    return entry


@contextlib.contextmanager
def one_at_a_time(folder: Path, key: str) -> Iterator[None]:
    """Lets one process at a time prepare an entry: of runs that begin together one does the work. Processes that end
    let go by ending; where the file system has no locks all do the work, with equal results."""
    path = folder / f"{key}.lock"
    descriptor = None
    try:
        while descriptor is None:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:  # removed by who had it: others may hold a new one
                os.close(descriptor)
                descriptor = None
    except OSError:
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    with writing(path) as temporary:
        text = json.dumps(record)
        temporary.write_text(f"{_check(text)}\n{text}", encoding="utf-8")


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "written": status.st_mtime_ns}


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            total = zlib.crc32(piece, total)
    return total
