"""Labelled images only: the baseline that every other method is judged against."""

from __future__ import annotations

from medseg.augment import Batch
from medseg.methods.base import Loss, MethodOutput, Models, Progress, supervised_output

__all__ = ["Supervised"]


class Supervised:
    """Minimises the loss on labelled images: the baseline that every other method is judged against.

    Source: -

    Cost: a student forward and backward on the labelled part

    Args:
        loss: of the network's heads against label and mask.
    """

    students = 1
    needs_teacher = False
    needs_unlabelled = False

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The term `labelled`."""
        return supervised_output(self.loss, models.students[0], batch, progress)

    def pseudo_label(self, batch: Batch, models: Models) -> None:
        """Nothing is taught."""
