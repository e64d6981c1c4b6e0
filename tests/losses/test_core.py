"""The default loss against MONAI and torch, and what wraps it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss as MonaiDiceCE
from monai.losses import TverskyLoss as MonaiTversky

from medseg import losses


def volume(classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 8, 7, 6, generator=generator)
    return logits, torch.randint(0, classes, (2, 1, 8, 7, 6), generator=generator)


def test_dice_ce_is_half_of_monai() -> None:
    logits, target = volume()
    monai = MonaiDiceCE(softmax=True, to_onehot_y=True)(logits, target)
    torch.testing.assert_close(losses.dice_ce_loss(logits, target), monai / 2)


def test_tversky_is_monai() -> None:
    logits, target = volume()
    monai = MonaiTversky(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7)(logits, target)
    torch.testing.assert_close(losses.tversky_loss(logits, target, alpha=0.3, beta=0.7), monai)


def test_cross_entropy_is_torch() -> None:
    logits, target = volume()
    torch.testing.assert_close(
        losses.cross_entropy_loss(logits, target), F.cross_entropy(logits, target[:, 0])
    )


def test_dice_ce_names_its_parts() -> None:
    logits, target = volume()
    found = losses.loss_terms(losses.DiceCELoss(dice_weight=1, ce_weight=2), logits, target)
    assert list(found.terms) == ["dice", "ce"]
    torch.testing.assert_close(found.total, found.terms["dice"] + 2 * found.terms["ce"])
    torch.testing.assert_close(found.terms["dice"], losses.dice_loss(logits, target))


def test_deep_supervision_weighs_heads() -> None:
    logits, target = volume()
    coarse = logits[:, :, ::2, ::2, ::2]
    loss = losses.DeepSupervisionLoss(losses.DiceCELoss())
    picked = target[:, :, 1::2][:, :, :, [0, 2, 4, 6]][..., 1::2]
    found = loss([logits, coarse], target)
    expected = 2 / 3 * losses.dice_ce_loss(logits, target) + 1 / 3 * losses.dice_ce_loss(coarse, picked)
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(loss(logits, target).total, losses.dice_ce_loss(logits, target))


def test_autocast_changes_nothing() -> None:
    logits, target = volume()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses.DeepSupervisionLoss(losses.DiceCELoss())(logits, target).total
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, losses.dice_ce_loss(logits, target))


def test_ignored_label_has_no_influence() -> None:
    logits, target = volume()
    target[:, :, :3] = 255
    logits.requires_grad_()
    losses.dice_ce_loss(logits, target, ignore_index=255).backward()
    assert not logits.grad[:, :, :3].any()
    cropped = losses.dice_ce_loss(logits[:, :, 3:], target[:, :, 3:])
    torch.testing.assert_close(losses.dice_ce_loss(logits, target, ignore_index=255), cropped)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_deep_supervision_refuses_weights(weights: list[float]) -> None:
    logits, target = volume()
    with pytest.raises(ValueError, match="weights"):
        losses.DeepSupervisionLoss(losses.DiceLoss(), weights)([logits, logits[:, :, ::2]], target)
