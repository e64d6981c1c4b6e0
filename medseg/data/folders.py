"""Cases in plain folders: images/ and labels/ of same stems, or images with the numbers of nnU-Net."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from medseg.data.case import Case
from medseg.data.description import Description
from medseg.data.listing import CHANNEL, Listing, orphan, refuse_twice
from medseg.data.volume import SUFFIXES, is_volume, strip_suffix
from medseg.errors import InputError

__all__ = ["list_folders"]


def list_folders(data_dir: Path, description: Description) -> Listing:
    """The cases in `images/`, each with the label of its name in `labels/`, where suffixes may differ. A folder in
    `images/` is the DICOM series of one case.

    Names like `a_0000`, `a_0001` are the channels of case `a` where the labels are named like that. `description` is
    what a dataset.json without cases says.

    Raises:
        InputError: no images, a missing channel, two files of one stem.
    """
    images, labels = _by_stem(data_dir / "images", series=True), _by_stem(data_dir / "labels")
    if not images:
        raise InputError(
            f"{data_dir / 'images'}: no volumes, expected files ending in {', '.join(SUFFIXES)}, or folders"
            " of a DICOM series each"
        )
    grouped = _grouped(images)
    if labels.keys() & grouped.keys() and not labels.keys() & images.keys():
        cases = [Case(name, _numbered(data_dir, name, files), labels.get(name)) for name, files in grouped.items()]
    else:
        cases = [Case(name, (path,), labels.get(name)) for name, path in images.items()]
    firsts = {case.name: case.images[0] for case in cases}
    orphans = [
        orphan(path, stem, data_dir / "images", firsts.values()) for stem, path in labels.items() if stem not in firsts
    ]
    return dataclasses.replace(Listing.of(description, cases, data_dir / "images"), orphans=tuple(orphans))


def _by_stem(folder: Path, series: bool = False) -> dict[str, Path]:
    """Volumes by name, and folders by theirs where they may be DICOM `series`. A link to nowhere is a volume that is
    missing, not a case without one."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [p for p in found if (series and p.name[0] != "." if p.is_dir() else is_volume(p))]
    refuse_twice((strip_suffix(path.name) for path in files), f"{folder}: two volumes named")
    return {strip_suffix(path.name): path for path in files}


def _grouped(images: dict[str, Path]) -> dict[str, dict[int, Path]]:
    """nnU-Net's names: `{"a": {0: a_0000.nii.gz, 1: a_0001.nii.gz}}`; empty where any name is otherwise."""
    cases: dict[str, dict[int, Path]] = {}
    for stem, path in images.items():
        match = CHANNEL.match(stem)
        if match is None:
            return {}
        cases.setdefault(match["case"], {})[int(match["channel"])] = path
    return cases


def _numbered(data_dir: Path, name: str, files: dict[int, Path]) -> tuple[Path, ...]:
    if sorted(files) != list(range(len(files))):
        found = ", ".join(f"{channel:04}" for channel in sorted(files))
        raise InputError(f"{data_dir / 'images'}: case {name} has channels {found}, expected 0000, 0001, ...; add them")
    return tuple(files[channel] for channel in sorted(files))
