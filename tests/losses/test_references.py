"""Equal to the trusted reference where it is right, and to values found by hand."""

from __future__ import annotations

import math
from typing import Any

import monai.losses as monai
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from medseg import losses


def volume(classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and index labels in which every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 8, 7, 6, generator=generator)
    return logits, torch.randint(0, max(classes, 2), (2, 1, 8, 7, 6), generator=generator)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels[:, 0], classes).movedim(-1, 1).float()


def ball(size: int, radius: float) -> Tensor:
    """(1, 1, size, size, size) labels."""
    axis = torch.arange(size) - (size - 1) / 2
    distance = axis.view(-1, 1, 1) ** 2 + axis.view(1, -1, 1) ** 2 + axis.view(1, 1, -1) ** 2
    return (distance < radius**2).long()[None, None]


SOFTMAX: dict[str, Any] = {"softmax": True, "to_onehot_y": True}
PAIRS: list[tuple[str, Any, Any]] = [
    ("dice", losses.DiceLoss(), monai.DiceLoss(**SOFTMAX)),
    ("dice without background", losses.DiceLoss(include_background=False),
     monai.DiceLoss(include_background=False, **SOFTMAX)),
    ("dice of the batch", losses.DiceLoss(batch=True), monai.DiceLoss(batch=True, **SOFTMAX)),
    ("squared dice", losses.DiceLoss(squared=True), monai.DiceLoss(squared_pred=True, **SOFTMAX)),
    ("smooth dice", losses.DiceLoss(smooth=1.0), monai.DiceLoss(smooth_nr=1.0, smooth_dr=1.0, **SOFTMAX)),
    ("jaccard", losses.JaccardLoss(smooth=5e-6), monai.DiceLoss(jaccard=True, **SOFTMAX)),
    ("tversky", losses.TverskyLoss(alpha=0.3, beta=0.7), monai.TverskyLoss(alpha=0.3, beta=0.7, **SOFTMAX)),
    ("dice + ce", losses.DiceCELoss(dice_weight=1, ce_weight=1), monai.DiceCELoss(**SOFTMAX)),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), [p[1:] for p in PAIRS], ids=[p[0] for p in PAIRS])
def test_softmax_overlap_is_monai(ours: Any, theirs: Any) -> None:
    logits, target = volume()
    assert_close(ours(logits, target), theirs(logits, target))


