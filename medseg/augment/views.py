"""From raw patches to the batch that every method gets: one geometry, a weak and a strong view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from medseg.augment.geometry import GeometryAugment, apply_geometry
from medseg.augment.intensity import IntensityAugment, apply_intensity
from medseg.augment.targets import Targets

__all__ = ["Augment", "Batch", "DrawKey", "Labelled", "Unlabelled"]


@dataclass(frozen=True)
class Labelled:
    """`image` (B, C, D, H, W) in the training view and `weak`, the same geometry with its own grey values; `label` as
    `Batch.targets` forms it: class indices (B, 1, D, H, W) int64, probabilities or regions (B, K, D, H, W); `mask`
    (B, 1, D, H, W) bool: where it holds; `annotated` (B, K, 1, 1, 1) bool: of which outputs it speaks, None: of all.
    `slots` are the samples' places in the step's batch, of which a process may have a part."""

    image: Tensor
    weak: Tensor
    label: Tensor
    mask: Tensor
    annotated: Tensor | None = None
    slots: Sequence[int] = ()


@dataclass(frozen=True)
class Unlabelled:
    """`weak` (for the teacher) and `strong` (for the student) views (B, C, D, H, W) of one geometry; `mask`
    (B, 1, D, H, W): what lies inside the patch and the volume."""

    weak: Tensor
    strong: Tensor
    mask: Tensor
    slots: Sequence[int] = ()


class DrawKey(NamedTuple):
    """What a method's own randomness is a function of, beside sample and purpose."""

    seed: int
    step: int


@dataclass(frozen=True)
class Batch:
    """What a method gets for one step, on the device."""

    labelled: Labelled
    unlabelled: Unlabelled | None
    targets: Targets
    key: DrawKey


class Augment:
    """Augments both parts of a raw batch on their device.

    Args:
        seed: of the run.
        spacing: mm along the patch's axes, so that rotations are rotations in mm.
        targets: the form of labels that losses take.
        geometry: drawn once a sample, the same for its image, label, mask and both views.
        intensity: of the labelled training view.
        strong: of the unlabelled strong view. The weak view keeps its grey values.
    """

    def __init__(
        self,
        seed: int,
        spacing: Sequence[float],
        targets: Targets,
        geometry: GeometryAugment | None = None,
        intensity: IntensityAugment | None = None,
        strong: IntensityAugment | None = None,
    ) -> None:
        self.seed = seed
        self.spacing = tuple(spacing)
        self.targets = targets
        self.geometry = geometry or GeometryAugment()
        self.intensity = intensity or IntensityAugment()
        self.strong = strong or IntensityAugment(
            gamma=(0.5, 2.0), contrast=(0.5, 1.5), brightness=0.5, blur=1.5, noise=0.25, share=0.6
        )

    @torch.no_grad()
    def __call__(self, labelled: Mapping[str, Tensor], unlabelled: Mapping[str, Tensor] | None, step: int) -> Batch:
        """The batch of `step` from raw patches `image`, `label`, `mask`, and where cases are annotated in part
        `annotated` (B, classes) bool. A pure function of (seed, step, slot).

        `slot` (B,) is each patch's place in the step's batch, by which its randomness is drawn: a part of a batch, on
        another process, becomes what it becomes in the whole. Without it patches are taken to be the whole batch.
        """
        image, label, mask = self._warp(labelled, step, "labelled")
        varied = self._vary(image, step, _slots(labelled), "labelled", self.intensity)
        if not label.is_floating_point():
            # what is not known has no class index that a loss could look up
            label = label.masked_fill(~mask, 0).long()
        target = self.targets.of(label)
        annotated = self.targets.annotated(labelled["annotated"]) if "annotated" in labelled else None
        if annotated is not None and self.targets.overlapping:
            target = target * annotated  # a region of which only some classes were drawn says nothing
        first = Labelled(varied, image, target, mask, annotated, _slots(labelled))
        key = DrawKey(self.seed, step)
        if unlabelled is None:
            return Batch(first, None, self.targets, key)
        # whatever stands in the place of a label must have no influence; nowhere is background known to continue
        nothing = {**unlabelled, "label": torch.ones_like(unlabelled["mask"], dtype=torch.uint8)}
        weak, _, inside = self._warp(nothing, step, "unlabelled")
        slots = _slots(unlabelled)
        strong = self._vary(weak, step, slots, "unlabelled", self.strong)
        return Batch(first, Unlabelled(weak, strong, inside, slots), self.targets, key)

    def _warp(self, raw: Mapping[str, Tensor], step: int, purpose: str) -> tuple[Tensor, Tensor, Tensor]:
        of = (self.seed, step, _slots(raw), self.spacing, purpose)
        bends = self.geometry.draw_bends(*of)
        return apply_geometry(raw["image"], raw["label"], raw["mask"], self.geometry.draw(*of), bends)

    def _vary(self, image: Tensor, step: int, slots: Sequence[int], purpose: str, how: IntensityAugment) -> Tensor:
        return apply_intensity(image, how.draw(self.seed, step, slots, image.shape[1], purpose))


def _slots(raw: Mapping[str, Tensor]) -> list[int]:
    found = raw.get("slot")
    return list(range(len(raw["image"]))) if found is None else found.tolist()
