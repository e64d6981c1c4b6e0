"""The tasks of the Medical Segmentation Decathlon from the net, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import psutil

from medseg.data.decathlon_channels import split_channels
from medseg.data.layouts import list_cases
from medseg.errors import InputError, nearest
from medseg.files import make_folder

__all__ = ["LICENCE", "FetchError", "fetch_task", "task_name", "task_names"]

LICENCE = (
    "Medical Segmentation Decathlon (Antonelli et al., Nature Communications 13, 4128, 2022), CC BY-SA 4.0:"
    " name the source, share changes under the same licence (https://creativecommons.org/licenses/by-sa/4.0/)"
)

_SILENCE = 60.0  # seconds without a byte after which a connection counts as broken
_OUR_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class FetchError(Exception):
    """The net or the server failed, not the user; one line."""


def task_names() -> tuple[str, ...]:
    """The tasks that MONAI knows an address and a checksum of."""
    from monai.apps import DecathlonDataset

    return tuple(DecathlonDataset.resource)


def task_name(name: str) -> str:
    """The full name: `Task04_Hippocampus` for that, `Task04` or `hippocampus`.

    Raises:
        InputError: no such task.
    """
    known = {form.lower(): full for full in task_names() for form in (full, *full.split("_"))}
    if name.lower() not in known:
        raise InputError(
            f"{name}: no task of the Medical Segmentation Decathlon{nearest(name.lower(), known)}; expected one of"
            f" {', '.join(task_names())}"
        )
    return known[name.lower()]


def fetch_task(name: str, folder: str | os.PathLike[str], url: str | None = None, progress: bool = False) -> Path:
    """Downloads a task through MONAI, checks its MD5 sum, unpacks it and puts it into `folder/NAME`.

    Everything happens in a hidden folder beside it that is renamed at the end, or removed: there is never half a data
    set. A `NAME.tar` with the right sum in `folder` is used instead of downloading; one that was downloaded but could
    not be unpacked is kept there. Images of several channels in one 4-D file become one file a channel.

    Args:
        name: as `task_name` gives it.
        folder: made where absent.
        url: another address of the same file.
        progress: whether MONAI draws a progress bar.

    Returns:
        The data's folder; what is there already is left as it is.

    Raises:
        InputError: the folder cannot be written, or its disk is full; the archive is not such a task.
        FetchError: no connection, a broken one, or another file than expected.
    """
    from monai.apps import DecathlonDataset

    folder = make_folder(folder)
    target = folder / name
    if target.is_dir() and any(target.iterdir()):
        return target
    md5 = DecathlonDataset.md5[name]
    _clear_leftovers(folder, name)
    work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}.{socket.gethostname()}.{os.getpid()}."))
    kept = folder / f"{name}.tar"
    try:
        with _quiet_monai(), _temporary_files_in(work):
            archive = _archive(kept, work, url or DecathlonDataset.resource[name], md5, progress)
            try:
                _unpack(archive, work / "unpacked", name)
            except OSError:  # a full disk: what was downloaded is worth keeping
                archive.replace(kept)
                raise
            (work / "unpacked" / name).replace(target)
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror or error}); free space or choose another output folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _archive(kept: Path, work: Path, url: str, md5: str, progress: bool) -> Path:
    """The archive with that sum: the one that is there, or a new one in `work`."""
    from monai.apps import check_hash, download_url
    from monai.apps.utils import HashCheckError

    if kept.is_file():
        if not check_hash(kept, md5, "md5"):
            raise InputError(f"{kept}: not the published archive (its MD5 sum is not {md5}); remove it to download it")
        return kept
    archive = work / kept.name
    try:
        download_url(url, archive, md5, "md5", progress)
    except HashCheckError as error:
        raise FetchError(
            f"{url}: not the published archive (its MD5 sum is not {md5}); try again, or another --url"
        ) from error
    except (OSError, HTTPException, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _OUR_DISK:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FetchError(f"{url}: not downloaded ({reason}); check the connection and try again") from error
    if not archive.is_file():  # MONAI says nothing where it may not write
        raise InputError(f"{archive.parent.parent}: cannot be written; choose another output folder")
    return archive


def _unpack(archive: Path, folder: Path, name: str) -> None:
    from monai.apps import extractall

    try:
        extractall(archive, folder, file_type="tar", has_base=False)
        split_channels(folder / name / "dataset.json")
        listing = list_cases(folder / name)
    except (ValueError, tarfile.TarError, EOFError) as error:
        raise InputError(f"{archive.name}: not unpacked ({error}); it is no safe archive of {name}") from error
    for case in listing.cases:
        for path in case.files:
            if not path.is_file():
                raise InputError(f"{archive.name}: {path.relative_to(folder)} is missing in it; download it again")


@contextmanager
def _quiet_monai() -> Iterator[None]:
    """MONAI logs to stdout what is said here in one line; a server that falls silent ends the download."""
    logger = logging.getLogger("monai.apps")
    level, timeout = logger.level, socket.getdefaulttimeout()
    logger.setLevel(logging.CRITICAL)
    socket.setdefaulttimeout(_SILENCE)
    try:
        yield
    finally:
        logger.setLevel(level)
        socket.setdefaulttimeout(timeout)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """MONAI downloads into the system's folder for temporary files, which may be too small for 27 GB."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _clear_leftovers(folder: Path, name: str) -> None:
    """Removes what runs of this machine left that were killed."""
    start = f".{name}.{socket.gethostname()}."
    for path in folder.glob(f"{start}*"):
        pid = path.name.removeprefix(start).partition(".")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
