"""Each case prepared once: files of the plan's grid from which a patch is read without loading the volume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.cohort import Case, load_case
from medseg.data.preprocess import labels_to_grid, plan_grid, prepare_images
from medseg.data.volume import volume_files
from medseg.errors import InputError
from medseg.files import make_folder, writing
from medseg.plan import Plan

__all__ = ["IGNORE", "CaseCache", "PreparedCase", "file_digest"]

IGNORE = 255
"""The prepared label of voxels that say nothing: those of the class named `ignore`."""

_VERSION = 2  # part of every key: raise it when preparation changes, so that nothing stale is served
_POSITIONS = 2000  # foreground positions kept of each class
_WORKERS = 8


@dataclass(frozen=True)
class PreparedCase:
    """A case on the plan's grid, memory-mapped.

    Attributes:
        name: the case's name.
        images: (C, X, Y, Z) float32, normalised.
        labels: (X, Y, Z) class indices, uint8, `IGNORE` where nothing is known; None where unlabelled.
        foreground: (N, 4) rows of class index and voxel position, at most 2,000 a class; empty where unlabelled.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    foreground: np.ndarray


class CaseCache:
    """Prepared cases in `folder`, keyed by the bytes of their files and by what the plan does to them.

    Args:
        folder: shared by runs; files appear whole, so that concurrent runs do no harm.
        plan: spacing, normalisation and classes.
        classes: label value to name as in the cohort, the class `ignore` included.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan, classes: dict[int, str]) -> None:
        if len(plan.classes) > IGNORE:
            raise ValueError(f"at most {IGNORE} classes, found {len(plan.classes)}")
        self.folder = Path(folder)
        self.plan = plan
        self.classes = classes
        what = plan.model_dump(include={"channels", "spacing"})
        self._recipe = repr((_VERSION, what, plan.label_values, sorted(classes.items()))).encode()

    def prepare(self, cases: Sequence[Case]) -> list[PreparedCase]:
        """The cases, each prepared now if it is not in the cache yet.

        Raises:
            InputError: a file is unreadable or does not fit, or the cache folder cannot be written.
        """
        # gzip and zoom leave the interpreter's lock; each holds a volume several times over, so not on every core
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, _WORKERS)) as pool:
            return list(pool.map(self.case, cases))

    def case(self, case: Case) -> PreparedCase:
        """One case, prepared now if it is not in the cache yet."""
        images = b"".join(file_digest(path) for path in case.images)
        paths = [self.folder / f"{self._key(images)}.npy"]
        if case.label:
            key = self._key(images + file_digest(case.label))
            paths += [self.folder / f"{key}.{kind}.npy" for kind in ("labels", "foreground")]
        arrays = _loaded(paths)
        if arrays is None:
            self._write(case, paths)
            arrays = [np.load(path, mmap_mode="r") for path in paths]
        if case.label:
            return PreparedCase(case.name, arrays[0], arrays[1], np.asarray(arrays[2]))
        return PreparedCase(case.name, arrays[0], None, np.empty((0, 4), np.int32))

    def _key(self, digests: bytes) -> str:
        return hashlib.sha256(self._recipe + digests).hexdigest()[:32]

    def _write(self, case: Case, paths: Sequence[Path]) -> None:
        images, labels, geometry = load_case(case, self.classes)
        grid = plan_grid(geometry, self.plan.spacing)
        arrays = [prepare_images(images, grid, self.plan)]
        if labels is not None:
            indices = labels_to_grid(self._indices(labels), grid)
            arrays += [indices, _foreground(indices)]
        make_folder(self.folder)  # only now: a complete cache may be read-only
        for path, array in zip(paths, arrays, strict=True):
            with writing(path) as temporary, temporary.open("wb") as file:
                np.save(file, array)

    def _indices(self, labels: np.ndarray) -> np.ndarray:
        """Class indices of label values; `load_case` has checked that every value is a known one."""
        table = np.full(max(self.classes) + 1, IGNORE, np.uint8)
        for index, value in enumerate(self.plan.label_values):
            table[value] = index
        return table[labels]


def file_digest(path: Path) -> bytes:
    """SHA-256 of a volume's file; of several (DICOM series, MHD) of their digests.

    Raises:
        InputError: it cannot be read.
    """
    digests = []
    try:
        for part in volume_files(path):
            with part.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
        return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); restore it") from error


def _loaded(paths: Sequence[Path]) -> list[np.ndarray] | None:
    """The arrays, memory-mapped; None where one is absent or torn (its disk was full, its machine went down)."""
    try:
        return [np.load(path, mmap_mode="r") for path in paths]
    except (OSError, ValueError, EOFError):
        return None


def _foreground(indices: np.ndarray) -> np.ndarray:
    """Rows (class index, x, y, z), evenly spaced over each class's voxels."""
    rows = []
    for index in np.unique(indices):
        if index in (0, IGNORE):
            continue
        positions = np.argwhere(indices == index)
        keep = np.linspace(0, len(positions) - 1, min(len(positions), _POSITIONS)).astype(int)
        rows.append(np.column_stack([np.full(len(keep), index), positions[keep]]).astype(np.int32))
    return np.concatenate(rows) if rows else np.empty((0, 4), np.int32)
