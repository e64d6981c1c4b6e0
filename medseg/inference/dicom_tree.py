"""The DICOM series of a folder by name, also where several lie in one folder as a PACS exports them."""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import SimpleITK as sitk

from medseg.data.dicom import series_description

__all__ = ["safe_name", "series_of", "source"]

_LONGEST = 100  # of the 255 bytes that file systems allow
_sources: dict[Path, Path] = {}  # of temporary folders


def series_of(folder: Path) -> dict[str, Path]:
    """The series in `folder` itself: by name, the folder of each. A single one has the name "" and is the folder.

    Several are told apart by their description or, where that is missing or double, by their number in the list; the
    folder of each is a temporary one with links to its files.
    """
    uids = list(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
    if len(uids) < 2:
        return {"": folder} if uids else {}
    found: dict[str, Path] = {}
    for number, uid in enumerate(sorted(uids), 1):
        files = [Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)]
        name = safe_name(series_description(files[0]) or f"series_{number}")
        while name in found:
            name = f"{name}_{number}"
        place = Path(tempfile.mkdtemp(dir=_staging(), prefix=f"{name}_"))
        _sources[place] = folder
        for i, file in enumerate(files):
            (place / f"{i:05d}_{file.name}").symlink_to(file.resolve())
        found[name] = place
    return found


def source(path: Path) -> Path:
    """The folder that a temporary one of `series_of` stands for; another path is its own source."""
    return _sources.get(path, path)


def safe_name(text: str) -> str:
    """A file's name from any text: patients' folders and descriptions hold every character. One of more than 100 bytes
    is cut, and ends in a digest of the text."""
    name = re.sub(r"[^\w.-]+", "_", text).strip("._")
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST - 9].decode(errors='ignore')}_{digest}"


@cache
def _staging() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="medseg-dicom-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
