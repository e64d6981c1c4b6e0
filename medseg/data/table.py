"""Cases in a CSV file: one row a case, with columns for its files and what is known of it."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.data.case import Case
from medseg.data.description import Description, annotated_values
from medseg.data.listing import Listing, Part, case_name
from medseg.errors import InputError, close_to

__all__ = ["list_table"]

_COLUMNS = ("name", "image", "label", "split", "group", "annotated")
_CHANNEL_COLUMN = re.compile(r"image_(?P<channel>.+)")
_PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


def list_table(path: Path, description: Description) -> Listing:
    """The cases of a CSV file with a row of column names; cells are separated by commas or tabs.

    Columns: `image` (a file or a DICOM folder; several channels separated by `;`) or `image_0`, `image_1`, ... or
    `image_CT`, `image_PET`, ...; and where wanted `label`, `split` (train, validation, test), `group` (the patient),
    `annotated` (label values or class names that were looked for, separated by `;`) and `name`. Paths are relative to
    the CSV file. Other columns are not read. An empty cell says nothing. Classes are those of `description`.

    Raises:
        InputError: not a readable CSV file, no image column, a column that is almost one of these, a row without an
            image, an unknown split.
    """
    columns, rows = _rows(path)
    channels = [name for name in columns if _CHANNEL_COLUMN.fullmatch(name)]
    if ("image" in columns) == bool(channels):
        raise InputError(f"{path}: columns {', '.join(columns)}; expected either image or image_0, image_1, ...")
    if all(name.removeprefix("image_").isdecimal() for name in channels):
        channels.sort(key=lambda name: int(name.removeprefix("image_")))
        named: tuple[str, ...] = ()
    else:
        named = tuple(name.removeprefix("image_") for name in channels)
    files = [_images(path, line, row, channels) for line, row in rows]
    names = _names(path, files, [row.get("name", "") for _, row in rows])
    cases, parts = [], {}
    for (line, row), name, images in zip(rows, names, files, strict=True):
        where = f"{path}: line {line}"
        label = path.parent / row["label"] if row.get("label") else None
        annotated = annotated_values(where, row.get("annotated"), description.classes)
        cases.append(Case(name, images, label, annotated, row.get("group") or None))
        if split := row.get("split"):
            if split.lower() not in _PARTS:
                raise InputError(f"{where}: split is {split!r}, expected train, validation or test")
            parts[name] = _PARTS[split.lower()]
    if "validation" not in parts.values():
        # who only says train and test leaves the validation cases to be drawn from train
        parts = {name: part for name, part in parts.items() if part == "test"}
    for case in cases:
        part = parts.get(case.name, "train")
        if part != "train" and case.label is None:
            raise InputError(f"{path}: case {case.name} is in {part}, but has no label; add it or move it to train")
    listing = Listing.of(description, cases, path, "" if path.name == "cases.csv" else path.stem, named)
    return dataclasses.replace(listing, parts=parts)


def _rows(path: Path) -> tuple[list[str], list[tuple[int, Mapping[str, str]]]]:
    """The column names in lower case, and the rows that are not empty with their line numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.lstrip().partition("\n")[0]
        delimiter = "\t" if "\t" in first else ","
        table = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
        lines = [(table.line_num, [cell.strip() for cell in cells]) for cells in table]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not readable as CSV ({error}); save it as UTF-8 with commas") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise InputError(f"{path}: empty; expected a row of column names ({', '.join(_COLUMNS)}) and one row a case")
    columns = [cell.lower() for cell in lines[0][1]]
    if len(columns) == 1 and ";" in columns[0]:
        raise InputError(f"{path}: cells are separated by semicolons; save it with commas")
    for column, count in Counter(columns).items():
        if column and count > 1:
            raise InputError(f"{path}: two columns named {column}; remove one")
        near = close_to(column, _COLUMNS, cutoff=0.8)
        if column not in _COLUMNS and not _CHANNEL_COLUMN.fullmatch(column) and near and near not in columns:
            raise InputError(f"{path}: unknown column '{column}'; did you mean '{near}'? rename or remove it")
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise InputError(f"{path}: line {number} has {len(cells)} cells, expected {len(columns)}; correct it")
    if len(lines) == 1:
        raise InputError(f"{path}: column names but no cases; add one row a case")
    return columns, [(number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]


def _images(path: Path, line: int, row: Mapping[str, str], channels: Sequence[str]) -> tuple[Path, ...]:
    cells = [row[name] for name in channels] if channels else [cell.strip() for cell in row["image"].split(";")]
    if not all(cells):
        missing = f"{channels[cells.index('')]} is empty" if channels else "image is empty"
        raise InputError(f"{path}: line {line}: {missing}; expected a file")
    return tuple(path.parent / cell for cell in cells)


def _names(path: Path, files: Sequence[tuple[Path, ...]], given: Sequence[str]) -> list[str]:
    """The names that are given, else those of the first files, else their paths where the names are not different."""
    if any(given):
        if not all(given):
            raise InputError(f"{path}: some cases have a name and some have none; fill or remove the column")
        return list(given)
    stems = [case_name(images) for images in files]
    if len(set(stems)) == len(stems):
        return stems
    folders = [images[0].parent for images in files]
    paths = [folder.relative_to(path.parent) if folder.is_relative_to(path.parent) else folder for folder in folders]
    return ["_".join((*folder.parts, stem)).strip("/_.") for folder, stem in zip(paths, stems, strict=True)]
