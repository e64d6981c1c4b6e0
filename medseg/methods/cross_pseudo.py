"""Two students of different beginnings label the unlabelled images for each other."""

from __future__ import annotations

import torch

from medseg.augment import Batch
from medseg.methods.base import Loss, MethodOutput, Models, Progress, loss_of, supervised_output, unlabelled_part
from medseg.methods.ramps import Ramp
from medseg.methods.teaching import Taught

__all__ = ["CrossPseudo"]


class CrossPseudo:
    """Two students label for each other: what one is sure of, the other learns.

    Source: CPS (Chen et al. 2021, arXiv:2106.01226), eq. 3, in volumes

    Cost: a forward and backward of both students on each part: twice a supervised step, and twice the memory

    Args:
        loss: of the network's heads against label and mask; the same for true and for pseudo-labels.
        threshold: the other student's probability from which on a voxel is kept; 0 keeps all (CPS).
        ramp: the weight of the cross terms over the run.
    """

    students = 2
    needs_teacher = False
    needs_unlabelled = True

    def __init__(self, loss: Loss, threshold: float = 0.8, ramp: Ramp | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, found {threshold}")
        self.loss = loss
        self.threshold = threshold
        self.ramp = ramp or Ramp(start=0.2, length=0.3)

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The terms `labelled` and `labelled_second` and, once the ramp has begun, `cross` and `cross_second`."""
        output = supervised_output(self.loss, models.students[0], batch, progress)
        second = supervised_output(self.loss, models.students[1], batch, progress)
        output.terms["labelled_second"] = second.terms["labelled"]
        weight = self.ramp(progress)
        output.diagnostics["ramp"] = weight
        if weight == 0:
            return output
        part = unlabelled_part(batch)
        found = [student(part.strong) for student in models.students]
        pseudo = [batch.targets.pseudo(one.logits) for one in found]
        kept = [(one.confidence >= self.threshold) & part.mask for one in pseudo]
        for name, mine, other in (("cross", 0, 1), ("cross_second", 1, 0)):
            output.terms[name] = loss_of(self.loss, found[mine], pseudo[other].label, kept[other], progress).total
            output.weights[name] = weight
        output.pictures.update(
            {
                "strong view": part.strong,
                "label for the second": pseudo[0].label,
                "kept for the second": kept[0],
                "label for the first": pseudo[1].label,
                "kept for the first": kept[1],
            }
        )
        inside = part.mask.sum().clamp_min(1)
        same = (pseudo[0].label == pseudo[1].label).all(1, keepdim=True) & part.mask
        output.diagnostics["kept_share"] = kept[1].sum() / inside
        output.diagnostics["agreement_share"] = same.sum() / inside
        return output

    @torch.no_grad()
    def pseudo_label(self, batch: Batch, models: Models) -> Taught:
        """The second student's."""
        part = unlabelled_part(batch)
        pseudo = batch.targets.pseudo(models.students[1](part.strong).logits)
        return Taught(pseudo.label, (pseudo.confidence >= self.threshold) & part.mask, pseudo.foreground)
