"""What a prediction holds, in millilitres, and what about it should make somebody look twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from medseg.data.geometry import Geometry
from medseg.data.preprocess import canonical_geometry
from medseg.plan import Plan

__all__ = ["ClassFound", "Findings", "Flag", "find_flags", "intensity_spans", "targets"]

# Beyond what training saw by this share of it: a neighbouring spacing is still resampled well.
_SPACING_SLACK = 0.25
# Half the training range on either side: percentiles differ that much with the field of view alone.
_INTENSITY_SLACK = 0.5
_MANY = 5  # components, while the largest holds less than the next
_MAIN_SHARE = 0.8
_SURE = 0.7


@dataclass(frozen=True)
class Flag:
    """Something that should be looked at; `kind` for programs, `text` for people."""

    kind: Literal["spacing", "intensity", "empty", "components", "border", "confidence"]
    text: str


@dataclass(frozen=True)
class ClassFound:
    """One class or region: the label value that it is painted with, all label values that it is made of (of a class the
    same one), volume in mL, 26-connected components, the share of the largest, and the mean probability of what its
    voxels were painted as. Share and confidence are None where there are no voxels."""

    value: int
    values: tuple[int, ...]
    ml: float
    components: int
    largest_share: float | None
    confidence: float | None


@dataclass(frozen=True)
class Findings:
    """What was found in one volume, by class name, and the flags."""

    classes: dict[str, ClassFound]
    flags: tuple[Flag, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything as what `json.dumps` takes."""
        return asdict(self)


def find_flags(
    labels: NDArray[Any],
    confidence: Mapping[int, float],
    geometry: Geometry,
    plan: Plan,
    spans: list[tuple[float, float]] | None = None,
) -> Findings:
    """Volumes and flags of one prediction.

    Args:
        labels: (X, Y, Z) on the file's own grid.
        confidence: by label value, see `Prediction`.
        geometry: of the file.
        plan: classes or regions, and what training saw.
        spans: of the image, see `intensity_spans`; None leaves intensities unjudged.
    """
    named = targets(plan)
    voxel_ml = math.prod(geometry.spacing) / 1000
    faces = [labels.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]
    at_border = set(np.unique(np.concatenate(faces)).tolist())
    classes, flags = {}, [*_unlike_training(geometry, plan, spans)]
    for (name, value, values), own in zip(named, _components(labels, [one[2] for one in named]), strict=True):
        voxels = int(own.sum())
        share = float(own.max() / voxels) if voxels else None
        sure = _confidence(labels, values, confidence) if voxels else None
        classes[name] = ClassFound(
            value, values, float(f"{voxels * voxel_ml:.6g}"), len(own), None if share is None else round(share, 4),
            None if sure is None else round(sure, 4),
        )  # fmt: skip
        if share is not None and len(own) > _MANY and share < _MAIN_SHARE:
            flags.append(Flag("components", f"{name}: {len(own)} components, the largest holds {share:.0%}"))
        if voxels and at_border & set(values):
            flags.append(Flag("border", f"{name}: touches the border of the volume, where it may be cut"))
        if sure is not None and sure < _SURE:
            flags.append(Flag("confidence", f"{name}: mean probability {sure:.2f}, expected at least {_SURE}"))
    if not any(found.components for found in classes.values()):
        flags.append(Flag("empty", "nothing was found in this volume"))
    return Findings(classes, tuple(flags))


def intensity_spans(images: NDArray[np.float32]) -> list[tuple[float, float]]:
    """The 5th and 95th percentile of each channel of (C, X, Y, Z), from every 8th voxel of large volumes."""
    step = 2 if images[0].size > 2**21 else 1
    thinned = images[:, ::step, ::step, ::step].reshape(len(images), -1)
    return [(float(low), float(high)) for low, high in np.percentile(thinned, [5, 95], axis=1).T]


def targets(plan: Plan) -> list[tuple[str, int, tuple[int, ...]]]:
    """Of each foreground class or region its name, the value that it is painted with, and all values in a label map
    that are part of it: a region's voxels may be painted over by those of another."""
    if plan.regions:
        return [(region.name, region.painted, region.values) for region in plan.regions]
    return [(name, value, (value,)) for value, name in sorted(plan.classes.items()) if value]


def _components(labels: NDArray[Any], wanted: Sequence[tuple[int, ...]]) -> list[NDArray[np.integer[Any]]]:
    """The sizes of the components of each, which may be made of several values."""
    if any(len(values) > 1 for values in wanted):
        masks = (np.isin(labels, values) for values in wanted)
        return [np.bincount(cc3d.connected_components(mask, connectivity=26).ravel())[1:] for mask in masks]
    components, n = cc3d.connected_components(np.ascontiguousarray(labels), connectivity=26, return_N=True)
    sizes = np.bincount(components.ravel(), minlength=n + 1)
    value_of = np.zeros(n + 1, np.int64)
    value_of[components.ravel()] = labels.ravel()
    return [sizes[1:][value_of[1:] == value] for (value,) in wanted]


def _confidence(labels: NDArray[Any], values: tuple[int, ...], of_value: Mapping[int, float]) -> float | None:
    known = [value for value in values if value in of_value]
    if len(known) < 2:
        return of_value[known[0]] if known else None
    voxels = [int((labels == value).sum()) for value in known]
    return sum(n * of_value[value] for n, value in zip(voxels, known, strict=True)) / max(sum(voxels), 1)


def _unlike_training(geometry: Geometry, plan: Plan, spans: list[tuple[float, float]] | None) -> list[Flag]:
    if plan.seen is None:
        return []
    flags = []
    spacing = canonical_geometry(geometry)[1]
    for axis, mm, low, high in zip("RAS", spacing, *plan.seen.spacing, strict=True):
        if not low / (1 + _SPACING_SLACK) <= mm <= high * (1 + _SPACING_SLACK):
            flags.append(Flag("spacing", f"{mm:.4g} mm along {axis}, training saw {low:g} to {high:g} mm"))
    for channel, seen, span in zip(plan.channels, plan.seen.intensities, spans or (), strict=bool(spans)):
        if seen is None:
            continue
        slack = _INTENSITY_SLACK * (seen[1] - seen[0])
        if span[0] < seen[0] - slack or span[1] > seen[1] + slack or span[1] < seen[0] or span[0] > seen[1]:
            flags.append(
                Flag(
                    "intensity",
                    f"{channel.name}: 5th to 95th percentile {span[0]:.4g} to {span[1]:.4g}, training saw "
                    f"{seen[0]:g} to {seen[1]:g}; check the units",
                )
            )
    return flags
