"""What a loss is told by the task: which activation its targets ask for, and how frequent the classes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from medseg.losses.class_weights import class_weights
from medseg.losses.functional_module import FunctionLoss

__all__ = ["fit_to_task"]


def fit_to_task(loss: nn.Module, voxels: Callable[[], Sequence[float]], overlapping: bool = False) -> nn.Module:
    """`loss` itself, with what only the task knows filled in, in all its members.

    Args:
        loss: any loss or composite; changed in place.
        voxels: gives the voxels of each output in the training labels (K,); called once, and only where a
            `class_weight` names a scheme.
        overlapping: whether targets may overlap: then outputs are read with sigmoid, not softmax.

    Raises:
        ValueError: targets overlap and a member insists on softmax, or no class has a voxel.
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
        if overlapping and hasattr(member, "activation"):
            if member.activation == "softmax":
                raise ValueError(f"{type(member).__name__}: activation 'softmax' cannot have targets that overlap")
            setattr(member, "activation", "sigmoid")  # noqa: B010  # only some losses declare it
    return loss
