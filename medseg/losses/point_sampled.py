"""Cross entropy and Dice on a few points, most of them where the network is in doubt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from medseg.losses.checks import Reduction, check_choice, checked
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.points import Corners, draw_points
from medseg.losses.precision import full_precision
from medseg.losses.ranks import mean_over_ranks
from medseg.losses.reduce import class_factors, ratio

__all__ = ["PointSampledLoss", "point_sampled_loss"]


@full_precision
def point_sampled_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    points: int = 12544,
    oversample: float = 3.0,
    importance: float = 0.75,
    ce_weight: float = 5.0,
    dice_weight: float = 5.0,
    seed: int = 0,
    step: float = 0,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `PointSampledLoss`, which describes the arguments; `step` is that of the run."""
    check_choice("reduction", reduction, Reduction)
    logits, target, mask = checked(logits, target, mask)
    doubtful = round(importance * points)
    candidates = round(oversample * points) if doubtful else 0
    drawn = draw_points(candidates + points - doubtful, logits.ndim - 2, seed, step).to(logits.device)
    corners = Corners(drawn, logits.shape[2:])
    z, y, m = _at_points(corners, logits, target, mask, ignore_index)
    z, y, m = _most_doubtful(z, y, m, candidates, doubtful)
    weight = m.sum(2)
    ce = ratio((binary_cross_entropy_with_logits(z, y, reduction="none") * m).sum(2), weight)
    p = z.sigmoid()
    dice = 1 - (2 * (p * y * m).sum(2) + 1) / ((p * m).sum(2) + (y * m).sum(2) + 1)
    counted = _present(target, mask, logits.shape[1], ignore_index).to(z.dtype)
    counted = counted * class_factors(class_weight, include_background, counted)
    values = counted * (ce_weight * ce + dice_weight * dice) / (ce_weight + dice_weight)
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else ratio(values.sum(), mean_over_ranks(counted.sum()))


def _at_points(
    corners: Corners, logits: Tensor, target: Tensor, mask: Tensor | None, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and target (B, K, P) and the mask (B, 1, P), which is 0 where a corner is not kept."""
    z = corners.interpolate(logits)
    soft = target.shape[1] == z.shape[1]
    y = corners.interpolate(target) if soft else corners.interpolate_labels(target, z.shape[1])
    m = torch.ones_like(z[:, :1])
    if mask is not None:
        m = corners.interpolate(mask.to(z.dtype)) * (corners.look_up(mask) > 0).all(2)
    if ignore_index is not None and target.shape[1] == 1:
        m = m * (corners.look_up(target) != ignore_index).all(2)
    return z, torch.where(m > 0, y.to(z.dtype), 0), m


def _most_doubtful(z: Tensor, y: Tensor, m: Tensor, candidates: int, doubtful: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the first `candidates` points those with the smallest |logit|, per sample and class, and all others."""
    m = m.expand_as(z)
    doubt = -z.detach()[..., :candidates].abs()
    chosen = doubt.masked_fill(m[..., :candidates] == 0, -torch.inf).topk(doubtful, dim=2, sorted=False).indices
    z, y, m = (torch.cat([x[..., :candidates].gather(2, chosen), x[..., candidates:]], 2) for x in (z, y, m))
    return z, y, m


def _present(target: Tensor, mask: Tensor | None, classes: int, ignore_index: int | None) -> Tensor:
    """(B, K) bool: the classes with a kept voxel; the only look at the whole volume."""
    kept = None if mask is None else mask > 0
    if ignore_index is not None and target.shape[1] == 1:
        known = target != ignore_index
        kept = known if kept is None else kept & known
    found = []
    for label in range(classes):
        there = target[:, [label]] > 0 if target.shape[1] == classes else target == label
        found.append((there if kept is None else there & kept).flatten(1).any(1))
    return torch.stack(found, 1)


class PointSampledLoss(FunctionLoss):
    """Binary cross entropy and Dice on a few thousand points, most of them where the network is in doubt.

    Formula: sum over masks of (ce_weight BCE + dice_weight Dice) / (ce_weight + dice_weight) / masks; a mask is a
        class of a sample that has a voxel there; both terms on the points, Dice with s = 1

    Range: 0 (right, away from boundaries) without bound. Between two voxels of different classes a point has a
        soft target: a right prediction of hard labels costs something there.

    Errors: As Dice with cross entropy, at boundaries and wherever the network hesitates; a confident error far from
        any boundary is found by the uniform points only.

    Choose it: For volumes or heads so large that a loss over all voxels is too dear: of its cost only the gradient's
        zeros and the look for classes grow with the volume. Each class is judged by itself, its logit as that of a
        binary mask: read the network with sigmoid, or by the largest logit.

    Source: Kirillov et al. 2020 (PointRend, arXiv:1912.08193); Cheng et al. 2022 (Mask2Former, arXiv:2112.01527).

    Args:
        points: Points per mask.
        oversample: Candidates per point among which the doubtful ones are searched.
        importance: Share of the points that are the candidates with the smallest logit; the others are uniform.
        ce_weight: Weight of the cross entropy.
        dice_weight: Weight of Dice.
        seed: Points are a function of seed and step, the same for all samples and classes.
        class_weight: (K,) weights of the masks.
        reduction: "none" gives (B, K), 0 for masks that are not there.
    """

    function = staticmethod(point_sampled_loss)

    def __init__(
        self,
        *,
        points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
        ce_weight: float = 5.0,
        dice_weight: float = 5.0,
        seed: int = 0,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        if points < 1 or oversample < importance or not 0 <= importance <= 1:
            raise ValueError(
                f"points {points}, oversample {oversample}, importance {importance}: at least one point, importance "
                "from 0 to 1 and not above oversample"
            )
        super().__init__({**locals(), "step": 0})

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None, step: float = 0) -> Tensor:
        """The loss at the points of `step`."""
        return point_sampled_loss(logits, target, mask, **{**self.arguments(), "step": step})
