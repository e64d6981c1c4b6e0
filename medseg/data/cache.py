"""Each case prepared once: files of the plan's grid from which a patch is read without loading the volume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medseg import ranks
from medseg.data.case import Case, load_case, load_soft_labels
from medseg.data.digests import INDEX, DigestIndex, file_digest
from medseg.data.entries import Entry, one_at_a_time, read_entry, write_entry
from medseg.data.preparing import prepare_all
from medseg.data.preprocess import labels_to_grid, plan_grid, prepare_body, soft_to_grid
from medseg.data.soft import background_first
from medseg.data.stored import Stored
from medseg.data.targets import (
    IGNORE,
    SOFT_STEPS,
    Foreground,
    class_indices,
    label_box,
    positions_by_class,
    voxels_by_class,
)
from medseg.errors import InputError
from medseg.files import make_folder
from medseg.plan import Plan

__all__ = ["IGNORE", "CaseCache", "PreparedCase"]

_VERSION = 3  # part of every key: raise it when preparation changes, so that nothing stale is served


@dataclass(frozen=True)
class PreparedCase:
    """A case on the plan's grid. Its arrays stay in their files, cut to the body: what lies outside continues their
    edges.

    Attributes:
        name: the case's name.
        shape: (X, Y, Z) of the whole volume.
        images: (C, X, Y, Z) float32, normalised.
        labels: (X, Y, Z) class indices, uint8, `IGNORE` where nothing is known; None where unlabelled.
        foreground: voxels of each foreground class.
        class_voxels: voxels of each class index of the whole volume, of those that are there; empty where unlabelled.
        soft: where labels are probabilities: those of the foreground classes (K - 1, X, Y, Z), uint8 in `SOFT_STEPS`.
        annotated: the label values that were looked for; None: all.
    """

    name: str
    shape: tuple[int, int, int]
    images: Stored
    labels: Stored | None = None
    foreground: Foreground = field(default_factory=Foreground)
    class_voxels: dict[int, int] = field(default_factory=dict)
    soft: Stored | None = None
    annotated: tuple[int, ...] | None = None

    @property
    def body(self) -> tuple[np.ndarray, np.ndarray]:
        """The first voxel of the body's box and the one behind its last."""
        start = np.array(self.images.origin)
        return start, start + self.images.shape[-3:]


