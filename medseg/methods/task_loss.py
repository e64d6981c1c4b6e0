"""The configured loss, fitted to the task and put over the network's heads."""

from __future__ import annotations

import inspect
from typing import Protocol

from torch import nn

from medseg import ranks
from medseg.augment import Targets
from medseg.errors import InputError
from medseg.losses import DeepSupervisionLoss, PointSampledLoss, SampleRoutedLoss, fit_to_task

__all__ = ["task_loss"]


class _Labels(Protocol):
    @property
    def class_voxels(self) -> list[int]:
        """Voxels of each class."""


def task_loss(loss: nn.Module, labels: _Labels, targets: Targets) -> DeepSupervisionLoss:
    """`loss` over all heads, with class weights from the budget's labels and the activation that the targets ask for.

    Args:
        loss: any segmentation loss or composite.
        labels: counts the voxels of each class when a `class_weight` names a scheme.
        targets: classes or regions.

    Raises:
        InputError: the loss takes no mask, cannot do what the targets or several processes ask for, or no class has a
            voxel.
    """
    try:
        inspect.signature(loss.forward).bind("logits", "target", "mask")
    except TypeError:
        name = type(loss).__name__
        raise InputError(
            f"loss: {name} does not take (logits, target, mask), as every loss of medseg does: `medseg losses`"
        ) from None
    routed = [inner for outer in loss.modules() if isinstance(outer, SampleRoutedLoss) for inner in outer.modules()]
    if ranks.size() > 1 and any(isinstance(inner, PointSampledLoss) for inner in routed):
        raise InputError(
            "loss: SampleRoutedLoss holds a PointSampledLoss: processes would wait for one that has no such sample; "
            "train in one process, or put another loss there"
        )

    def voxels() -> list[int]:
        of_classes = labels.class_voxels
        if not targets.overlapping:
            return of_classes
        return [sum(of_classes[index] for index in region) for region in targets.regions]

    try:
        return DeepSupervisionLoss(fit_to_task(loss, voxels, targets.overlapping, targets.outputs))
    except ValueError as error:
        raise InputError(f"loss: {error}") from error
