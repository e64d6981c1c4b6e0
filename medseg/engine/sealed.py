"""A checkpoint file: written whole or not at all, sealed with its own checksum, read without running code."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medseg.errors import InputError
from medseg.files import writing

__all__ = ["load_checkpoint", "save_checkpoint"]

_MARK = b"medseg sha256 "
_SEAL = len(_MARK) + 64


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes `state`; an earlier file stays until the new one is on the disk.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path) as temporary:
        try:
            torch.save(dict(state), temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(errno.ENOSPC, str(error).splitlines()[0]) from error
        _seal(temporary)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint, to the CPU, without running code (`weights_only`).

    Raises:
        InputError: the file is missing, is no checkpoint, or has changed since it was written.
    """
    path = Path(path)
    try:
        if not _whole(path):
            raise InputError(f"{path}: damaged (not the file that was written: its checksum is another); restore it")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error


def _seal(path: Path) -> None:
    """Appends the checksum as the comment of the ZIP archive that the file is, which all readers of those allow."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # the last field: the comment's length
        file.write(_SEAL.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest.encode())


def _whole(path: Path) -> bool:
    digest = hashlib.sha256()
    left = path.stat().st_size - _SEAL
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return file.read() == _MARK + digest.hexdigest().encode()
