"""What a method is: one batch and the models in, named loss terms out. No loop, optimiser, logging or device code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from medseg.augment import Batch, Unlabelled
from medseg.losses import LossTerms
from medseg.methods.annotation import only_annotated
from medseg.methods.teaching import Taught
from medseg.networks.unet import NetworkOutput

__all__ = [
    "Loss",
    "Method",
    "MethodOutput",
    "Models",
    "Progress",
    "loss_of",
    "parts",
    "supervised_output",
    "unlabelled_part",
]

Loss = Callable[[Sequence[Tensor], Tensor, Tensor, float], LossTerms]
"""`loss(heads, label, mask, thousandths)`: a segmentation loss inside a `medseg.losses.DeepSupervisionLoss`."""


class Progress(NamedTuple):
    """Step `step` (from 0) of a run of `steps`. Every schedule is a pure function of it."""

    step: int
    steps: int

    @property
    def share(self) -> float:
        """The share of the run that is over, 0 to 1."""
        return min(self.step / max(self.steps, 1), 1.0)


@dataclass(frozen=True)
class Models:
    """The students, in training mode, and the teacher, an average of the first student in evaluation mode."""

    students: tuple[nn.Module, ...]
    teacher: nn.Module | None = None

    def the_teacher(self) -> nn.Module:
        """The teacher.

        Raises:
            ValueError: there is none.
        """
        if self.teacher is None:
            raise ValueError("the method needs a teacher and there is none")
        return self.teacher


@dataclass(frozen=True)
class MethodOutput:
    """What a method makes of a batch.

    Attributes:
        terms: named scalars; the engine minimises their sum, each times its weight.
        weights: of the terms that are not weighted 1.
        diagnostics: what to track besides: parts of terms, kept share, ramp weight, agreement.
        pictures: what a user may want to see of the step, by name: images (B, C, D, H, W) floating point, labels as
            `Batch.targets` forms them, masks bool. References only, so they cost nothing.
    """

    terms: dict[str, Tensor]
    weights: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, Tensor | float] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)

    def total(self) -> Tensor:
        """The weighted sum of the terms."""
        values = [self.weights.get(name, 1.0) * term for name, term in self.terms.items()]
        return sum(values[1:], start=values[0])


class Method(Protocol):
    """A way to use labels and their absence.

    Attributes:
        students: how many networks the engine builds and optimises.
        needs_teacher: whether the engine keeps a teacher.
        needs_unlabelled: whether it needs unlabelled cases.
    """

    students: int
    needs_teacher: bool
    needs_unlabelled: bool

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The named terms of one step."""
        ...

    def pseudo_label(self, batch: Batch, models: Models) -> Taught | None:
        """What the first student would be taught of the unlabelled part once the ramp is over; None: nothing."""
        ...


def loss_of(
    loss: Loss,
    output: NetworkOutput,
    label: Tensor,
    mask: Tensor,
    progress: Progress,
    annotated: Tensor | None = None,
    overlapping: bool = False,
) -> LossTerms:
    """`loss` of all heads of `output`; of outputs that the label does not speak of nothing is learned (see
    `only_annotated`). The step that scheduled losses see is in thousandths of the run, so that
    a schedule means the same whatever the budget, also one in minutes."""
    heads: Sequence[Tensor] = (output.logits, *output.deep)
    if annotated is not None:
        heads = [only_annotated(head, annotated, overlapping) for head in heads]
    return loss(heads, label, mask, 1000 * progress.share)


def supervised_output(loss: Loss, student: nn.Module, batch: Batch, progress: Progress) -> MethodOutput:
    """The labelled term, which is the same for every method: `loss` of the student on the labelled training view."""
    part = batch.labelled
    overlapping = batch.targets.overlapping
    found = loss_of(loss, student(part.image), part.label, part.mask, progress, part.annotated, overlapping)
    pictures = {"labelled image": part.image, "label": part.label}
    return MethodOutput({"labelled": found.total}, {}, parts("labelled", found), pictures)


def unlabelled_part(batch: Batch) -> Unlabelled:
    """The unlabelled part of a batch.

    Raises:
        ValueError: there is none.
    """
    if batch.unlabelled is None:
        raise ValueError("the method needs unlabelled images and the batch has none")
    return batch.unlabelled


def parts(name: str, found: LossTerms) -> dict[str, Tensor | float]:
    """The named parts of a term, for tracking."""
    return {f"{name}/{part}": value for part, value in found.terms.items()}
