"""From fingerprint to plan: spacing, patch, topology, normalisation and batch, by rules, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from medseg import ranks
from medseg.data.cohort import Cohort
from medseg.data.description import IGNORE_NAME
from medseg.errors import InputError
from medseg.plan import ChannelPlan, InferencePlan, NetworkPlan, Plan, Region, first_problem, load_plan
from medseg.planning.fingerprint import Fingerprint, Intensities, fingerprint
from medseg.planning.memory import TrainingMemory, filters_of
from medseg.planning.mirroring import mirror_axes
from medseg.planning.reasons import reasons
from medseg.planning.sizes import Limits, Sizes, chosen_memory
from medseg.planning.topology import Topology, patch_and_topology

__all__ = ["make_plan", "plan_cohort"]

_SMALLEST_BATCH, _LARGEST_BATCH = 2, 16
_BATCH_SHARE = 0.05  # of all training voxels: beyond, a batch repeats itself (Isensee et al. 2021)
_FOREGROUND = 0.5
_FOREGROUND_RARE = 2 / 3
_RARE = 1e-3  # of a volume's voxels: so little foreground that patches placed anywhere mostly miss it


def plan_cohort(
    cohort: Cohort,
    plan_file: str | Path | None = None,
    seed: int = 0,
    sizes: Sizes | None = None,
    memory: str | float | None = None,
    device: torch.device | str | None = None,
    precision: str = "bf16",
    skip_bad: bool = False,
) -> Plan:
    """The plan read from `plan_file` where one is given, else the one that `make_plan` finds. Of several processes the
    first one plans for all.

    Args:
        cohort: what it is for.
        plan_file: a plan.yaml.
        seed: of the voxels that statistics are taken of.
        sizes: limits that the user sets.
        memory: that training may take, such as "8GB"; None: see `chosen_memory`.
        device: that training runs on.
        precision: that training runs in: bf16, fp16, or fp32, whose maps take twice the memory.
        skip_bad: plans without labelled cases that cannot be read.

    Raises:
        InputError: the plan's channels, classes or regions are not the cohort's or in another order, no valid plan has
            such sizes, or `memory` is no size or holds no plan.
    """
    limits = sizes or Sizes()

    def plan() -> Plan:
        if plan_file is not None:
            return _given(cohort, plan_file)
        counts = (f"{len(getattr(cohort, kind))} {kind}" for kind in ("labelled", "unlabelled", "validation"))
        ranks.announce(f"planning by the cases: {', '.join(counts)}")
        found = fingerprint(cohort, seed, skip_bad)
        return _planned(cohort, found, limits, chosen_memory(memory, device), precision)

    return ranks.from_first(plan)


def _planned(cohort: Cohort, found: Fingerprint, sizes: Sizes, memory: float | None, precision: str) -> Plan:
    try:
        return make_plan(cohort, found, sizes, memory, 4 if precision == "fp32" else 2)
    except ValidationError as error:
        raise InputError(f"{cohort.name}: no valid plan with {sizes}: {first_problem(error)}") from error


def _given(cohort: Cohort, plan_file: str | Path) -> Plan:
    plan = load_plan(plan_file)
    classes = _classes(cohort)
    if len(plan.channels) != len(cohort.channels) or plan.classes != classes or plan.regions != cohort.regions:
        raise InputError(
            f"{plan_file}: made for {len(plan.channels)} channels and classes {plan.classes}{_said(plan.regions)}, but "
            f"{cohort.name} has {len(cohort.channels)} channels and classes {classes}{_said(cohort.regions)}; "
            "leave the plan out to plan anew"
        )
    channels = tuple(channel.name for channel in plan.channels)
    if channels != cohort.channels and sorted(channels) == sorted(cohort.channels):  # names may differ, places may not
        raise InputError(
            f"{plan_file}: its channels are {', '.join(channels)} in this order, but those of {cohort.name} are "
            f"{', '.join(cohort.channels)}; order them alike, or leave the plan out to plan anew"
        )
    return plan


def make_plan(
    cohort: Cohort,
    found: Fingerprint,
    sizes: Sizes | None = None,
    memory: float | None = None,
    bytes_a_value: int = 2,
) -> Plan:
    """The plan for a cohort with the fingerprint `found`, of at most `sizes`, that trains in `memory` bytes with
    `bytes_a_value` (see `TrainingMemory`); without, one small enough for minutes on a CPU. A class named `ignore` is no
    output of the network.

    Raises:
        InputError: two of the smallest patches do not fit into `memory`.
    """
    limits = (sizes or Sizes()).filled(memory)
    classes = _classes(cohort)
    needs = TrainingMemory(limits, len(cohort.channels), len(cohort.regions) or len(classes), bytes_a_value)
    topology = _topology(found, limits, needs, memory)
    batch = _batch(topology, found, limits, needs, memory)
    stages = len(topology.strides)
    axes, why_mirrored = mirror_axes(cohort.name, [name for value, name in classes.items() if value])
    rare = 0 < sum(found.shares.values()) < _RARE
    plan = Plan(
        name=cohort.name,
        channels=tuple(_channel(name, i) for name, i in zip(cohort.channels, found.intensities, strict=True)),
        classes=classes,
        regions=cohort.regions,
        spacing=found.spacing,
        patch_size=topology.patch,
        batch_size=batch,
        foreground=round(_FOREGROUND_RARE, 3) if rare else _FOREGROUND,
        mirror_axes=axes,
        network=NetworkPlan(
            filters=filters_of(limits, stages),
            strides=topology.strides,
            kernels=topology.kernels,
            residual=limits.residual,
            heads=min(limits.heads, stages - 2),
        ),
        inference=InferencePlan(mirror_axes=axes),
        seen=found.seen,
    )
    why = reasons(plan, found, limits, memory, _takes(needs, topology, batch), why_mirrored)
    return plan.model_copy(update={"reasons": why})


def _takes(needs: TrainingMemory, topology: Topology, batch: int) -> str:
    precision = "float32" if needs.bytes_a_value == 4 else "half precision"
    return f"training takes about {needs.of(topology, batch) / 1e9:.2g} GB ({precision})"


def _topology(found: Fingerprint, limits: Limits, needs: TrainingMemory, memory: float | None) -> Topology:
    def fits(topology: Topology) -> bool:
        small = topology.voxels <= limits.patch_voxels
        return small and (memory is None or needs.fits(topology, _SMALLEST_BATCH, memory))

    topology = patch_and_topology(found.shape, found.spacing, fits, limits.max_stages)
    if memory is not None and not needs.fits(topology, _SMALLEST_BATCH, memory):
        raise InputError(
            f"--memory: {memory / 1e9:.3g} GB hold no batch of {_SMALLEST_BATCH} patches of {topology.patch} voxels"
            f" with {limits.base_filters} filters: {needs.of(topology, _SMALLEST_BATCH) / 1e9:.3g} GB are needed; give"
            " more, or choose a smaller network (--network small)"
        )
    return topology


def _batch(topology: Topology, found: Fingerprint, limits: Limits, needs: TrainingMemory, memory: float | None) -> int:
    largest = float(_LARGEST_BATCH)
    if np.isfinite(limits.batch_voxels):
        largest = min(largest, round(limits.batch_voxels / topology.voxels))
    if memory is not None:
        largest = min(largest, round(_BATCH_SHARE * found.volumes * np.prod(found.shape) / topology.voxels))
        while largest > _SMALLEST_BATCH and not needs.fits(topology, int(largest), memory):
            largest -= 1
    return int(max(largest, _SMALLEST_BATCH))


def _channel(name: str, found: Intensities | None) -> ChannelPlan:
    if found is None:
        return ChannelPlan(name=name, normalisation="zscore")
    # digits that count, not decimals: a PET in MBq/ml lies within thousandths
    digits = {field: float(f"{getattr(found, field):.6g}") for field in ("lower", "upper", "mean", "std")}
    return ChannelPlan(name=name, normalisation="clip_zscore", **digits)


def _classes(cohort: Cohort) -> dict[int, str]:
    return {value: name for value, name in sorted(cohort.classes.items()) if name != IGNORE_NAME}


def _said(regions: Sequence[Region]) -> str:
    return f", regions {', '.join(region.name for region in regions)}" if regions else ""
