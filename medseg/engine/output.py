"""The folder of a run, and the lock on it."""

from __future__ import annotations

import atexit
import fcntl
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg import ranks
from medseg.errors import InputError
from medseg.files import make_folder, remove_torn

__all__ = ["locked", "new_output", "plan_path", "resume_command", "run_folder"]


def new_output(parent: str | os.PathLike[str] = "runs") -> str:
    """A fresh name below `parent` made of the time: `runs/20261121-225301`; the same for all processes."""
    return ranks.from_first(lambda: _new_output(parent))


def _new_output(parent: str | os.PathLike[str]) -> str:
    stem = Path(parent) / time.strftime("%Y%m%d-%H%M%S")
    path, number = stem, 1
    while path.exists():
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return str(path)


def run_folder(path: str | os.PathLike[str], resume: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a run: `path`, made where absent, or that of the run to `resume`. The first process alone looks.
    What it makes is removed when the process ends, if it is still empty then: the run was refused.

    Raises:
        InputError: `path` holds a run already, or cannot be written; `resume` holds none, or it is being trained.
    """
    return ranks.from_first(lambda: _run_folder(path, resume))


def _run_folder(path: str | os.PathLike[str], resume: str | os.PathLike[str] | None) -> Path:
    if resume is not None:
        return _resumed(Path(resume))
    path = Path(path)
    if (path / "config.yaml").exists() or any(path.glob("checkpoints/*.pt")):
        raise InputError(
            f"{path}: holds a run already; go on with it (--resume {path}), choose another output folder, or remove it"
        )
    new = [folder for folder in (path.absolute(), *path.absolute().parents) if not folder.exists()]
    atexit.register(_remove_empty, new)
    return make_folder(path)


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for folder in folders:  # innermost first
            folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes, except those of this run, out of its folder; the lock ends with this process, however that
    ends.

    Raises:
        InputError: another process is in it.
    """
    if not ranks.is_first():
        yield
        return
    with (make_folder(folder) / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "another one"
            raise InputError(f"{folder}: is being trained by process {owner}; wait for its end, or stop it") from error
        except OSError as error:  # some network file systems know no locks
            warning = f"Warning: {folder}: cannot be locked ({error.strerror}); let no other process resume this run"
            print(warning, file=sys.stderr)
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}")
        file.flush()
        yield


def plan_path(plan_file: str | os.PathLike[str] | None, resume: str | os.PathLike[str] | None = None) -> Path | None:
    """The plan to use instead of planning anew: `plan_file`, or that of the run to `resume`; None where is neither."""
    if plan_file is not None:
        return Path(plan_file)
    own = Path(resume) / "plan.yaml" if resume is not None else None
    return own if own is not None and own.exists() else None


def resume_command(folder: str | os.PathLike[str]) -> str:
    """What to type to go on with a run."""
    return f"medseg train --resume {shlex.quote(str(folder))}"


def _resumed(folder: Path) -> Path:
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{folder}: no run to resume; expected the folder of a run that has begun to train, with its config.yaml"
        )
    make_folder(folder)
    with locked(folder):
        remove_torn(folder)
    return folder
