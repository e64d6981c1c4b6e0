"""The fingerprint of a cohort: its geometry from all images, its intensities from the budget's labels."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from medseg.data.cache import file_digest
from medseg.data.cohort import Case, Cohort, load_case
from medseg.data.preprocess import canonical_geometry
from medseg.data.volume import read_geometry
from medseg.plan import SeenPlan
from medseg.randomness import generator

__all__ = ["Fingerprint", "Intensities", "cohort_digest", "fingerprint", "needs_statistics"]

_VOXELS_A_CASE = 20_000


@dataclass(frozen=True)
class Intensities:
    """Of one channel inside labelled foreground, in the image's units: 0.5th and 99.5th percentile, mean, std."""

    lower: float
    upper: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """What planning knows of a cohort.

    Attributes:
        spacing: median spacing (mm), axes in RAS+ order.
        shape: median shape after resampling to that spacing, in voxels.
        intensities: one entry a channel, None where the channel is normalised volume by volume.
        seen: the ranges of the images, by which prediction notices a volume unlike them.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    intensities: tuple[Intensities | None, ...]
    seen: SeenPlan | None = None


def needs_statistics(modality: str) -> bool:
    """CT and PET have units (HU, SUV) that mean the same in every volume, so one scale serves the dataset; an MRI
    has none, so each volume is its own scale."""
    words = re.findall(r"[A-Z0-9]+", modality.upper())
    return any(word in ("CT", "CBCT", "CTA", "PET", "PT", "SUV", "HU") for word in words)


def fingerprint(cohort: Cohort, seed: int = 0) -> Fingerprint:
    """Reads the headers of all training and validation images and the voxels of the labelled training cases where
    a channel needs statistics. Labels outside the budget are not read.

    Raises:
        InputError: an image or label cannot be read or does not fit.
    """
    cases = (*cohort.labelled, *cohort.unlabelled, *cohort.validation)
    geometries = [canonical_geometry(read_geometry(case.images[0])) for case in cases]
    spacings = np.array([spacing for _, spacing in geometries])
    shapes = np.array([shape for shape, _ in geometries])
    # float32 headers hold 1 mm as 0.99999994; five digits are 0.05 voxels at the end of an axis of 1,000
    spacing = [max(float(f"{s:.5g}"), 1e-3) for s in np.median(spacings, axis=0)]
    shape = np.maximum(np.round(np.median(shapes * spacings / spacing, axis=0)), 1).astype(int)
    wanted = [needs_statistics(channel) for channel in cohort.channels]
    read = [_foreground(case, cohort, seed, i) for i, case in enumerate(cohort.labelled)] if any(wanted) else []
    samples, spans = [foreground for foreground, _ in read], [span for _, span in read]
    intensities = tuple(
        _statistics(np.concatenate([s[channel] for s in samples])) if wanted[channel] else None
        for channel in range(len(wanted))
    )
    ranges = tuple(
        (float(f"{min(s[i][0] for s in spans):.5g}"), float(f"{max(s[i][1] for s in spans):.5g}")) if needed else None
        for i, needed in enumerate(wanted)
    )
    low, high = ([max(float(f"{mm:.5g}"), 1e-3) for mm in f(spacings, axis=0)] for f in (np.min, np.max))
    seen = SeenPlan(spacing=((low[0], low[1], low[2]), (high[0], high[1], high[2])), intensities=ranges)
    return Fingerprint(
        (spacing[0], spacing[1], spacing[2]), (int(shape[0]), int(shape[1]), int(shape[2])), intensities, seen
    )


def cohort_digest(cohort: Cohort) -> str:
    """A digest of what training and validation read: the names of their cases and the bytes of their images, and of the
    labels that they may read. Equal digests mean equal data, wherever the files lie."""
    digest = hashlib.sha256(repr((cohort.channels, sorted(cohort.classes.items()))).encode())
    for split in ("labelled", "unlabelled", "validation"):
        for case in getattr(cohort, split):
            digest.update(f"{split}/{case.name}".encode())
            for path in (*case.images, *([case.label] if case.label else [])):
                digest.update(file_digest(path))
    return digest.hexdigest()[:16]


def _foreground(case: Case, cohort: Cohort, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Intensities (C, N) of at most 20,000 labelled voxels, of the whole volume where the label is empty; and each
    channel's 5th and 95th percentile in the whole volume, (C, 2)."""
    images, labels, _ = load_case(case, cohort.classes)
    assert labels is not None  # labelled cases have one
    foreground = np.isin(labels, [value for value, name in cohort.classes.items() if value and name != "ignore"])
    chosen = images[:, foreground] if foreground.any() else images.reshape(len(images), -1)
    if chosen.shape[1] > _VOXELS_A_CASE:
        keep = generator(seed, 0, index, "fingerprint").choice(chosen.shape[1], _VOXELS_A_CASE, replace=False)
        chosen = chosen[:, keep]
    return chosen, np.percentile(images.reshape(len(images), -1), [5, 95], axis=1).T


def _statistics(values: np.ndarray) -> Intensities:
    lower, upper = np.percentile(values, [0.5, 99.5])
    inside = np.clip(values, lower, upper).astype(np.float64)
    return Intensities(float(lower), float(upper), float(inside.mean()), float(max(inside.std(), 1e-6)))
