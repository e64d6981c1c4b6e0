"""Cases in the layout of the Medical Segmentation Decathlon: a dataset.json that lists images and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.description import annotated_values, describe
from medseg.data.listing import Listing, case_name
from medseg.data.volume import strip_suffix, suffix_of
from medseg.errors import InputError

__all__ = ["list_decathlon"]


def list_decathlon(path: Path, content: Mapping[str, Any]) -> Listing:
    """The cases under `training` of a `dataset.json`; its `test` (images without labels) is not used.

    A case may also say `"annotated"` (the label values or class names looked for) and `"group"` (the patient).

    Files may be numbered by channel without being listed so, as nnU-Net v1 does.

    Raises:
        InputError: dataset.json is broken.
    """
    entries = content.get("training")
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f'{path}: no list of cases under "training"; expected [{{"image": "imagesTr/a.nii.gz", "label":'
            ' "labelsTr/a.nii.gz"}, ...]'
        )
    description = describe(path, content)
    files = [_entry(path, entry) for entry in entries]
    files = [(_numbered(images, max(len(description.channels), 1)), label) for images, label in files]
    names = [case_name(images) for images, _ in files]
    if all(name.endswith("_0000") for name in names):  # a single channel, numbered as nnU-Net does
        names = [name.removesuffix("_0000") for name in names]
    cases = []
    for name, (images, label), entry in zip(names, files, entries, strict=True):
        more = entry if isinstance(entry, dict) else {}
        annotated = annotated_values(f"{path}: case {name}", more.get("annotated"), description.classes)
        cases.append(Case(name, images, label, annotated, _group(path, name, more.get("group"))))
    return Listing.of(description, cases, path)


def _entry(path: Path, entry: object) -> tuple[tuple[Path, ...], Path | None]:
    images = entry.get("image") if isinstance(entry, dict) else entry
    label = entry.get("label") if isinstance(entry, dict) else None
    names: list[Any] = images if isinstance(images, list) else [images]
    if not names or not all(isinstance(name, str) for name in names) or not isinstance(label, str | None):
        raise InputError(
            f'{path}: case {entry!r} under "training", expected'
            f' {{"image": FILE or [FILE, ...], "label": FILE}} (no "label" where there is none)'
        )
    return tuple(path.parent / name for name in names), path.parent / label if label else None


def _numbered(images: tuple[Path, ...], channels: int) -> tuple[Path, ...]:
    """The files of nnU-Net v1, which lists `a.nii.gz` where there are `a_0000.nii.gz`, ...; else `images`."""
    if len(images) > 1 or images[0].exists():
        return images
    stem = strip_suffix(images[0].name)
    parts = tuple(images[0].with_name(f"{stem}_{channel:04}{suffix_of(images[0].name)}") for channel in range(channels))
    return parts if all(part.is_file() for part in parts) else images


def _group(path: Path, name: str, group: object) -> str | None:
    if group is None or group == "":
        return None
    if isinstance(group, str | int):
        return str(group)
    raise InputError(f'{path}: case {name} has "group" {group!r:.80}, expected the name or number of a patient')
