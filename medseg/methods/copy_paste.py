"""Bidirectional copy-paste: boxes swapped between labelled and unlabelled images, with a teacher's labels."""

from __future__ import annotations

from medseg.augment import Batch, BoxMix
from medseg.methods.base import Loss, MethodOutput, Models, Progress, supervised_output, unlabelled_part
from medseg.methods.forward import forward_all
from medseg.methods.mixing import Pairs, View, add_segmentation
from medseg.methods.ramps import Ramp
from medseg.methods.teaching import Taught, taught

__all__ = ["CopyPaste"]


class CopyPaste:
    """A box of each labelled image and one of an unlabelled image change places; the teacher labels the unlabelled one.

    Source: BCP (Bai et al. 2023, arXiv:2305.00673)

    Cost: before the ramp a supervised step of the labelled half alone; then, with n labelled and m unlabelled images, a
        student forward and backward on n + m images and a teacher forward on m

    Args:
        loss: of the network's heads against label and mask.
        threshold: the teacher's probability from which on a voxel is kept; 0 keeps all (BCP).
        components: whether only the largest component of each class is kept.
        box: how large the box is.
        ramp: the weight of pseudo-labelled voxels over the run; the published one ends at 0.5.
        mixed_start: whether labelled images are mixed among themselves before the ramp (BCP's pre-training); on several
            processes within the share of each, so that their number then matters.
    """

    students = 1
    needs_teacher = True
    needs_unlabelled = True

    def __init__(
        self,
        loss: Loss,
        threshold: float = 0.0,
        components: bool = True,
        box: BoxMix | None = None,
        ramp: Ramp | None = None,
        mixed_start: bool = False,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, found {threshold}")
        self.loss = loss
        self.threshold = threshold
        self.components = components
        self.box = box or BoxMix()
        self.ramp = ramp or Ramp(weight=0.5, start=0.3, length=0.2)
        self.mixed_start = mixed_start

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The terms `labelled`, of images that have no partner, and `mixed`, of both directions."""
        weight = self.ramp(progress)
        if weight == 0:
            start = batch if not self.mixed_start else Pairs.among_labelled(batch, self.box)
            output = supervised_output(self.loss, models.students[0], start, progress)
            output.diagnostics["ramp"] = weight
            return output
        part = unlabelled_part(batch)
        pseudo = self.pseudo_label(batch, models)
        pairs = Pairs.of(batch, self.box)
        mixed = pairs.mixed(pseudo, weight)
        views = {"labelled": View.of(pairs.alone), "mixed": mixed}
        found = forward_all(models.students[0], {name: view.image for name, view in views.items()})
        seen = {**pseudo.pictures(part), **mixed.pictures()}
        output = MethodOutput({}, {}, {"ramp": weight, **pseudo.shares(part.mask)}, seen)
        add_segmentation(output, self.loss, views, found, batch.targets, progress)
        return output

    def pseudo_label(self, batch: Batch, models: Models) -> Taught:
        """The teacher's."""
        part = unlabelled_part(batch)
        return taught(models.the_teacher(), part, batch.targets, self.threshold, self.components)
