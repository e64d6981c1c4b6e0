"""From fingerprint to plan: spacing, patch, topology, normalisation and batch, by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from medseg import ranks
from medseg.data.cohort import Cohort
from medseg.errors import InputError
from medseg.plan import ChannelPlan, NetworkPlan, Plan, Triple, first_problem, load_plan
from medseg.planning.fingerprint import Fingerprint, Intensities, fingerprint

__all__ = ["Sizes", "make_plan", "patch_and_topology", "plan_cohort"]

# A map of fewer voxels along an axis than this has nothing left to halve (nnU-Net's rule).
_SMALLEST_EDGE = 4
_LARGEST_EDGE = 4096  # of a patch, in a Plan


def plan_cohort(cohort: Cohort, plan_file: str | Path | None = None, seed: int = 0, sizes: Sizes | None = None) -> Plan:
    """The plan read from `plan_file` where one is given, else the one `make_plan` finds, at most of `sizes`. Of several
    processes the first one plans for all.

    Raises:
        InputError: the plan's channels or classes are not the cohort's, or no valid plan has such sizes.
    """
    return ranks.from_first(lambda: _plan_cohort(cohort, plan_file, seed, sizes))


def _plan_cohort(cohort: Cohort, plan_file: str | Path | None, seed: int, sizes: Sizes | None) -> Plan:
    if plan_file is None:
        try:
            return make_plan(cohort, fingerprint(cohort, seed), sizes)
        except ValidationError as error:
            raise InputError(f"{cohort.name}: no valid plan with {sizes or Sizes()}: {first_problem(error)}") from error
    plan = load_plan(plan_file)
    classes = {value: name for value, name in cohort.classes.items() if name != "ignore"}
    if len(plan.channels) != len(cohort.channels) or plan.classes != classes:
        raise InputError(
            f"{plan_file}: made for {len(plan.channels)} channels and classes {plan.classes}, but {cohort.name} has "
            f"{len(cohort.channels)} channels and classes {classes}; leave the plan out to plan anew"
        )
    return plan


@dataclass(frozen=True)
class Sizes:
    """How large a network and its batches may be.

    Attributes:
        patch_voxels: a patch has at most about this many voxels.
        batch_voxels: a batch has about this many voxels, and 2 to 16 patches.
        base_filters: channels of the first stage, doubled at each further one up to `max_filters`.
        max_stages: at most so many resolutions.
        residual: residual blocks in the encoder.
        heads: deep-supervision heads, fewer where there are few stages.
    """

    patch_voxels: int = 131_072
    batch_voxels: int = 400_000
    base_filters: int = 16
    max_filters: int = 320
    max_stages: int = 4
    residual: bool = True
    heads: int = 2


def make_plan(cohort: Cohort, found: Fingerprint, sizes: Sizes | None = None) -> Plan:
    """The plan for a cohort with the fingerprint `found`. A class named `ignore` is no output of the network."""
    sizes = sizes or Sizes()
    patch, strides, kernels = patch_and_topology(found.shape, found.spacing, sizes.patch_voxels, sizes.max_stages)
    stages = len(strides)
    voxels = int(np.prod(patch))
    return Plan(
        name=cohort.name,
        channels=tuple(
            _channel(name, intensities) for name, intensities in zip(cohort.channels, found.intensities, strict=True)
        ),
        classes={value: name for value, name in sorted(cohort.classes.items()) if name != "ignore"},
        regions=cohort.regions,
        spacing=found.spacing,
        patch_size=patch,
        batch_size=int(np.clip(round(sizes.batch_voxels / voxels), 2, 16)),
        network=NetworkPlan(
            filters=tuple(min(sizes.base_filters * 2**i, sizes.max_filters) for i in range(stages)),
            strides=strides,
            kernels=kernels,
            residual=sizes.residual,
            heads=min(sizes.heads, stages - 2),
        ),
        seen=found.seen,
    )


def patch_and_topology(
    shape: Sequence[int], spacing: Sequence[float], patch_voxels: int, max_stages: int
) -> tuple[Triple, tuple[Triple, ...], tuple[Triple, ...]]:
    """Patch size, strides and kernels for volumes of `shape` voxels of `spacing` mm.

    The patch is the volume, and while that is too large the axis that covers most of the volume gives way. An axis
    is halved at a stage while it keeps four voxels and is not yet twice as coarse as the finest that is still to be
    halved; a coarser axis waits, and convolutions do not run along it until then (Isensee et al. 2021, supplement:
    anisotropic data).
    """
    whole = np.clip(np.asarray(shape), 1, _LARGEST_EDGE)
    patch = whole.copy()
    while True:
        strides, kernels = _topology(patch, spacing, max_stages)
        divisor = np.prod(np.array(strides), axis=0)
        rounded = np.maximum(np.ceil(patch / divisor).astype(int), 1) * divisor
        if rounded.prod() <= patch_voxels or np.all(rounded <= divisor):
            break
        shrinkable = rounded > divisor
        axis = int(np.argmax(np.where(shrinkable, rounded / whole, -1.0)))
        patch = rounded.copy()
        patch[axis] -= divisor[axis]
    return (int(rounded[0]), int(rounded[1]), int(rounded[2])), strides, kernels


def _topology(
    patch: np.ndarray, spacing: Sequence[float], max_stages: int
) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    size, mm = patch.astype(float), np.asarray(spacing, float)
    wide = _as_fine(size, mm)  # the axes that convolutions run along: once begun they go on
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [_triple(np.where(wide, 3, 1))]
    while len(strides) < max_stages and (size >= 2 * _SMALLEST_EDGE).any():
        factor = np.where(_as_fine(size, mm) & (size >= 2 * _SMALLEST_EDGE), 2, 1)
        size, mm = size / factor, mm * factor
        wide = wide | _as_fine(size, mm)
        strides.append(_triple(factor))
        kernels.append(_triple(np.where(wide, 3, 1)))
    if len(strides) < 2:  # a volume of a few voxels: one further stage that halves nothing
        strides.append((1, 1, 1))
        kernels.append((3, 3, 3))
    return tuple(strides), tuple(kernels)


def _as_fine(size: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Which axes are less than twice as coarse as the finest that can still be halved. An axis of a few voxels is
    no measure: it stays fine while the others become coarse."""
    for enough in (size >= 2 * _SMALLEST_EDGE, size > 1):
        if enough.any():
            return mm < 2 * mm[enough].min()
    return mm < 2 * mm.min()


def _triple(values: np.ndarray) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])


def _channel(name: str, found: Intensities | None) -> ChannelPlan:
    if found is None:
        return ChannelPlan(name=name, normalisation="zscore")
    # digits that count, not decimals: a PET in MBq/ml lies within thousandths
    digits = {field: float(f"{getattr(found, field):.6g}") for field in ("lower", "upper", "mean", "std")}
    return ChannelPlan(name=name, normalisation="clip_zscore", **digits)
