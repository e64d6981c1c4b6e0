"""What a cache folder holds, and its removal."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.digests import INDEX
from medseg.data.entries import RECORD
from medseg.errors import InputError

__all__ = ["CacheContent", "cache_content", "clear_cache"]

_FILE = re.compile(r"(?P<key>[0-9a-f]{32})(\.[a-z]+\.npy|\.record|\.lock)")
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp\.[0-9a-f]{32}\..*")
_ABANDONED = 86_400.0  # seconds: a temporary file, or an array without a record, that no process writes any more


@dataclass(frozen=True)
class CacheContent:
    """Entries (one for a case's images, one for its label), their bytes, and when each was last used, seconds since
    1970."""

    entries: int
    size: int
    used: tuple[float, ...]


@dataclass(frozen=True)
class _File:
    """A file of a cache: the key of its entry, None of a temporary one; its bytes; when it was written."""

    path: Path
    key: str | None
    size: int
    written: float


def cache_content(folder: Path, older_than: float = 0) -> CacheContent:
    """What the entries not used for `older_than` seconds take; nothing where there is no such folder."""
    files = _files(folder)
    return _content(files, _entries(files, older_than))


def clear_cache(folder: Path, older_than: float = 0) -> CacheContent:
    """Removes the entries not used for `older_than` seconds, and what broken processes left behind. Files that are no
    part of a cache stay. Runs that read the cache prepare again what they still need.

    Raises:
        InputError: a file cannot be removed.
    """
    files = _files(folder)
    kept, chosen = _entries(files), _entries(files, older_than)
    try:
        for key in chosen:  # an entry without a record is none: nobody begins to read a half of it
            (folder / f"{key}{RECORD}").unlink(missing_ok=True)
        for file in files:
            if file.key in chosen or (file.key not in kept and time.time() - file.written > _ABANDONED):
                file.path.unlink(missing_ok=True)
        if not older_than:
            (folder / INDEX).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: a file cannot be removed ({error.strerror}); check the permissions") from error
    return _content(files, chosen)


def _content(files: Sequence[_File], used: Mapping[str, float]) -> CacheContent:
    return CacheContent(len(used), sum(file.size for file in files if file.key in used), tuple(sorted(used.values())))


def _entries(files: Iterable[_File], older_than: float = -math.inf) -> dict[str, float]:
    """When each entry that was not used for `older_than` seconds was last used: its record says so."""
    records = {file.key: file.written for file in files if file.key and file.path.suffix == RECORD}
    return {key: used for key, used in records.items() if time.time() - used >= older_than}


def _files(folder: Path) -> list[_File]:
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        if match or _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # gone in the meantime
                status = path.stat()
                found.append(_File(path, match["key"] if match else None, status.st_size, status.st_mtime))
    return found
