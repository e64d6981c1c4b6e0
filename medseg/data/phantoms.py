"""Phantoms: a cohort of CT-like abdomens with known truth, written as NIfTI.

They differ as patients do in shape, fat and contrast phase, and as scanners do in voxel size, sharpness,
noise and shading, so that a few labelled ones do not show all. They are no model of disease, and good
results on them mean only that a run works.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medseg.data.anatomy import CLASSES, Canvas, paint_abdomen
from medseg.data.nifti import write_nifti
from medseg.errors import InputError
from medseg.files import make_folder
from medseg.randomness import generator

__all__ = ["Phantom", "phantom", "write_cohort"]

_FINE = 2  # points a voxel and axis: eight make the partial volume
_VERSION = 1  # raised where equal parameters would give other files


@dataclass(frozen=True, eq=False)
class Phantom:
    """An image `(X, Y, Z)` int16 in HU, labels `(X, Y, Z)` uint8 (`anatomy.CLASSES`), 4x4 affine in mm."""

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


def phantom(seed: int, index: int, shape: Sequence[int] | None = None) -> Phantom:
    """Phantom number `index` of a seed: a pure function of both, whatever else is made.

    Args:
        seed: of the cohort.
        index: of the case, from 0.
        shape: voxels along X, Y, Z, at least 16 each; drawn near 60 x 48 x 32 where None. The patient fills
            it.
    """
    rng = generator(seed, 0, index, "phantom")
    drawn = (rng.integers(56, 65), rng.integers(46, 53), rng.integers(30, 37))
    x, y, z = (int(size) for size in (drawn if shape is None else shape))
    spacing = np.repeat((1.5, 3.0), (2, 1)) * np.repeat(rng.uniform(0.93, 1.07, 2), (2, 1))
    canvas = Canvas((_FINE * x, _FINE * y, _FINE * z), rng)
    paint_abdomen(canvas, rng)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array((x, y, z)) - 1) / 2 + rng.uniform(-20, 20, 3)
    affine = affine.astype(np.float32).astype(np.float64)  # what the file can hold
    return Phantom(_scanned(_means(canvas.hu), rng), _majority(canvas.labels), affine)


def write_cohort(
    folder: str | os.PathLike[str],
    labelled: int = 4,
    unlabelled: int = 12,
    validation: int = 4,
    test: int = 4,
    seed: int = 0,
    shape: Sequence[int] | None = None,
) -> bool:
    """Writes a cohort in the Decathlon layout with a splits.json; whole or not at all.

    Only labelled, validation and test cases get a label file. Equal parameters give equal bytes on one
    machine.

    Args:
        folder: made where absent.
        labelled, unlabelled, validation, test: how many cases of each; the first and third at least one.
        seed: of all phantoms.
        shape: see `phantom`.

    Returns:
        Whether anything was written: False where the folder holds that cohort already.

    Raises:
        InputError: counts or shape are too small, the folder holds something else, or cannot be written.
    """
    folder = Path(folder)
    counts = {"labelled": labelled, "unlabelled": unlabelled, "validation": validation, "test": test}
    for name, count in counts.items():
        if count < (least := int(name in ("labelled", "validation"))):
            raise InputError(f"{folder}: {count} {name} phantoms asked for, expected at least {least}")
    if shape is not None and (len(shape) != 3 or min(shape) < 16):
        raise InputError(f"{folder}: phantoms of shape {tuple(shape)} asked for, expected three sizes from 16")
    made_of = {"version": _VERSION, **counts, "seed": seed, "shape": shape and [int(size) for size in shape]}
    if _is_there(folder, made_of):
        return False
    parent = make_folder(folder.absolute().parent)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}."))
    try:
        whole = temporary / folder.name  # made with the user's permissions, unlike `temporary`
        whole.mkdir()
        _write(whole, counts, seed, shape, made_of)
        whole.rename(folder)
    except OSError as error:
        if _is_there(folder, made_of):  # another process was faster
            return False
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _is_there(folder: Path, made_of: dict[str, Any]) -> bool:
    """Whether the folder holds that cohort; it appears whole, so its dataset.json stands for all of it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["phantoms"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder}: exists and holds no phantoms; remove it or choose another folder") from error
    if found != made_of:
        said = ", ".join(f"{key} {found.get(key)}" for key in made_of if found.get(key) != made_of[key])
        raise InputError(f"{folder}: holds phantoms of other parameters ({said}); remove it or choose another folder")
    return True


def _write(
    folder: Path, counts: dict[str, int], seed: int, shape: Sequence[int] | None, made_of: dict[str, Any]
) -> None:
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    roles = [role for role, count in counts.items() for _ in range(count)]
    names: dict[str, list[str]] = {role: [] for role in counts}
    entries = []
    for index, role in enumerate(roles):
        made, name = phantom(seed, index, shape), f"phantom_{index:03}"
        names[role].append(name)
        entries.append({"image": f"./imagesTr/{name}.nii.gz"})
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", made.image, made.affine)
        if role != "unlabelled":
            entries[-1]["label"] = f"./labelsTr/{name}.nii.gz"
            write_nifti(folder / "labelsTr" / f"{name}.nii.gz", made.labels, made.affine)
    dataset = {
        "name": "phantoms",
        "description": "CT-like phantoms, made by a computer; no patient",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in CLASSES.items()},
        "numTraining": len(entries),
        "training": entries,
        "test": [],
        "phantoms": made_of,
    }
    splits = {
        "train": names["labelled"] + names["unlabelled"],
        "validation": names["validation"],
        "test": names["test"],
        "labelled": {str(counts["labelled"]): names["labelled"]},
    }
    for file, content in (("dataset.json", dataset), ("splits.json", splits)):
        (folder / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _blocks(fine: NDArray[Any]) -> NDArray[Any]:
    x, y, z = (size // _FINE for size in fine.shape)
    blocks = fine.reshape(x, _FINE, y, _FINE, z, _FINE)
    return blocks.transpose(0, 2, 4, 1, 3, 5).reshape(x, y, z, _FINE**3)


def _means(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(_blocks(fine).mean(axis=-1, dtype=np.float32))


def _majority(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The label of most points of each voxel; of equally many the lowest."""
    blocks = _blocks(fine)
    counts = np.stack([(blocks == value).sum(axis=-1) for value in CLASSES])
    return np.asarray(counts.argmax(axis=0).astype(np.uint8))


def _scanned(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
    """What a scanner makes of it: texture, blur, shading, a shifted scale and noise with a grain."""
    tissue = hu > -300
    texture = gaussian_filter(rng.standard_normal(hu.shape, np.float32), rng.uniform(0.8, 1.6))
    hu = hu + tissue * texture * np.float32(rng.uniform(6, 14) / texture.std())
    blur = rng.uniform(0.3, 0.75)
    hu = gaussian_filter(hu, (blur, blur, rng.uniform(0.2, 0.6)))
    u, v, w = np.ix_(*(np.linspace(-1, 1, size, dtype=np.float32) for size in hu.shape))
    a, b, c, d = rng.uniform(-12, 12, 4).astype(np.float32)
    hu = hu + (a * u + b * v + c * w + d * (u**2 + v**2)) * (hu > -300)
    hu = (hu + 1000) * np.float32(rng.normal(1, 0.008)) - 1000
    grain = gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0.6, 0.6, 0))
    hu = hu + grain * np.float32(rng.uniform(14, 34) / grain.std())
    return np.asarray(np.clip(np.rint(hu), -1024, 3071).astype(np.int16))
