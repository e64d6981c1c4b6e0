"""A network of one number, a loss that keeps what it was asked, and a batch of eight voxels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from medseg.augment import Batch, DrawKey, Labelled, Targets, Unlabelled
from medseg.losses import LossTerms
from medseg.methods import Ramp
from medseg.networks.unet import NetworkOutput

SHAPE = (1, 1, 2, 2, 2)
CLASSES = Targets(3)
KEY = DrawKey(0, 0)
FULL = Ramp(shape="constant")


class Fixed(nn.Module):
    """A network of one number: the logit of class 1 is the image times it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> NetworkOutput | Tensor:
        self.seen.append(image)
        logits = torch.cat([torch.zeros_like(image), self.factor * image], 1)
        return NetworkOutput(logits, (logits[:, :, ::2],), {}) if self.training else logits


class Recorded:
    """A loss that keeps what it was asked, and is the mean of the first head under the mask."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Tensor], Tensor, Tensor, int]] = []

    def __call__(self, heads: tuple[Tensor, ...], label: Tensor, mask: Tensor, step: int) -> LossTerms:
        self.asked.append((list(heads), label, mask, step))
        total = (heads[0][:, 1:] * mask).sum() / mask.sum().clamp_min(1)
        return LossTerms(total, {"part": total})


def batch(weak: list[float], mask: list[bool] | None = None) -> Batch:
    image = torch.tensor(weak).view(SHAPE)
    inside = torch.tensor(mask or [True] * 8).view(SHAPE)
    ones = torch.ones(SHAPE)
    return Batch(Labelled(ones, ones, ones.long(), ones.bool()), Unlabelled(image, image + 0.5, inside), CLASSES, KEY)


def logit(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability)))


IMAGES = [logit(p) for p in (0.01, 0.05, 0.11, 0.5, 0.89, 0.91, 0.95, 0.99)]  # of class 1


def in_slots(one: Batch) -> Batch:
    """The batch with its unlabelled image in a slot, which what is drawn is a function of."""
    assert one.unlabelled is not None
    return replace(one, unlabelled=replace(one.unlabelled, slots=range(1)))
