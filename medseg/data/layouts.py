"""The layouts in which cases may be listed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from medseg.data.decathlon import list_decathlon
from medseg.data.description import Description, describe, read_json
from medseg.data.folders import list_folders
from medseg.data.listing import Listing, refuse_names, refuse_twice
from medseg.data.nnunet import is_nnunet, list_nnunet
from medseg.data.table import list_table
from medseg.errors import InputError

__all__ = ["list_cases"]

_LAYOUTS = "a dataset.json (Medical Segmentation Decathlon or nnU-Net), a cases.csv, or the folders images/ and labels/"


def list_cases(data: Path, modality: str | None = None, *, orphans_too: bool = False) -> Listing:
    """The cases of a dataset; opens no volume, and does not ask whether each listed file is there.

    Args:
        data: the folder, or a CSV file.
        modality: replaces what dataset.json says, for all channels or one after another with commas
            ("CT,PET").
        orphans_too: also where labels have no image, which the listing then says.

    Raises:
        InputError: labels have no image, no layout is there, or what is there is not readable, broken, empty or
            contradicts itself.
    """
    try:
        listing = _listed(data)
    except OSError as error:
        name, reason = error.filename or data, error.strerror or error
        raise InputError(f"{name}: not readable ({reason}); check the path, and that you may read it") from error
    if listing.orphans and not orphans_too:
        first, _, todo = listing.orphans[0].rpartition("; ")
        more = f", and so for {len(listing.orphans) - 1} more" if len(listing.orphans) > 1 else ""
        raise InputError(
            f"{first}{more}; {todo}, or pair images and labels in a cases.csv; `medseg data check {data}` lists all"
        )
    channels = _channels(modality, listing) if modality else listing.channels
    if len(channels) > 1 and all(len(case.images) == 1 for case in listing.cases):  # 4-D, as in the Decathlon
        stacked = (dataclasses.replace(case, images=case.images * len(channels)) for case in listing.cases)
        listing = dataclasses.replace(listing, cases=tuple(stacked))
    for case in listing.cases:
        if len(case.images) != len(channels):
            raise InputError(
                f"{data}: case {case.name} has {len(case.images)} image file(s), but there are"
                f" {len(channels)} modalities ({', '.join(channels)}); list one 3-D file a channel, or of"
                " every case one file that holds them all"
            )
    refuse_names((case.name for case in listing.cases), listing.source)
    refuse_twice((case.name for case in listing.cases), f"{data}: two cases named")
    return dataclasses.replace(listing, channels=channels)


def _listed(data: Path) -> Listing:
    if data.is_file() and data.suffix.lower() == ".csv":
        return list_table(data, _sidecar(data.with_suffix(".json"), data.parent / "dataset.json"))
    if not data.is_dir():
        raise InputError(f"{data}: no such folder or CSV file; expected one with {_LAYOUTS}")
    table, path = data / "cases.csv", data / "dataset.json"
    content = read_json(path) if path.is_file() else {}
    if table.is_file():
        if "training" in content or is_nnunet(content):
            raise InputError(f"{data}: cases.csv and dataset.json both list cases; name the CSV file itself")
        return list_table(table, _sidecar(table.with_suffix(".json"), path))
    if is_nnunet(content):
        return list_nnunet(path, content)
    if content and ("training" in content or not (data / "images").is_dir()):
        return list_decathlon(path, content)
    if (data / "images").is_dir():
        return list_folders(data, describe(path, content, needs_classes=False) if content else Description())
    raise InputError(f"{data}: no cases found, expected {_LAYOUTS}")


def _sidecar(*paths: Path) -> Description:
    """What the first of the files that is there says of the classes; nothing where none is."""
    for path in paths:
        if path.is_file():
            return describe(path, read_json(path), needs_classes=False)
    return Description()


def _channels(modality: str, listing: Listing) -> tuple[str, ...]:
    names = tuple(name.strip() for name in modality.split(","))
    return names * len(listing.channels) if len(names) == 1 else names
