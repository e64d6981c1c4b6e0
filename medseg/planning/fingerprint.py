"""The fingerprint of a cohort: its geometry from all images, its intensities from the budget's labels."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from medseg.data.case import Case, load_case, load_soft_labels
from medseg.data.cohort import Cohort
from medseg.data.description import IGNORE_NAME
from medseg.data.digests import file_digest
from medseg.data.preprocess import canonical_geometry
from medseg.data.volume import read_labels
from medseg.errors import InputError
from medseg.plan import SeenPlan
from medseg.planning.spacing import target_spacing
from medseg.randomness import generator

__all__ = ["Fingerprint", "Intensities", "cohort_digest", "fingerprint", "needs_statistics"]

_log = logging.getLogger(__name__)

_VOXELS_A_CASE = 20_000
_READERS = 4  # at once; each holds a volume


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
        spacing: that volumes are resampled to (mm), axes in RAS+ order; see `target_spacing`.
        shape: median shape at that spacing, in voxels.
        intensities: one entry a channel, None where the channel is normalised volume by volume.
        seen: the ranges of the images, by which prediction notices a volume unlike them.
        slices_along: the axis of a stack of slices, None where there is none.
        volumes: training volumes, labelled or not; 0 where not counted.
        shares: of each foreground label value the median share of a labelled volume's voxels.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    intensities: tuple[Intensities | None, ...]
    seen: SeenPlan | None = None
    slices_along: int | None = None
    volumes: int = 0
    shares: dict[int, float] = field(default_factory=dict)


def needs_statistics(modality: str) -> bool:
    """CT and PET have units (HU, SUV) that mean the same in every volume, so one scale serves the dataset; an MRI
    has none, so each volume is its own scale."""
    words = re.findall(r"[A-Z0-9]+", modality.upper())
    return any(word in ("CT", "CBCT", "CTA", "PET", "PT", "SUV", "HU") for word in words)


def fingerprint(cohort: Cohort, seed: int = 0, skip_bad: bool = False) -> Fingerprint:
    """Reads the headers of all training and validation images, the labels of the labelled training cases, and their
    images where a channel needs statistics. Labels outside the budget are not read. With `skip_bad`, statistics are
    those of the labelled cases that can be read; each other one is warned of.

    Raises:
        InputError: an image or label cannot be read or does not fit; with `skip_bad`, those of all labelled cases.
    """
    cases = (*cohort.labelled, *cohort.unlabelled, *cohort.validation)
    wanted = [needs_statistics(channel) for channel in cohort.channels]
    with ThreadPoolExecutor(_READERS) as pool:  # unpacking leaves the interpreter's lock
        geometries = [canonical_geometry(g) for g in pool.map(Case.geometry, cases)]
        each = range(len(cohort.labelled))
        tried = list(pool.map(lambda i: _tried(cohort.labelled[i], cohort, any(wanted), seed, i), each))
    problems = [one for one in tried if isinstance(one, InputError)]
    if problems and (not skip_bad or len(problems) == len(tried)):
        raise problems[0]
    for problem in problems:
        _log.warning("a labelled case has no part in the plan: %s", problem)
    read = [one for one in tried if not isinstance(one, InputError)]
    spacings = np.array([spacing for _, spacing in geometries])
    shapes = np.array([shape for shape, _ in geometries])
    target, slices_along = target_spacing(spacings, shapes)
    spacing = _rounded(target)
    shape = np.maximum(np.round(np.median(shapes * spacings / spacing, axis=0)), 1).astype(int)
    intensities = tuple(
        _statistics(np.concatenate([case.foreground[i] for case in read])) if needed else None
        for i, needed in enumerate(wanted)
    )
    return Fingerprint(
        spacing,
        (int(shape[0]), int(shape[1]), int(shape[2])),
        intensities,
        _seen(spacings, [case.span for case in read], wanted),
        slices_along,
        len(cohort.labelled) + len(cohort.unlabelled),
        _median_shares([case.shares for case in read]),
    )


def cohort_digest(cohort: Cohort) -> str:
    """A digest of what training and validation read: the names of their cases and the bytes of their images, and of the
    labels that they may read, and how these are to be understood (soft; which classes were looked for). Equal digests
    mean equal data, wherever the files lie."""
    known = (cohort.channels, sorted(cohort.classes.items()), *(["soft"] if cohort.soft else []))
    digest = hashlib.sha256(repr(known).encode())
    for split in ("labelled", "unlabelled", "validation"):
        for case in getattr(cohort, split):
            partly = f" {case.annotated}" if case.label and case.annotated is not None else ""
            digest.update(f"{split}/{case.name}{partly}".encode())
            for path in case.files:
                digest.update(file_digest(path))
    return digest.hexdigest()[:16]


class _OfCase(NamedTuple):
    """Intensities (C, N) of at most 20,000 labelled voxels, of the whole volume where the label is empty; the 5th and
    95th percentile of each channel's whole volume, (C, 2); the share of each foreground value."""

    foreground: np.ndarray
    span: np.ndarray
    shares: dict[int, float]