class CaseCache:
    """Prepared cases in `folder`, keyed by the bytes of their files and by what the plan does to them.

    Args:
        folder: shared by runs, also at the same time: entries appear whole, and one process prepares a case while
            others that want it wait.
        plan: spacing, normalisation and classes.
        classes: label value to name as in the cohort, the class `ignore` included.
    """

    def __init__(self, folder: str | os.PathLike[str], plan: Plan, classes: dict[int, str]) -> None:
        if len(plan.classes) > IGNORE:
            raise ValueError(f"at most {IGNORE} classes, found {len(plan.classes)}")
        self.folder = Path(folder)
        self.plan = plan
        self.classes = classes
        self.digests = DigestIndex(self.folder / INDEX)

    def prepare(self, cases: Sequence[Case], kind: str = "") -> list[PreparedCase]:
        """The cases, each prepared now if it is not in the cache yet; many of them by several processes. The processes
        of a run on one machine share the work; machines do not, since each may have a disk of its own. How many there
        are to prepare is announced, as cases of this `kind`.

        Raises:
            InputError: a file is unreadable or does not fit, or the cache folder cannot be written.
        """
        if ranks.size() > 1:
            own = cases[ranks.local_rank() :: ranks.local_size()]
            ranks.all_or_none(lambda: self._announced(own, kind))
        return self._announced(cases, kind)

    def case(self, case: Case) -> PreparedCase:
        """One case, prepared now if it is not in the cache yet."""
        keys = self._keys(case)
        entries = self._entries(keys)
        if entries is None:
            make_folder(self.folder)  # only now: a complete cache may be read-only
            with one_at_a_time(self.folder, keys[0]):
                entries = self._entries(keys) or self._write(case, keys)
        self.digests.keep()
        return _prepared(case.name, entries, case.annotated)

    def _announced(self, cases: Sequence[Case], kind: str) -> list[PreparedCase]:
        new = sum(self._entries(self._keys(case)) is None for case in cases)
        if new:
            what = f"{new} {kind}".strip()
            ranks.announce(f"preparing cases: {what}; {self.folder} keeps them")
        return prepare_all(self.case, cases)

    def _keys(self, case: Case) -> list[str]:
        """Of the images' entry, and of the label's where there is one: the same images serve all budgets."""
        images = b"".join(file_digest(path) for path in case.images)
        recipe: tuple[object, ...] = (_VERSION, self.plan.model_dump(include={"channels", "spacing"}))
        keys = [_key(recipe, images)]
        if case.label:
            recipe = (*recipe, self.plan.label_values, sorted(self.classes.items()), case.soft, case.annotated)
            keys.append(_key(recipe, images + file_digest(case.label)))
        return keys

    def _entries(self, keys: Sequence[str]) -> list[Entry] | None:
        entries = [read_entry(self.folder, key) for key in keys]
        whole = [entry for entry in entries if entry is not None]
        return whole if len(whole) == len(entries) else None

    def _write(self, case: Case, keys: Sequence[str]) -> list[Entry]:
        images, labels, geometry = load_case(case, self.classes)
        grid = plan_grid(geometry, self.plan.spacing)
        if read_entry(self.folder, keys[0]) is None:
            body = prepare_body(images, grid, self.plan)
            about = {"grid": grid.target, "origin": body.origin}
            write_entry(self.folder, keys[0], {"images": body.array()}, about)
        if case.soft and case.label is not None:
            soft = soft_to_grid(load_soft_labels(case, geometry, self.classes), grid)
            self._write_labels(background_first(soft).argmax(0).astype(np.uint8), soft, keys)
        elif labels is not None:
            self._write_labels(
                labels_to_grid(class_indices(labels, self.plan.label_values, self.classes), grid), None, keys
            )
        entries = self._entries(keys)
        if entries is None:
            raise InputError(
                f"{self.folder}: what was written for case {case.name} cannot be read back; check the disk"
            )
        return entries

    def _write_labels(self, indices: np.ndarray, soft: np.ndarray | None, keys: Sequence[str]) -> None:
        images = read_entry(self.folder, keys[0])
        assert images is not None  # written a moment ago
        body = Stored(images.arrays["images"], images.about["origin"])
        kept = label_box(indices, body)
        counts, positions = positions_by_class(kept)
        voxels = voxels_by_class(indices)
        about = {"origin": kept.origin, "foreground": list(counts.items()), "voxels": list(voxels.items())}
        arrays = {"labels": kept.array(), "foreground": positions}
        if soft is not None:
            rounded = label_box(np.rint(soft * SOFT_STEPS).astype(np.uint8), body)
            arrays["soft"], about["soft_origin"] = rounded.array(), rounded.origin
        write_entry(self.folder, keys[1], arrays, about)


def _prepared(name: str, entries: Sequence[Entry], annotated: tuple[int, ...] | None) -> PreparedCase:
    images = entries[0]
    shape, stored = tuple(images.about["grid"]), Stored(images.arrays["images"], tuple(images.about["origin"]))
    if len(entries) == 1:
        return PreparedCase(name, shape, stored)
    labels = entries[1]
    return PreparedCase(
        name,
        shape,
        stored,
        Stored(labels.arrays["labels"], tuple(labels.about["origin"])),
        Foreground(dict(labels.about["foreground"]), labels.arrays["foreground"]),
        dict(labels.about["voxels"]),
        Stored(labels.arrays["soft"], tuple(labels.about["soft_origin"])) if "soft" in labels.arrays else None,
        annotated,
    )


def _key(recipe: object, content: bytes) -> str:
    return hashlib.sha256(repr(recipe).encode() + content).hexdigest()[:32]
