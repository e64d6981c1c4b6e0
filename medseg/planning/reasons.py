"""Why each number of a plan is what it is, in a sentence."""

from __future__ import annotations

import numpy as np

from medseg.plan import Plan
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.sizes import Limits

__all__ = ["reasons"]

_AXES = ("left to right", "back to front", "foot to head")


def reasons(
    plan: Plan, found: Fingerprint, limits: Limits, memory: float | None, takes: str, mirrored: str
) -> dict[str, str]:
    """A sentence a field of `plan`, by its dotted name.

    Args:
        plan: what is explained.
        found: the fingerprint that it was made of.
        limits: what the budget allowed.
        memory: that training may take in bytes; None for the small plans of a CPU.
        takes: what training is expected to take.
        mirrored: why axes are mirrored or not.
    """
    return {
        **{f"channels.{i}": _channel(plan, i) for i in range(len(plan.channels))},
        "classes": "those of the dataset; what is called ignore is masked and no output"
        if not plan.regions
        else "label values of the dataset; the outputs are the regions",
        **(
            {"regions": "the dataset's own: they overlap, so each is one output with a sigmoid"} if plan.regions else {}
        ),
        "spacing": _spacing(plan, found),
        "patch_size": _patch(plan, found, limits, memory),
        "batch_size": _batch(found, limits, memory, takes),
        "foreground": _foreground(plan, found),
        "mirror_axes": mirrored,
        "network.filters": f"{limits.base_filters} at first, doubled at each stage, {limits.max_filters} at most",
        "network.strides": _strides(plan, limits),
        "network.kernels": _kernels(plan),
        "network.residual": "residual blocks in the encoder: steadier gradients for a tenth more memory"
        if plan.network.residual
        else "plain blocks, as asked for",
        "network.heads": f"losses at {plan.network.heads} lower resolutions too, so that deep stages learn early",
        "inference.overlap": "neighbouring windows share half of their voxels, so that none is seen only at an edge",
        "inference.batch": "two windows at a time keep the device busy and take less memory than training",
        "inference.mirror_axes": "those of training: what was never seen mirrored is not predicted mirrored",
        "seen": "the least and greatest spacing of all images, and where a channel has a unit the lowest 5th and the"
        " highest 95th percentile of a labelled volume: a volume outside of them is flagged when it is predicted",
    }


def _spacing(plan: Plan, found: Fingerprint) -> str:
    low, high = found.seen.spacing if found.seen else (plan.spacing, plan.spacing)
    span = " x ".join(f"{a:g}" if a == b else f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
    text = f"the median of all images along each axis, which have {span} mm"
    if found.slices_along is None:
        return text
    return (
        f"{text}; {_AXES[found.slices_along]} the 10th percentile, for slices lie more than three times as far apart"
        " as voxels within them"
    )


def _patch(plan: Plan, found: Fingerprint, limits: Limits, memory: float | None) -> str:
    covered = np.minimum(np.array(plan.patch_size) / found.shape, 1)
    volume = " x ".join(map(str, found.shape))
    share = f"the median volume, {volume} voxels at this spacing"
    if (covered >= 1).all():
        return f"{share}, rounded up to multiples of {_product(plan.network.divisor())}: it fits whole"
    budget = f"{memory / 1e9:.3g} GB" if memory is not None else f"{limits.patch_voxels:,.0f} voxels (a CPU's budget)"
    return (
        f"covers {', '.join(f'{c:.0%}' for c in covered)} of {share}: the axes gave way alike until it fitted into "
        f"{budget}; multiples of {_product(plan.network.divisor())}"
    )


def _batch(found: Fingerprint, limits: Limits, memory: float | None, takes: str) -> str:
    if memory is None:
        return f"about {limits.batch_voxels:,.0f} voxels a step, between 2 and 16 patches (a CPU's budget); {takes}"
    return (
        f"as many as {memory / 1e9:.3g} GB hold, at least 2, at most 16 and 5% of the voxels of {found.volumes}"
        f" training volumes; {takes}"
    )


def _foreground(plan: Plan, found: Fingerprint) -> str:
    share = sum(found.shares.values())
    text = f"this share of labelled patches lies around a voxel of a class; foreground fills {share:.2g} of a volume"
    return f"{text}, so little that other patches mostly miss it" if plan.foreground > 0.5 else text


def _strides(plan: Plan, limits: Limits) -> str:
    text = f"an axis is halved while it keeps 4 voxels, in at most {limits.max_stages} stages"
    if all(kernel == (3, 3, 3) for kernel in plan.network.kernels):
        return text
    return f"{text}; one twice as coarse as the finest, or more, waits (1) until the others have caught up"


def _kernels(plan: Plan) -> str:
    if all(kernel == (3, 3, 3) for kernel in plan.network.kernels):
        return "3 along each axis: spacings are within a factor of two"
    return "1 along an axis twice as coarse as the finest, or more, until the others have caught up; then 3"


def _channel(plan: Plan, i: int) -> str:
    channel = plan.channels[i]
    if channel.normalisation == "zscore":
        return f"{channel.name} has no unit: each volume by its own mean and standard deviation, of the body's box"
    return (
        f"{channel.name} has a unit: clipped to the 0.5th and 99.5th percentile of the budget's labelled voxels, then"
        " by their mean and standard deviation"
    )


def _product(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))
