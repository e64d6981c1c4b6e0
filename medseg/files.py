"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import InputError

__all__ = ["make_folder", "remove_torn", "write_rows", "write_text", "writing"]


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` with the same suffixes; on success it is synced and renamed to `path`.

    Whatever goes wrong inside, an earlier file at `path` stays as it was and the temporary one is removed.

    Raises:
        InputError: the file cannot be written: a full disk, a folder without permission.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(4)}.tmp.{path.name}"
    try:
        # not mkstemp, whose files are private: the process's umask could only be read by changing it for all threads
        temporary.open("xb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from error
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another output folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path` as UTF-8, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: str | os.PathLike[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Writes `rows` as CSV, whole or not at all: a column for each name, in the order in which they first appear. What
    a row has not, and None, is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def remove_torn(folder: str | os.PathLike[str]) -> None:
    """Removes the temporary files that a process which was killed left in and below `folder`. Nobody else may write
    there."""
    for path in Path(folder).rglob(".*.tmp.*"):
        path.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made where absent and known to be writable.

    Raises:
        InputError: it cannot be made, is a file, or cannot be written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path}: not a writable folder ({error.strerror}); choose another one") from error
    return path


def _sync_folder(folder: Path) -> None:
    """Has the disk remember a rename: without this it may forget it when the machine goes down."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
