"""What a dataset.json says of a dataset besides its cases: name, channels, classes, regions, kind of labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.plan import Region

__all__ = ["IGNORE_NAME", "Description", "annotated_values", "describe", "read_json"]

IGNORE_NAME = "ignore"
"""The class of voxels that say nothing: they neither train nor judge."""


@dataclass(frozen=True)
class Description:
    """What dataset.json says; `name` and `channels` are empty and `classes` None where it does not."""

    name: str = ""
    channels: tuple[str, ...] = ()
    classes: dict[int, str] | None = None
    regions: tuple[Region, ...] = ()
    soft: bool = False


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        InputError: not readable, not JSON, or not a mapping.
    """
    content = _loaded(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: a {type(content).__name__}, expected a mapping {{...}}")
    return content


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); correct it") from error


def describe(path: Path, content: Mapping[str, Any], needs_classes: bool = True) -> Description:
    """The description in `content`, which was read from `path`.

    `labels` are `{"0": "background", "1": "liver"}`, `{"background": 0, "liver": 1}`, or nnU-Net's with lists of values
    for regions that overlap; `regions` may also stand for themselves. `regions_class_order` says which value each
    region is painted with; without it, it is the one value that no later region has.

    Raises:
        InputError: a field is not as expected; `labels` is absent though `needs_classes`.
    """
    modality = content.get("channel_names") or content.get("modality") or {}
    if not isinstance(modality, dict):
        raise InputError(f'{path}: "modality" is {modality!r:.80}, expected {{"0": "CT"}}')
    channels = tuple(str(modality[key]) for key in sorted(modality, key=lambda key: (len(str(key)), str(key))))
    name = str(content.get("name") or "")
    kind = content.get("label_type", "hard")
    if kind not in ("hard", "soft"):
        raise InputError(f'{path}: "label_type" is {kind!r:.80}, expected "soft" or "hard"')
    if "labels" not in content and not needs_classes:
        if kind == "soft" or content.get("regions"):
            raise InputError(f'{path}: soft labels and regions need "labels", {{"0": "background", "1": NAME, ...}}')
        return Description(name, channels)
    classes, regions = _classes(path, content.get("labels"))
    if content.get("regions"):
        if regions:
            raise InputError(f'{path}: regions in "labels" and again in "regions"; keep one of them')
        regions = _own_regions(path, content["regions"])
    for region, values in regions.items():
        unknown = [value for value in values if not 0 < value < 2**15 or classes.get(value) in (None, IGNORE_NAME)]
        if unknown:
            known = ", ".join(str(value) for value, name in classes.items() if value and name != IGNORE_NAME)
            raise InputError(f"{path}: region {region} holds {unknown[0]}, which is no class; expected some of {known}")
    if regions and kind == "soft":
        raise InputError(f'{path}: "label_type" is soft, but there are regions; regions need label maps')
    if kind == "soft" and IGNORE_NAME in classes.values():
        raise InputError(
            f'{path}: "label_type" is soft, but there is a class {IGNORE_NAME}, which has no probability; leave it out'
            " and give its voxels the probabilities that are likely, or use label maps"
        )
    return Description(
        name, channels, classes, _painted(path, regions, content.get("regions_class_order")), kind == "soft"
    )


def annotated_values(where: str, value: object, classes: Mapping[int, str] | None) -> tuple[int, ...] | None:
    """The label values that were looked for in a case, from values, class names, or a text with `;` between them.

    Returns:
        Ascending values without the background; None (all were looked for) where nothing is said.

    Raises:
        InputError: not such a list, or a name or value that is no class.
    """
    if value is None or value == "":
        return None
    words = value.split(";") if isinstance(value, str) else value if isinstance(value, list) else [value]
    by_name = {name: number for number, name in (classes or {}).items()}
    values = set()
    for word in (str(word).strip() for word in words):
        number = int(word) if word.isdecimal() else by_name.get(word)
        if number is None or (classes is not None and number not in classes):
            known = "; ".join(by_name) or "label values"
            raise InputError(f"{where}: annotated is {value!r:.80}, but {word!r} is no class; expected some of {known}")
        values.add(number)
    return tuple(sorted(values - {0}))


