"""Labelled and unlabelled images in pairs, and what becomes of them when a box changes places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from medseg.augment import Batch, BoxMix, Labelled, Targets, Unlabelled, mix, unmix
from medseg.methods.base import Loss, MethodOutput, Progress, loss_of, parts, unlabelled_part
from medseg.methods.teaching import Taught
from medseg.networks.unet import NetworkOutput

__all__ = ["Pairs", "View", "add_segmentation"]


@dataclass(frozen=True)
class View:
    """Images (B, C, D, H, W) with the label that they are learned by, and where it counts: a mask or weights (B, 1, D,
    H, W), 1 for what the ground truth says. `annotated` and `slots` as in `Labelled`. `weight` is that of the view in
    the total: weights of voxels say only how much one counts against another."""

    image: Tensor
    label: Tensor
    mask: Tensor
    annotated: Tensor | None
    slots: Sequence[int]
    weight: float = 1.0

    @classmethod
    def of(cls, part: Labelled) -> Self:
        """Labelled images as they are."""
        return cls(part.image, part.label, part.mask, part.annotated, part.slots)

    def pictures(self) -> dict[str, Tensor]:
        """Of what `Pairs.mixed` gave the first half: labelled images with a box of unlabelled ones, their label, and
        where it counts."""
        m = len(self.image) // 2
        return {"mixed": self.image[:m], "mixed label": self.label[:m], "counts": self.mask[:m] > 0}


def add_segmentation(
    output: MethodOutput,
    loss: Loss,
    views: Mapping[str, View],
    found: Mapping[str, NetworkOutput],
    targets: Targets,
    progress: Progress,
) -> None:
    """Adds the loss of what the student `found` of each view, or of its twin, `NAME_twin`: the total is a mean over
    images, each with the weight of its view."""
    of = {name: views[name.removesuffix("_twin")] for name in found}
    images = sum(view.weight * len(view.image) for view in of.values())
    for name, one in found.items():
        view = of[name]
        terms = loss_of(loss, one, view.label, view.mask, progress, view.annotated, targets.overlapping)
        output.terms[name] = terms.total
        output.weights[name] = view.weight * len(view.image) / images
        output.diagnostics.update(parts(name, terms))


@dataclass(frozen=True)
class Pairs:
    """Sample i of the labelled part with sample i of the unlabelled one, for as many as both have; `box` (m, 1, D, H,
    W) is what changes places. `alone` are the labelled samples without a partner."""

    labelled: Labelled
    unlabelled: Unlabelled
    box: Tensor
    alone: Labelled

    @classmethod
    def of(cls, batch: Batch, box: BoxMix) -> Self:
        """The pairs of a batch."""
        part = unlabelled_part(batch)
        m = min(len(batch.labelled.image), len(part.weak))
        boxes = box.draw(*batch.key, part.slots[:m], part.weak.shape[2:], "mix").to(part.weak.device)
        own = Unlabelled(part.weak[:m], part.strong[:m], part.mask[:m], part.slots[:m])
        return cls(_some(batch.labelled, slice(m)), own, boxes, _some(batch.labelled, slice(m, None)))

    @staticmethod
    def among_labelled(batch: Batch, box: BoxMix) -> Batch:
        """The batch with a box of each labelled image replaced by that of the next one, label and mask alike."""
        one = batch.labelled
        boxes = box.draw(*batch.key, one.slots, one.image.shape[2:], "start mix").to(one.image.device)

        def swapped(x: Tensor) -> Tensor:
            return mix(x.roll(1, 0), x, boxes)

        annotated = None if one.annotated is None else swapped(one.annotated)
        return replace(
            batch,
            labelled=Labelled(
                swapped(one.image), swapped(one.weak), swapped(one.label), swapped(one.mask), annotated, one.slots
            ),
        )

    def mixed(self, pseudo: Taught, weight: float) -> View:
        """Both directions (2 m, ...) in the student's views, first the labelled images with a box of the unlabelled
        ones, then the reverse; voxels of the unlabelled images are weighed by `weight` where they are kept."""
        m, a, b = len(self.box), self.labelled, self.unlabelled
        known = a.mask.float()
        return View(
            self.both(a.image, b.strong),
            self.both(a.label, pseudo.label[:m].to(a.label.dtype)),
            self.both(known, weight * pseudo.kept[:m].float()),
            None if a.annotated is None else self.both(a.annotated, torch.ones_like(a.annotated)),
            (*b.slots, *b.slots),
        )

    def both(self, a: Tensor, b: Tensor) -> Tensor:
        """(2 m, ...): `a` with the box of `b`, then `b` with the box of `a`."""
        return torch.cat([mix(b, a, self.box), mix(a, b, self.box)])

    def apart(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """What `both` was made of, from its (2 m, ...) or what a network made of it: a and b."""
        first, second = mixed.chunk(2)
        b, a = unmix(first, second, self.box)
        return a, b


def _some(part: Labelled, which: slice) -> Labelled:
    annotated = None if part.annotated is None else part.annotated[which]
    return Labelled(
        part.image[which], part.weak[which], part.label[which], part.mask[which], annotated, part.slots[which]
    )
