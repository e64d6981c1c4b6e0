"""The files of one case, read and looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from medseg.data.case import Case, channel_remark, grid_problem, label_problem, read_images
from medseg.data.description import IGNORE_NAME
from medseg.data.findings import CaseFacts, Finding, Severity
from medseg.data.soft import background_first, read_soft_labels
from medseg.data.volume import Volume, read_labels, read_volume
from medseg.errors import InputError

__all__ = ["CheckedCase", "check_case", "content_digest"]


@dataclass(frozen=True)
class CheckedCase:
    """A case, what was read of it, what is wrong with it, and for each image a digest of its content; None of an image
    that could not be read or is constant."""

    case: Case
    facts: CaseFacts
    findings: tuple[Finding, ...]
    digests: tuple[str | None, ...]


def check_case(role: str, case: Case, classes: Mapping[int, str] | None) -> CheckedCase:
    """Reads all files of a case, and says everything that is wrong with them.

    Args:
        role: of the case: labelled, unlabelled, validation or test.
        case: the files.
        classes: names by label value; None where they are not known.
    """
    findings: list[Finding] = []

    def found(severity: Severity, message: object, file: Path) -> None:
        if message:
            findings.append(Finding.of(severity, case.name, message, file))

    first: Volume | None = None
    digests: list[str | None] = []
    constant: list[Finding] = []
    for path, image in _volumes(case):
        if isinstance(image, InputError):
            found("error", image, path)
            digests.append(None)
            continue
        if first:
            try:
                if remark := channel_remark(image, first):
                    found("warning", f"{remark}; look whether both channels show the same place", path)
            except InputError as error:
                found("error", error, path)
        low, high = image.array.min(), image.array.max()
        if low == high:
            what = f"constant, all voxels are {low:g}"
            constant.append(Finding("warning", case.name, str(path), what, "export it again, or leave the case out"))
        digests.append(None if low == high else content_digest(image))
        first = first or image
    digests += [None] * (len(case.images) - len(digests))  # of one file for all channels that could not be read
    if len(constant) == len(case.images):  # nothing to learn from, and nothing to find
        constant = [Finding("error", one.case, one.file, one.what, one.todo) for one in constant]
    findings += constant
    values: tuple[int, ...] | None = None
    if case.label:
        try:
            values, label_findings = _soft(case, first, classes) if case.soft else _label(case, first, classes)
            findings += label_findings
        except InputError as error:
            found("error", error, case.label)
    geometry = first.geometry if first else None
    shape, spacing = (geometry.shape, geometry.spacing) if geometry else (None, None)
    orientation = "".join(nib.aff2axcodes(geometry.affine)) if geometry else None
    facts = CaseFacts(case.name, role, shape, spacing, orientation, values)
    return CheckedCase(case, facts, tuple(findings), tuple(digests))


def _volumes(case: Case) -> Iterator[tuple[Path, Volume | InputError]]:
    """Each channel, or what is wrong with its file; once where that holds all channels."""
    if case.stacked:
        try:
            yield from ((image.path, image) for image in read_images(case))
        except InputError as error:
            yield case.images[0], error
        return
    for path in case.images:
        try:
            yield path, read_volume(path)
        except InputError as error:
            yield path, error


def content_digest(image: Volume) -> str:
    """A digest of the voxels with their axes turned to RAS+: the same for copies in another format, compression or axis
    order."""
    turned = np.ascontiguousarray(apply_orientation(image.array, io_orientation(image.geometry.affine)))
    turned += 0.0  # -0.0 becomes 0.0
    return hashlib.blake2b(repr(turned.shape).encode() + turned.tobytes(), digest_size=16).hexdigest()


def _label(
    case: Case, first: Volume | None, classes: Mapping[int, str] | None
) -> tuple[tuple[int, ...], list[Finding]]:
    """The values of a label map, and what is wrong with them."""
    assert case.label is not None
    label = read_labels(case.label)
    values = _values(label.array)
    problems = [grid_problem(label, first.geometry, first.path)] if first else []
    if classes is not None:
        problems.append(label_problem(label, classes))
    findings = [Finding.of("error", case.name, problem, case.label) for problem in problems if problem]
    ignored = {value for value, name in (classes or {}).items() if name == IGNORE_NAME}
    if set(values) <= {0, *ignored}:
        todo = "correct it where something is to be seen"
        findings.append(Finding("warning", case.name, str(case.label), "empty, no voxel has a foreground class", todo))
    if case.annotated is not None and (more := set(values) - {0, *ignored, *case.annotated}):
        said = ", ".join(map(str, sorted(more)))
        what = f"has label value {said}, which is not among those that the case is annotated for"
        findings.append(
            Finding("warning", case.name, str(case.label), what, "add it to the case's annotated values, or clear it")
        )
    return values, findings


def _soft(
    case: Case, first: Volume | None, classes: Mapping[int, str] | None
) -> tuple[tuple[int, ...] | None, list[Finding]]:
    """The classes that have a probability of a half somewhere."""
    assert case.label is not None
    if first is None:
        return None, []  # without an image there is no grid to compare with
    shares = read_soft_labels(case.label, first.geometry, len(classes) if classes else None)
    values = tuple(index for index, share in enumerate(background_first(shares)) if share.max() >= 0.5)
    empty = Finding("warning", case.name, str(case.label), "empty, no class reaches a half", "correct it")
    return values, [empty] if set(values) <= {0} else []


def _values(labels: np.ndarray) -> tuple[int, ...]:
    if labels.dtype == np.uint8:  # counting is faster than sorting
        return tuple(np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist())
    return tuple(np.unique(labels).tolist())
