"""The content of files as digests, without reading again what has not changed."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from medseg.data.volume import volume_files
from medseg.errors import InputError

__all__ = ["INDEX", "DigestIndex", "file_digest"]

INDEX = "digests.txt"
"""The name of an index in a cache folder."""

_Stamp = tuple[int, int, int, int, int]
_SETTLED_NS = 2_000_000_000  # a file changed within the clock's coarsest tick after it was read would look unchanged

_known: dict[_Stamp, bytes] = {}  # of this process: what a file with such a stamp holds never changes


def file_digest(path: Path) -> bytes:
    """SHA-256 of a volume's file; of several (DICOM series, MHD) of their digests.

    A file is read once: one of the same inode, size and times of writing and of change (which no program can set back)
    is the same.

    Raises:
        InputError: it cannot be read.
    """
    try:
        digests = [_digest(part) for part in volume_files(path)]
        return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); restore it") from error


class DigestIndex:
    """The digests of earlier processes, a line each in a file that grows. A line that is damaged, or that another
    process has written into, counts for nothing: its checksum says so.

    Args:
        path: read now; absent where nothing was kept yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: set[_Stamp] = set()
        try:
            lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return
        for stamp, digest in _read(lines):
            _known.setdefault(stamp, digest)
            self._kept.add(stamp)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process all that is sent there is one index: each copy would append what others have appended."""
        return _of_process, (self.path,)

    def keep(self) -> None:
        """Appends what this process has learned since. A folder that cannot be written keeps nothing: the next run
        reads the files again."""
        new = [stamp for stamp in _known if stamp not in self._kept]
        lines = [" ".join(map(str, (*stamp, _known[stamp].hex()))) for stamp in new]
        if not lines:
            return
        text = "".join(f"{zlib.crc32(line.encode()):08x} {line}\n" for line in lines)
        try:
            with self.path.open("ab", buffering=0) as file:  # appended in one piece
                file.write(b"\n" + text.encode())
        except OSError:
            return
        self._kept.update(new)


@cache
def _of_process(path: Path) -> DigestIndex:
    return DigestIndex(path)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(path: Path) -> bytes:
    stamp = _stamp(path.stat())
    if stamp in _known:
        return _known[stamp]
    begin = time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    if max(stamp[3:]) < begin - _SETTLED_NS and _stamp(path.stat()) == stamp:
        _known[stamp] = digest
    return digest


def _read(lines: Iterable[str]) -> Iterable[tuple[_Stamp, bytes]]:
    for line in lines:
        check, _, rest = line.partition(" ")
        if check != f"{zlib.crc32(rest.encode()):08x}":
            continue
        *stamp, digest = rest.split()
        dev, ino, size, written, changed = map(int, stamp)
        yield (dev, ino, size, written, changed), bytes.fromhex(digest)
