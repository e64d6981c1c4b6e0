"""The teacher labels the weak view, the student learns the strong view where the teacher is confident."""

from __future__ import annotations

import torch

from medseg.augment import Batch
from medseg.methods.base import Loss, MethodOutput, Models, Progress, loss_of, parts, supervised_output
from medseg.methods.ramps import Ramp

__all__ = ["PseudoLabel"]


class PseudoLabel:
    """FixMatch (Sohn et al. 2020) in volumes, with an averaged teacher (Tarvainen & Valpola 2017): the segmentation
    loss under the mask of confident voxels.

    Cost: a student forward and backward on each part and a teacher forward on the unlabelled one.

    Args:
        loss: of the network's heads against label and mask; the same for true and for pseudo-labels.
        threshold: the teacher's probability from which on a voxel is kept.
        ramp: the weight of the unlabelled term over the run; by default from 0.3 to 0.6 of it. Where it is 0,
            unlabelled images are not looked at: an early teacher knows little, and those steps cost half.
    """

    students = 1
    needs_teacher = True
    needs_unlabelled = True

    def __init__(self, loss: Loss, threshold: float = 0.9, ramp: Ramp | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, found {threshold}")
        self.loss = loss
        self.threshold = threshold
        self.ramp = ramp or Ramp(start=0.3, length=0.3)

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The terms `labelled` and, once the ramp has begun, `unlabelled`.

        The unlabelled term is scaled by the share of voxels kept: for the cross entropy this is the mean over all
        voxels (FixMatch, eq. 4), so that a handful of confident voxels does not get the weight of a volume.
        """
        output = supervised_output(self.loss, models.students[0], batch.labelled, progress)
        weight = self.ramp(progress)
        output.diagnostics["ramp"] = weight
        if weight == 0:
            return output
        part = batch.unlabelled
        if part is None or models.teacher is None:
            raise ValueError("pseudo_label needs unlabelled images and a teacher")
        with torch.no_grad():
            probability, label = models.teacher(part.weak).float().softmax(1).max(1, keepdim=True)
            kept = (probability >= self.threshold) & part.mask
            share = kept.sum() / part.mask.sum().clamp_min(1)
        found = loss_of(self.loss, models.students[0](part.strong), label, kept, progress)
        output.terms["unlabelled"] = share * found.total
        output.weights["unlabelled"] = weight
        output.diagnostics.update(parts("unlabelled", found))
        output.diagnostics.update(
            {
                "kept_share": share,
                "kept_foreground_share": (kept & (label > 0)).sum() / kept.sum().clamp_min(1),
            }
        )
        return output
