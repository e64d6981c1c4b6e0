"""Errors of other libraries and of common code, each next to what medseg does."""

from __future__ import annotations

import monai.losses as monai
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from medseg import losses


def volume() -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and a mask that keeps the first half along one axis."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 6, 6, generator=generator)
    target = torch.randint(0, 3, (2, 1, 8, 6, 6), generator=generator)
    mask = torch.zeros_like(target, dtype=torch.bool)
    mask[:, :, :4] = True
    return logits, target, mask


def test_target_times_mask_before_one_hot_makes_background() -> None:
    logits, target, mask = volume()
    cropped = losses.dice_loss(logits[:, :, :4], target[:, :, :4])
    theirs = monai.MaskedDiceLoss(softmax=True, to_onehot_y=True)(logits, target, mask)
    assert abs(theirs - cropped) > 0.01
    assert_close(losses.dice_loss(logits, target, mask), cropped)


def test_logits_times_mask_are_a_uniform_guess() -> None:
    logits, target, mask = volume()
    cropped = losses.cross_entropy_loss(logits[:, :, :4], target[:, :, :4])
    theirs = monai.MaskedLoss(torch.nn.CrossEntropyLoss())(logits, F.one_hot(target[:, 0]).movedim(-1, 1).float(), mask)
    assert abs(theirs - cropped) > 0.1
    assert_close(losses.cross_entropy_loss(logits, target, mask), cropped)


def test_focal_divided_by_a_one_channel_mask_is_k_times_too_large() -> None:
    logits, target, _ = volume()
    everything = monai.FocalLoss(to_onehot_y=True, use_softmax=True)(logits, target)
    with_mask = monai.FocalLoss(to_onehot_y=True, use_softmax=True, ignore_index=255)(logits, target)
    assert_close(with_mask, 3 * everything)  # though nothing is ignored
    ours = [losses.focal_loss(logits, target, ignore_index=i) for i in (None, 255)]
    assert_close(ours[0], ours[1])


def test_rightly_absent_class_costs_one() -> None:
    labels = torch.zeros(1, 1, 8, 8, 8, dtype=torch.long)
    labels[:, :, :4] = 1  # class 2 is absent, rightly found to be
    logits = torch.where(torch.arange(3).view(1, 3, 1, 1, 1) == labels, 8.0, -8.0)
    theirs = monai.DiceLoss(softmax=True, to_onehot_y=True)(logits, labels)
    assert theirs > 0.2  # of at most 1/3, as one of three classes costs 0.85
    assert losses.dice_loss(logits, labels) < 1e-3
    assert losses.dice_loss(logits, labels, absent="smooth", smooth=1.0) < 1e-3


def test_float16_sums_overflow() -> None:
    logits = torch.zeros(1, 2, 96, 96, 96, dtype=torch.float16)
    target = torch.zeros(1, 1, 96, 96, 96, dtype=torch.long)
    target[:, :, :48] = 1
    p = logits.softmax(1)
    assert torch.isinf(p.sum((2, 3, 4))).all()  # 442,368 is beyond 65,504
    assert losses.dice_loss(logits, target).item() == pytest.approx(0.5, abs=1e-5)


def test_p_t_of_an_averaged_cross_entropy_is_one_number() -> None:
    logits, target, _ = volume()
    ce = F.cross_entropy(logits, target[:, 0])
    wrong = (1 - torch.exp(-ce)) ** 2 * ce
    each = F.cross_entropy(logits, target[:, 0], reduction="none")
    right = ((1 - torch.exp(-each)) ** 2 * each).mean()
    assert abs(wrong - right) > 0.1
    assert_close(losses.focal_loss(logits, target), right)


def test_bitwise_label_and_mask_loses_even_classes() -> None:
    """`label & mask` of integers keeps bit 0: class 2 becomes 0. A mask of any dtype must keep every class."""
    logits, target, mask = volume()
    assert not ((target & mask.long()) == 2).any()
    expected = losses.dice_loss(logits[:, :, :4], target[:, :, :4], reduction="none")
    assert (expected > 0).all()
    for dtype in (torch.bool, torch.uint8, torch.long, torch.float32):
        assert_close(losses.dice_loss(logits, target, mask.to(dtype), reduction="none"), expected)


def test_weights_of_one_over_volume_squared_drown_in_the_smoothing_term() -> None:
    """A class of 64^3 / 2 voxels weighs 6e-11: I times that is under the 1e-5 that is added, and the loss is near 0."""
    target = torch.zeros(1, 1, 64, 64, 64, dtype=torch.long)
    target[:, :, :32] = 1
    wrong = torch.where(torch.arange(2).view(1, 2, 1, 1, 1) == target, -2.0, 2.0)
    p, y = wrong.softmax(1), F.one_hot(target[:, 0]).movedim(-1, 1)
    inter, size, volumes = ((x).sum((2, 3, 4)) for x in (p * y, p, y))
    weight = 1 / volumes.float() ** 2
    naive = 1 - (2 * (weight * inter).sum() + 1e-5) / ((weight * (size + volumes)).sum() + 1e-5)
    correct = losses.generalized_dice_loss(wrong, target)
    assert correct.item() == pytest.approx(1 - inter.sum().item() / volumes.sum().item(), abs=1e-5)
    assert naive < correct - 0.02
