"""What a cache folder holds, and its removal."""

from __future__ import annotations

import re
import time
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


def cache_content(folder: Path, older_than: float = 0) -> CacheContent:
    """What the entries not used for `older_than` seconds take; nothing where there is no such folder."""
    records = _records(folder)
    chosen = {key: used for key, used in records.items() if time.time() - used >= older_than}
    size = sum(_size(path) for path, key in _files(folder) if key in chosen)
    return CacheContent(len(chosen), size, tuple(sorted(chosen.values())))


def clear_cache(folder: Path, older_than: float = 0) -> CacheContent:
    """Removes the entries not used for `older_than` seconds, and what broken processes left behind. Files that are no
    part of a cache stay. Runs that read the cache prepare again what they still need.

    Raises:
        InputError: a file cannot be removed.
    """
    removed = cache_content(folder, older_than)
    records = _records(folder)
    chosen = {key for key, used in records.items() if time.time() - used >= older_than}
    try:
        for key in chosen:  # an entry without a record is none: nobody begins to read a half of it
            (folder / f"{key}{RECORD}").unlink(missing_ok=True)
        for path, of in _files(folder):
            if of in chosen or (of not in records and _age(path) > _ABANDONED):
                path.unlink(missing_ok=True)
        if not older_than:
            (folder / INDEX).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: a file cannot be removed ({error.strerror}); check the permissions") from error
    return removed


def _records(folder: Path) -> dict[str, float]:
    """When each entry was last used."""
    return {key: time.time() - _age(path) for path, key in _files(folder) if key and path.suffix == RECORD}


def _files(folder: Path) -> list[tuple[Path, str | None]]:
    """The cache's files with their keys, None for temporary ones."""
    if not folder.is_dir():
        return []
    found: list[tuple[Path, str | None]] = []
    for path in folder.iterdir():
        if match := _FILE.fullmatch(path.name):
            found.append((path, match["key"]))
        elif _TEMPORARY.fullmatch(path.name):
            found.append((path, None))
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone in the meantime
        return 0


def _age(path: Path) -> float:
    """Seconds since it was written."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