def _tried(case: Case, cohort: Cohort, statistics: bool, seed: int, index: int) -> _OfCase | InputError:
    try:
        return _of_case(case, cohort, statistics, seed, index)
    except InputError as error:
        return error


def _of_case(case: Case, cohort: Cohort, statistics: bool, seed: int, index: int) -> _OfCase:
    """The first two are empty where no `statistics` are needed: then no image is read."""
    values = _foreground_values(cohort)
    assert case.label is not None  # labelled cases have one
    images: np.ndarray = np.empty((0, 0))
    if cohort.soft:
        soft = load_soft_labels(case, case.geometry(), cohort.classes)
        labelled, shares = soft.sum(axis=0) > 0.5, dict(zip(values, soft.mean(axis=(1, 2, 3)).tolist(), strict=True))
        if statistics:
            images, _, _ = load_case(dataclasses.replace(case, label=None), cohort.classes)
    else:
        if statistics:
            images, labels, _ = load_case(case, cohort.classes)
        else:
            labels = read_labels(case.label).array
        assert labels is not None
        labelled, shares = np.isin(labels, values), {value: float((labels == value).mean()) for value in values}
    if case.annotated is not None:
        shares = {value: share if value in case.annotated else np.nan for value, share in shares.items()}
    if not statistics:
        return _OfCase(images, images, shares)
    chosen = images[:, labelled] if labelled.any() else images.reshape(len(images), -1)
    if chosen.shape[1] > _VOXELS_A_CASE:
        keep = generator(seed, 0, index, "fingerprint").choice(chosen.shape[1], _VOXELS_A_CASE, replace=False)
        chosen = chosen[:, keep]
    return _OfCase(chosen, np.percentile(images.reshape(len(images), -1), [5, 95], axis=1).T, shares)


def _median_shares(shares: list[dict[int, float]]) -> dict[int, float]:
    """Of each value the median over the cases that it was looked for in."""
    found = {}
    for value in shares[0] if shares else ():
        known = [of_case[value] for of_case in shares if not np.isnan(of_case[value])]
        if known:
            found[value] = float(np.median(known))
    return found


def _foreground_values(cohort: Cohort) -> list[int]:
    return [value for value, name in sorted(cohort.classes.items()) if value and name != IGNORE_NAME]


def _seen(spacings: np.ndarray, spans: list[np.ndarray], wanted: list[bool]) -> SeenPlan:
    ranges = tuple(
        (float(f"{min(s[i][0] for s in spans):.5g}"), float(f"{max(s[i][1] for s in spans):.5g}")) if needed else None
        for i, needed in enumerate(wanted)
    )
    return SeenPlan(spacing=(_rounded(spacings.min(axis=0)), _rounded(spacings.max(axis=0))), intensities=ranges)


def _rounded(spacing: np.ndarray) -> tuple[float, float, float]:
    """float32 headers hold 1 mm as 0.99999994; five digits are 0.05 voxels at the end of an axis of 1,000."""
    x, y, z = (max(float(f"{mm:.5g}"), 1e-3) for mm in spacing)
    return x, y, z


def _statistics(values: np.ndarray) -> Intensities:
    lower, upper = np.percentile(values, [0.5, 99.5])
    inside = np.clip(values, lower, upper).astype(np.float64)
    return Intensities(float(lower), float(upper), float(inside.mean()), float(max(inside.std(), 1e-6)))
