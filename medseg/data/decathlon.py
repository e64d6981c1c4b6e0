"""Cases in the layout of the Medical Segmentation Decathlon: a dataset.json that lists images and labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.description import annotated_values, describe
from medseg.data.listing import Fold, Listing, Part, case_name
from medseg.data.volume import strip_suffix, suffix_of
from medseg.errors import InputError

__all__ = ["list_decathlon"]


def list_decathlon(path: Path, content: Mapping[str, Any]) -> Listing:
    """The cases under `training` and `validation` of a `dataset.json`; its `test` (images without labels) is not used.

    A case may also say `"annotated"` (the label values or class names looked for) and `"group"` (the patient), one
    under `training` also `"fold"`, as in MONAI's Auto3DSeg: in which fold it validates, from 0, where it has a label.

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
    judged = content.get("validation") or []
    if not isinstance(judged, list):
        raise InputError(f'{path}: "validation" is {judged!r:.80}, expected a list of cases as under "training"')
    trained, entries = len(entries), [*entries, *judged]
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
    for case in cases[trained:]:
        if case.label is None:
            raise InputError(
                f'{path}: case {case.name} under "validation" has no label; add it or move it to "training"'
            )
    parts: dict[str, Part] = {case.name: "validation" for case in cases[trained:]}
    folds = _folds(path, cases[:trained], entries)
    return dataclasses.replace(Listing.of(description, cases, path), parts=parts, folds=folds)


def _folds(path: Path, cases: Sequence[Case], entries: Sequence[object]) -> tuple[Fold, ...]:
    """The folds of Auto3DSeg; what names none trains in all of them."""
    numbers = [entry.get("fold") if isinstance(entry, dict) else None for entry in entries[: len(cases)]]
    pairs = list(zip(cases, numbers, strict=True))
    for case, number in pairs:
        if number is not None and (type(number) is not int or not 0 <= number < len(cases)):
            raise InputError(f'{path}: case {case.name} has "fold" {number!r:.80}, expected 0, 1, 2, ...; correct it')
    return tuple(
        Fold(
            tuple(case.name for case, number in pairs if number != k),
            tuple(case.name for case, number in pairs if number == k and case.label),
        )
        for k in range(max((number + 1 for number in numbers if number is not None), default=0))
    )


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
