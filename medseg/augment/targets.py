"""What the network's outputs mean: exclusive classes, or regions that may overlap; hard labels or soft ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from medseg.plan import Plan

__all__ = ["Pseudo", "Targets"]


class Pseudo(NamedTuple):
    """A prediction taken as a label: `label` as `Targets.of` gives it, `confidence` (B, 1, D, H, W) the probability
    of the least certain decision at a voxel, `foreground` (B, 1, D, H, W) bool."""

    label: Tensor
    confidence: Tensor
    foreground: Tensor


@dataclass(frozen=True)
class Targets:
    """The form of labels that a loss of the network's outputs takes.

    Attributes:
        classes: how many, background included.
        regions: the class indices of each region; empty where the outputs are the classes.
        soft: whether labels are probabilities of the classes.
    """

    classes: int
    regions: tuple[tuple[int, ...], ...] = ()
    soft: bool = False

    def __post_init__(self) -> None:
        if self.overlapping and self.soft:
            raise ValueError("labels are soft or of regions, not both")

    @classmethod
    def of_plan(cls, plan: Plan, soft: bool = False) -> Self:
        """Those of a plan's network."""
        index = {value: i for i, value in enumerate(plan.label_values)}
        return cls(len(index), tuple(tuple(index[v] for v in region.values) for region in plan.regions), soft)

    @property
    def overlapping(self) -> bool:
        """Whether outputs are regions, each by itself (sigmoid), and not classes that exclude each other (softmax)."""
        return bool(self.regions)

    @property
    def activation(self) -> Literal["softmax", "sigmoid"]:
        """What makes probabilities of logits."""
        return "sigmoid" if self.overlapping else "softmax"

    @property
    def outputs(self) -> int:
        """Channels of the network's logits."""
        return len(self.regions) or self.classes

    def of(self, label: Tensor) -> Tensor:
        """Class indices (B, 1, D, H, W), or probabilities (B, K, D, H, W), as a loss takes them: with regions (B, R, D,
        H, W) of 0 and 1, floating point."""
        if not self.overlapping:
            return label
        return torch.cat([_any_of(label, values) for values in self.regions], 1).float()

    def annotated(self, classes: Tensor) -> Tensor:
        """Of which outputs a label speaks, (B, outputs, 1, 1, 1) bool, from `classes` (B, K) bool: a region needs all
        of its classes."""
        found = torch.stack([classes[:, list(v)].all(1) for v in self.regions], 1) if self.overlapping else classes
        return found[:, :, None, None, None]

    def pseudo(self, logits: Tensor) -> Pseudo:
        """The label that `logits` (B, outputs, D, H, W) speak for. Nothing is differentiated."""
        logits = logits.detach().float()
        if self.overlapping:
            p = logits.sigmoid()
            chosen = p > 0.5
            return Pseudo(chosen.float(), p.maximum(1 - p).amin(1, keepdim=True), chosen.any(1, keepdim=True))
        confidence, index = logits.softmax(1).max(1, keepdim=True)
        return Pseudo(self._one_hot(index) if self.soft else index, confidence, index > 0)

    def foreground(self, label: Tensor) -> Tensor:
        """(B, 1, D, H, W) bool: where a label in the form of `of` is not background."""
        if self.overlapping:
            return (label > 0.5).any(1, keepdim=True)
        return label[:, :1] < 0.5 if self.soft else label > 0

    def classes_of(self, label: Tensor) -> list[Tensor]:
        """(B, 1, D, H, W) bool for each foreground class or region: where a label in the form of `of` has it."""
        if label.shape[1] == 1 and not self.overlapping:
            return [label == index for index in range(1, self.classes)]
        return [label[:, i : i + 1] > 0.5 for i in range(0 if self.overlapping else 1, label.shape[1])]

    def _one_hot(self, index: Tensor) -> Tensor:
        return torch.zeros(len(index), self.classes, *index.shape[2:], device=index.device).scatter_(1, index, 1.0)


def _any_of(label: Tensor, values: tuple[int, ...]) -> Tensor:
    return torch.isin(label, torch.tensor(values, device=label.device, dtype=label.dtype))
