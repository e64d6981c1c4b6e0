"""The folder of a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from medseg.errors import InputError
from medseg.files import make_folder

__all__ = ["new_output", "run_folder"]


def new_output(parent: str | os.PathLike[str] = "runs") -> str:
    """A fresh name below `parent` made of the time: `runs/20261121-225301`."""
    stem = Path(parent) / time.strftime("%Y%m%d-%H%M%S")
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return str(path)


def run_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `path`, made where absent.

    Raises:
        InputError: it holds a run already, or cannot be written.
    """
    path = Path(path)
    if (path / "config.yaml").exists() or any(path.glob("checkpoints/*.pt")):
        raise InputError(f"{path}: holds a run already; choose another output folder, or remove this one")
    return make_folder(path)
