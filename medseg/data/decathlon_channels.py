"""4-D images of the Decathlon, whose last axis counts channels, as one 3-D file a channel."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib

from medseg.data.description import read_json
from medseg.data.volume import strip_suffix
from medseg.errors import InputError
from medseg.files import write_text

__all__ = ["split_channels"]


def split_channels(path: Path) -> None:
    """Replaces the 4-D images that a dataset.json lists by `NAME_0000.nii.gz`, `NAME_0001.nii.gz`, ... and lists those.

    Nothing happens where there is one modality.

    Raises:
        InputError: dataset.json is missing or broken, an image cannot be read or has another number of channels.
        OSError: a file cannot be written.
    """
    content = read_json(path)
    modality = content.get("modality")
    count = len(modality) if isinstance(modality, dict) else 1
    if count < 2:
        return
    entries = [entry for entry in content.get("training", []) if isinstance(entry, dict)]
    tests = [{"image": image} for image in content.get("test", [])]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        jobs = [(entry, pool.submit(_split, path.parent, entry.get("image"), count)) for entry in (*entries, *tests)]
        for entry, job in jobs:
            entry["image"] = job.result()
    if tests:
        content["test"] = [entry["image"] for entry in tests]
    write_text(path, json.dumps(content, indent=1) + "\n")


def _split(folder: Path, name: Any, count: int) -> list[str]:
    if not isinstance(name, str):
        raise InputError(f"{folder / 'dataset.json'}: image is {name!r:.80}, expected one file")
    path = folder / name
    try:
        image = nib.load(path)
    except (OSError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: not readable as NIfTI ({error}); download it again") from error
    if image.ndim != 4 or image.shape[3] != count:
        raise InputError(f"{path}: shape {image.shape}, expected {count} channels in a fourth axis; download it again")
    names = [f"{strip_suffix(name)}_{channel:04}.nii.gz" for channel in range(count)]
    for channel, part in enumerate(names):
        nib.save(image.slicer[..., channel], folder / part)
    path.unlink()
    return names
