"""The layouts in which a folder may hold cases."""

from __future__ import annotations

from pathlib import Path

from medseg.data.decathlon import list_decathlon
from medseg.data.folders import list_folders
from medseg.data.listing import Listing, refuse_twice
from medseg.errors import InputError

__all__ = ["Listing", "list_cases"]

_LAYOUTS = "a dataset.json (Medical Segmentation Decathlon) or the folders images/ and labels/"


def list_cases(data_dir: Path, modality: str | None = None) -> Listing:
    """The cases in a folder; opens no volume.

    Args:
        data_dir: the folder.
        modality: replaces what dataset.json says, for all channels or one after another with commas
            ("CT,PET").

    Raises:
        InputError: neither layout is there, or what is there is broken, empty or contradicts itself.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; expected one with {_LAYOUTS}")
    if (data_dir / "dataset.json").is_file():
        listing = list_decathlon(data_dir)
    elif (data_dir / "images").is_dir():
        listing = list_folders(data_dir)
    else:
        raise InputError(f"{data_dir}: no cases found, expected {_LAYOUTS}")
    channels = _channels(modality, listing) if modality else listing.channels
    for case in listing.cases:
        if len(case.images) != len(channels):
            raise InputError(
                f"{data_dir}: case {case.name} has {len(case.images)} image file(s), but there are"
                f" {len(channels)} modalities ({', '.join(channels)}); list one 3-D file a channel (4-D"
                " images are not read)"
            )
        for path in case.images:
            if not path.is_file():
                raise InputError(f"{path}: no such file, but {data_dir / 'dataset.json'} lists it; restore it there")
    refuse_twice((case.name for case in listing.cases), f"{data_dir}: two cases named")
    return Listing(listing.name, channels, listing.classes, listing.cases)


def _channels(modality: str, listing: Listing) -> tuple[str, ...]:
    names = tuple(name.strip() for name in modality.split(","))
    return names * len(listing.channels) if len(names) == 1 else names