def _classes(path: Path, labels: object) -> tuple[dict[int, str], dict[str, list[int]]]:
    """Names by value, and regions where values are lists."""
    expected = f'{path}: "labels" is {labels!r:.300}, expected {{"0": "background", "1": NAME, ...}}'
    if not isinstance(labels, dict) or not labels:
        raise InputError(expected)
    named: dict[int, str] = {}
    regions: dict[str, list[int]] = {}
    for key, value in labels.items():
        is_region = isinstance(value, list) and value and all(map(_is_value, value))
        if is_region and not str(key).isdecimal() and key != IGNORE_NAME:
            regions[key] = sorted(set(value))
            if len(regions[key]) > 1:
                continue
            value = regions[key][0]
        if isinstance(value, str) and value.isdecimal() and not str(key).isdecimal():
            value = int(value)  # {"liver": "1"}, which nnU-Net takes
        number, name = (value, key) if _is_value(value) else (key, value)
        if not isinstance(name, str) or not str(number).isdecimal():
            raise InputError(f"{expected}; {key!r}: {value!r} is neither form")
        if len(str(number)) > 5 or not _is_value(int(number)):
            raise InputError(f"{expected}; value {number!s:.20} is too large, expected below 32768")
        if int(number) in named:
            raise InputError(f"{expected}; {number} is there twice")
        named[int(number)] = name
        regions.setdefault(name, [int(number)])
    overlap = any(len(values) > 1 for values in regions.values())
    everything = {value: f"label {value}" for values in regions.values() for value in values} | named
    classes = dict(sorted(everything.items()))
    # the ignored value may be any, 255 is usual
    counted = [value for value, name in classes.items() if name != IGNORE_NAME]
    if counted != list(range(len(counted))) or len(counted) < 2:
        raise InputError(f"{expected}, numbered 0, 1, 2, ... without gaps; renumber the labels")
    if len(set(classes.values())) < len(classes):
        raise InputError(f"{expected}, each with a name of its own; rename one of those that are equal")
    left_out = (classes[0], IGNORE_NAME)
    return classes, {name: values for name, values in regions.items() if name not in left_out} if overlap else {}


def _own_regions(path: Path, regions: object) -> dict[str, list[int]]:
    if not isinstance(regions, dict) or not all(
        isinstance(values, list) and values and all(map(_is_value, values)) for values in regions.values()
    ):
        raise InputError(f'{path}: "regions" is {regions!r:.80}, expected {{NAME: [VALUE, ...], ...}}')
    return {str(name): sorted(set(values)) for name, values in regions.items()}


def _painted(path: Path, regions: Mapping[str, list[int]], order: object) -> tuple[Region, ...]:
    if not regions:
        return ()
    expected = f"expected {len(regions)} different label values, one for each of {', '.join(regions)}"
    if order is None:
        rows = list(regions.values())
        own = [set(values).difference(*rows[i + 1 :]) for i, values in enumerate(rows)]
        if any(len(values) != 1 for values in own):
            raise InputError(f'{path}: there are regions, but no "regions_class_order"; {expected}')
        order = [min(values) for values in own]
    if (
        not isinstance(order, list)
        or not all(_is_value(value) and value > 0 for value in order)
        or not len(set(order)) == len(order) == len(regions)
    ):
        raise InputError(f'{path}: "regions_class_order" is {order!r:.80}, {expected}')
    for i, (name, painted) in enumerate(zip(regions, order, strict=True)):
        over = next((other for other in list(regions)[i + 1 :] if painted in regions[other]), None)
        if painted not in regions[name] or over:
            why = f"which is of {over}, too, that is painted later" if over else "which is none of its values"
            raise InputError(
                f'{path}: "regions_class_order" paints {name} ({", ".join(map(str, regions[name]))}) with {painted},'
                f" {why}; list the regions from the outermost to the innermost, and one value each that is its own"
            )
    return tuple(
        Region(name=name, values=tuple(values), painted=painted)
        for (name, values), painted in zip(regions.items(), order, strict=True)
    )


def _is_value(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**15