def test_sigmoid_dice_is_monai() -> None:
    logits, target = volume(1)
    assert_close(losses.dice_loss(logits, target), monai.DiceLoss(sigmoid=True)(logits, target))
    logits, target = volume(3)
    expected = monai.DiceLoss(sigmoid=True, to_onehot_y=True)(logits, target)
    assert_close(losses.dice_loss(logits, target, activation="sigmoid"), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_softmax_focal_is_k_times_monai(gamma: float, alpha: float | None) -> None:
    logits, target = volume()
    expected = 3 * monai.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, alpha=alpha)(logits, target)
    assert_close(losses.focal_loss(logits, target, gamma=gamma, alpha=alpha), expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_sigmoid_focal_is_monai(classes: int) -> None:
    logits, target = volume(classes)
    y = target.float() if classes == 1 else one_hot(target, classes)
    expected = monai.FocalLoss(gamma=2, alpha=0.25)(logits, y)
    assert_close(losses.focal_loss(logits, target, alpha=0.25, activation="sigmoid"), expected)


def test_cross_entropy_is_torch() -> None:
    logits, target = volume()
    assert_close(losses.cross_entropy_loss(logits, target), F.cross_entropy(logits, target[:, 0]))
    y = torch.rand_like(logits).softmax(1)
    assert_close(losses.cross_entropy_loss(logits, y), F.cross_entropy(logits, y))
    soft = F.cross_entropy(logits, target[:, 0], label_smoothing=0.1)
    assert_close(losses.cross_entropy_loss(logits, target, label_smoothing=0.1), soft)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torch_per_sample(smoothing: float) -> None:
    logits, target = volume()
    weight = torch.tensor([0.2, 1.0, 3.0])
    each = [F.cross_entropy(logits[[b]], target[[b], 0], weight=weight, label_smoothing=smoothing) for b in range(2)]
    found = losses.cross_entropy_loss(logits, target, class_weight=weight, label_smoothing=smoothing)
    assert_close(found, torch.stack(each).mean())


@pytest.mark.parametrize("classes", [1, 3])
def test_binary_cross_entropy_is_torch(classes: int) -> None:
    logits, target = volume(classes)
    y = target.float() if classes == 1 else one_hot(target, classes)
    expected = F.binary_cross_entropy_with_logits(logits, y)
    assert_close(losses.cross_entropy_loss(logits, target, activation="sigmoid"), expected)


def test_focal_of_gamma_0_is_cross_entropy() -> None:
    logits, target = volume()
    assert_close(losses.focal_loss(logits, target, gamma=0), losses.cross_entropy_loss(logits, target))


def lovasz_numpy(errors: np.ndarray, truth: np.ndarray) -> float:
    """Berman's reference: the errors in descending order times the steps of the Jaccard loss."""
    order = np.argsort(-errors)
    truth = truth[order].astype(float)
    jaccard = 1 - (truth.sum() - truth.cumsum()) / (truth.sum() + (1 - truth).cumsum())
    return float(np.maximum(errors[order], 0) @ np.diff(jaccard, prepend=0))


def test_lovasz_softmax_is_numpy() -> None:
    logits, target = volume()
    p = logits.softmax(1).double().numpy()
    y = one_hot(target, 3).numpy()
    expected = np.mean(
        [lovasz_numpy(np.abs(y[b, k] - p[b, k]).ravel(), y[b, k].ravel()) for b in range(2) for k in range(3)]
    )
    assert losses.lovasz_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_lovasz_hinge_is_numpy() -> None:
    logits, target = volume(1)
    errors = (1 - logits * (2 * target - 1)).double().numpy()
    expected = np.mean([lovasz_numpy(errors[b].ravel(), target[b].numpy().ravel()) for b in range(2)])
    assert losses.lovasz_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_lovasz_of_hard_predictions_is_jaccard() -> None:
    """On the corners of the cube the extension is the set function."""
    _, target = volume()
    _, found = volume(seed=5)
    p, y = one_hot(found, 3), one_hot(target, 3)
    both, either = (p * y).sum((2, 3, 4)), ((p + y) > 0).float().sum((2, 3, 4))
    assert_close(losses.lovasz_loss(p, target, activation="none"), (1 - both / either).mean())


@pytest.mark.parametrize(("found", "dice", "jaccard"), [(4, 1 / 3, 1 / 2), (8, 0.0, 0.0), (0, 1.0, 1.0)])
def test_boxes(found: int, dice: float, jaccard: float) -> None:
    """Of a box of 8 slices the first `found` are found, and nothing else."""
    target = torch.zeros(1, 1, 16, 4, 4, dtype=torch.long)
    target[:, :, :8] = 1
    p = torch.zeros(1, 1, 16, 4, 4)
    p[:, :, :found] = 1
    assert losses.dice_loss(p, target, activation="none").item() == pytest.approx(dice, abs=1e-6)
    assert losses.jaccard_loss(p, target, activation="none").item() == pytest.approx(jaccard, abs=1e-6)
    voxels = 16 * 16
    missed, alarms = 128 - 16 * found, 0
    alpha, beta = 0.3, 0.7
    expected = 1 - (128 - missed) / (128 - missed + alpha * alarms + beta * missed)
    found_loss = losses.tversky_loss(p, target, alpha=alpha, beta=beta, activation="none").item()
    assert found_loss == pytest.approx(expected, abs=1e-6)
    focal = losses.focal_tversky_loss(p, target, alpha=alpha, beta=beta, activation="none").item()
    assert focal == pytest.approx(expected**0.75, abs=1e-5)
    assert losses.region_l1_loss(p, target, activation="none").item() == pytest.approx(missed / voxels)


def test_balls() -> None:
    """A ball of radius 6 found as one of radius 4: the Dice of the counts, about 2 r^3 / (r^3 + R^3)."""
    target, found = ball(24, 6), ball(24, 4)
    a, b = found.sum().item(), target.sum().item()
    value = losses.dice_loss(found.float(), target, activation="none").item()
    assert value == pytest.approx(1 - 2 * a / (a + b), abs=1e-6)
    assert value == pytest.approx(1 - 2 * 4**3 / (4**3 + 6**3), abs=0.02)


def test_uniform_predictions() -> None:
    logits, target = torch.zeros(2, 4, 5, 5, 5), volume(4)[1][..., :5, :5, :5]
    assert losses.cross_entropy_loss(logits, target).item() == pytest.approx(math.log(4))
    assert losses.entropy_loss(logits).item() == pytest.approx(math.log(4))
    assert losses.focal_loss(logits, target).item() == pytest.approx(0.75**2 * math.log(4))


def test_generalized_dice_by_hand() -> None:
    """Volumes 8 and 120: weights 1/64 and 1/14400, normalised."""
    target = torch.zeros(1, 1, 128, 1, 1, dtype=torch.long)
    target[:, :, :8] = 1
    p = torch.zeros(1, 2, 128, 1, 1)
    p[:, 1, 4:10] = 1  # 4 found, 4 missed, 2 false alarms
    p[:, 0] = 1 - p[:, 1]
    w = np.array([1 / 120**2, 1 / 8**2])
    w /= w.sum()
    inter, size, volumes = np.array([118.0, 4.0]), np.array([122.0, 6.0]), np.array([120.0, 8.0])
    expected = 1 - 2 * (w @ inter) / (w @ (size + volumes))
    assert losses.generalized_dice_loss(p, target, activation="none").item() == pytest.approx(expected, rel=1e-5)


def test_combo_weighs_missed_against_false_alarms() -> None:
    logits, target = volume()
    ce = F.cross_entropy(logits, target[:, 0], reduction="none")
    weight = torch.where(target[:, 0] > 0, 0.8, 0.2) * 2
    expected = 0.3 * (weight * ce).mean() + 0.7 * losses.dice_loss(logits, target)
    assert_close(losses.combo_loss(logits, target, ce_ratio=0.3, alpha=0.8), expected)
    plain = 0.5 * (F.cross_entropy(logits, target[:, 0]) + losses.dice_loss(logits, target))
    assert_close(losses.combo_loss(logits, target), plain)


def test_consistency_by_hand() -> None:
    a, b = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4)
    p, q = a.softmax(1), b.softmax(1)
    assert_close(losses.consistency_loss(a, b), F.mse_loss(p, q))
    kl = F.kl_div(p.log(), q, reduction="none").sum(1).mean()
    assert_close(losses.consistency_loss(a, b, measure="kl"), kl)
    cosine = 1 - F.cosine_similarity(p, q, dim=1).mean()
    assert_close(losses.consistency_loss(a, b, measure="cosine"), cosine)


def test_consistency_leaves_the_second_alone() -> None:
    a, b = (torch.randn(1, 2, 4, 4, 4, requires_grad=True) for _ in range(2))
    losses.consistency_loss(a, b).backward()
    assert a.grad is not None
    assert b.grad is None


def test_feature_cosine_is_torch() -> None:
    a, b = torch.randn(2, 5, 3, 4, 2), torch.randn(2, 5, 3, 4, 2)
    assert_close(losses.feature_cosine_loss(a, b), 1 - F.cosine_similarity(a, b, dim=1).mean())
    maps = F.cosine_similarity(a.flatten(2), b.flatten(2), dim=2)
    assert_close(losses.feature_cosine_loss(a, b, along="voxels"), 1 - maps.mean())
    mask = torch.zeros(2, 1, 6, 8, 4, dtype=torch.bool)
    mask[:, :, :4] = True
    expected = losses.feature_cosine_loss(a[:, :, :2], b[:, :, :2])
    assert_close(losses.feature_cosine_loss(a, b, mask), expected)
