"""Cases in the layout of the Medical Segmentation Decathlon: a dataset.json that lists images and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.listing import CHANNEL, Listing, unknown_channels
from medseg.data.volume import strip_suffix
from medseg.errors import InputError

__all__ = ["list_decathlon", "read_json"]


def list_decathlon(data_dir: Path) -> Listing:
    """The cases under `training` of `dataset.json`; its `test` (images without labels) is not used.

    Raises:
        InputError: dataset.json is broken.
    """
    path = data_dir / "dataset.json"
    content = read_json(path)
    entries = content.get("training")
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f'{path}: no list of cases under "training"; expected [{{"image": "imagesTr/a.nii.gz", "label":'
            ' "labelsTr/a.nii.gz"}, ...]'
        )
    files = [_entry(path, entry) for entry in entries]
    stems = [[strip_suffix(image.name) for image in images] for images, _ in files]
    numbered = all(CHANNEL.match(stem[0]) and stem[0].endswith("_0000") for stem in stems)
    cases = tuple(
        Case(CHANNEL.sub(r"\g<case>", stem[0]) if numbered or len(stem) > 1 else stem[0], images, label)
        for stem, (images, label) in zip(stems, files, strict=True)
    )
    modality = content.get("modality") or content.get("channel_names") or {}
    if not isinstance(modality, dict):
        raise InputError(f'{path}: "modality" is {modality!r}, expected {{"0": "CT"}}')
    channels = tuple(str(modality[key]) for key in sorted(modality, key=lambda key: (len(str(key)), str(key))))
    name = str(content.get("name") or data_dir.resolve().name)
    return Listing(name, channels or unknown_channels(cases), _classes(path, content.get("labels")), cases)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        InputError: not readable, not JSON, or not a mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected a mapping {{...}}")
    return content


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


def _classes(path: Path, labels: object) -> dict[int, str]:
    """Both forms: `{"0": "background", "1": "liver"}` and `{"background": 0, "liver": 1}`."""
    expected = f'{path}: "labels" is {labels!r}, expected {{"0": "background", "1": NAME, ...}}'
    if not isinstance(labels, dict) or not labels:
        raise InputError(expected)
    classes: dict[int, str] = {}
    for key, value in labels.items():
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not isinstance(name, str) or not str(number).isdecimal():
            raise InputError(f"{expected}; {key!r}: {value!r} is neither form")
        if int(number) in classes:
            raise InputError(f"{expected}; {number} is there twice")
        classes[int(number)] = name
    if sorted(classes) != list(range(len(classes))) or len(classes) < 2:
        raise InputError(f"{expected}, numbered 0, 1, 2, ... without gaps; renumber the labels")
    return dict(sorted(classes.items()))
