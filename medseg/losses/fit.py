"""What a loss is told by the task: which activation its targets ask for, and how frequent the classes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from medseg.losses.class_weights import class_weights
from medseg.losses.functional_module import FunctionLoss

__all__ = ["fit_to_task"]


def fit_to_task(
    loss: nn.Module, voxels: Callable[[], Sequence[float]], overlapping: bool = False, outputs: int | None = None
) -> nn.Module:
    """`loss` itself, with what only the task knows filled in, in all its members.

    Args:
        loss: any loss or composite; changed in place.
        voxels: gives the voxels of each output in the training labels (K,); called once, and only where a
            `class_weight` names a scheme.
        overlapping: whether targets may overlap: then outputs are read with sigmoid, and none is the background.
        outputs: K, where it is known.

    Raises:
        ValueError: targets overlap and a member insists on another activation or leaves the first output out, there are
            not K class weights, or no class has a voxel.
    """
    counts: Sequence[float] | None = None
    for member in loss.modules():
        if not isinstance(member, FunctionLoss):
            continue
        scheme = getattr(member, "class_weight", None)
        if isinstance(scheme, str):
            counts = voxels() if counts is None else counts
            del member.class_weight
            member.register_buffer("class_weight", class_weights(counts, scheme), persistent=False)  # type: ignore[arg-type]
        name = type(member).__name__
        weights = getattr(member, "class_weight", None)
        if outputs is not None and weights is not None and len(weights) != outputs:
            raise ValueError(f"{name}: class_weight has {len(weights)} values for {outputs} outputs")
        if overlapping and not getattr(member, "include_background", True):
            raise ValueError(f"{name}: include_background=false, but no region is the background; leave it out")
        if overlapping and hasattr(member, "activation"):
            if member.activation not in (None, "sigmoid"):
                raise ValueError(f"{name}: activation '{member.activation}' cannot have targets that overlap")
            setattr(member, "activation", "sigmoid")  # noqa: B010  # only some losses declare it
    return loss
