"""The teacher labels the weak view, the student learns the strong view where the teacher is confident."""

from __future__ import annotations

from medseg.augment import Batch
from medseg.losses.ranks import mean_over_ranks
from medseg.methods.base import (
    Loss,
    MethodOutput,
    Models,
    Progress,
    loss_of,
    parts,
    supervised_output,
    unlabelled_part,
)
from medseg.methods.ramps import Ramp
from medseg.methods.teaching import Taught, taught

__all__ = ["PseudoLabel"]


class PseudoLabel:
    """The teacher labels the weak view; the student learns the strong view where the teacher is confident.

    Source: FixMatch (Sohn et al. 2020, arXiv:2001.07685) in volumes, with an averaged teacher (Tarvainen & Valpola
        2017, arXiv:1703.01780)

    Cost: a student forward and backward on each part and a teacher forward on the unlabelled one

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

        The unlabelled term is scaled by the batch's share of voxels kept, so that a handful of confident voxels does
        not get the weight of a volume. Of one image the cross entropy is then a mean over all voxels (FixMatch, eq. 4).
        Where a step is taken in parts (`accumulate`), the share is that of each part.
        """
        output = supervised_output(self.loss, models.students[0], batch, progress)
        weight = self.ramp(progress)
        output.diagnostics["ramp"] = weight
        if weight == 0:
            return output
        part = unlabelled_part(batch)
        pseudo = self.pseudo_label(batch, models)
        share = mean_over_ranks(pseudo.kept.sum().float()) / mean_over_ranks(part.mask.sum().float()).clamp_min(1)
        found = loss_of(self.loss, models.students[0](part.strong), pseudo.label, pseudo.kept, progress)
        output.terms["unlabelled"] = share * found.total
        output.weights["unlabelled"] = weight
        output.diagnostics.update(parts("unlabelled", found))
        output.diagnostics.update(pseudo.shares(part.mask))
        output.pictures.update(pseudo.pictures(part))
        return output

    def pseudo_label(self, batch: Batch, models: Models) -> Taught:
        """The teacher's."""
        part = unlabelled_part(batch)
        return taught(models.the_teacher(), part, batch.targets, self.threshold)
