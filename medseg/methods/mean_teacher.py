"""Consistency of the student's strong view with an averaged teacher's weak view."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medseg.augment import Batch, DrawKey, Unlabelled
from medseg.losses import ConsistencyLoss, consistency_loss
from medseg.methods.base import Loss, MethodOutput, Models, Progress, supervised_output, unlabelled_part
from medseg.methods.ramps import Ramp
from medseg.methods.teaching import Taught, taught
from medseg.randomness import torch_generator

__all__ = ["MeanTeacher"]


class MeanTeacher:
    """The student's prediction of the strong view is drawn to the teacher's of the weak one.

    Source: Tarvainen & Valpola 2017 (arXiv:1703.01780); with `passes` UA-MT (Yu et al. 2019, arXiv:1907.07034)

    Cost: a student forward and backward on each part and 1 + `passes` teacher forwards on the unlabelled one

    Args:
        loss: of the labelled term.
        consistency: distance of two predictions; by default the mean square of the probabilities' difference. Its
            activation is that of the targets.
        ramp: the weight of the consistency over the run.
        passes: teacher passes over noised images that measure its uncertainty; 0 trusts it everywhere.
        noise: standard deviation of their noise, in that of the image.
        certainty: the entropy above which a voxel is left out, as a share of the largest one possible; it rises to 1
            with the ramp (UA-MT: 0.75).
    """

    students = 1
    needs_teacher = True
    needs_unlabelled = True

    def __init__(
        self,
        loss: Loss,
        consistency: ConsistencyLoss | None = None,
        ramp: Ramp | None = None,
        passes: int = 0,
        noise: float = 0.1,
        certainty: float = 0.75,
    ) -> None:
        if passes < 0 or not 0 < certainty <= 1:
            raise ValueError(f"passes are 0 or more and certainty is a share, found {passes} and {certainty}")
        self.loss = loss
        self.consistency = consistency or ConsistencyLoss()
        self.ramp = ramp or Ramp(weight=5.0, start=0.1, length=0.4)
        self.passes = passes
        self.noise = noise
        self.certainty = certainty

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The terms `labelled` and, once the ramp has begun, `consistency`."""
        output = supervised_output(self.loss, models.students[0], batch, progress)
        weight = self.ramp(progress)
        output.diagnostics["ramp"] = weight
        if weight == 0:
            return output
        part, teacher = unlabelled_part(batch), models.the_teacher()
        overlapping = batch.targets.overlapping
        with torch.no_grad():
            target = teacher(part.weak)
            kept = part.mask
            if self.passes:
                share = self.certainty + (1 - self.certainty) * weight / self.ramp.weight
                kept = kept & (self._entropy(teacher, part, batch.key, overlapping) < share)
        logits = models.students[0](part.strong).logits
        options = {**self.consistency.arguments(), "activation": batch.targets.activation}
        output.terms["consistency"] = consistency_loss(logits, target, kept, **options)
        output.weights["consistency"] = weight
        output.pictures.update(
            {
                "weak view": part.weak,
                "strong view": part.strong,
                "teacher": batch.targets.pseudo(target).label,
                "student": batch.targets.pseudo(logits).label,
                "kept": kept,
            }
        )
        output.diagnostics["kept_share"] = kept.sum() / part.mask.sum().clamp_min(1)
        return output

    def pseudo_label(self, batch: Batch, models: Models) -> Taught:
        """The teacher's, everywhere: the consistency has no threshold."""
        return taught(models.the_teacher(), unlabelled_part(batch), batch.targets, threshold=0.0)

    def _entropy(self, teacher: nn.Module, part: Unlabelled, key: DrawKey, overlapping: bool) -> Tensor:
        """(B, 1, D, H, W) of the mean prediction over noised images, 1 where it knows nothing."""
        noised = [self._noised(part, key, turn) for turn in range(self.passes)]
        p = torch.stack([_probabilities(teacher(one), overlapping) for one in noised]).mean(0).clamp(1e-6, 1 - 1e-6)
        if overlapping:
            binary = -(p * p.log() + (1 - p) * (1 - p).log()) / math.log(2)
            return binary.amax(1, keepdim=True)
        return -(p * p.log()).sum(1, keepdim=True) / math.log(p.shape[1])

    def _noised(self, part: Unlabelled, key: DrawKey, turn: int) -> Tensor:
        noise = torch.empty_like(part.weak)
        for slot, one in zip(part.slots, noise, strict=True):
            one.normal_(generator=torch_generator(*key, slot, f"teacher noise {turn}", noise.device))
        return part.weak + self.noise * noise


def _probabilities(logits: Tensor, overlapping: bool) -> Tensor:
    return logits.float().sigmoid() if overlapping else logits.float().softmax(1)
