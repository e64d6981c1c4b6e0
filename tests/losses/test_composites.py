"""What is made of several losses, heads or kinds of samples, and when weights change."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import medseg.losses.compound as compound_module
from medseg import losses


def volume(classes: int = 3, size: tuple[int, ...] = (8, 7, 6)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, *size, generator=generator)
    return logits, torch.randint(0, classes, (2, 1, *size), generator=generator)


def soft(target: Tensor, classes: int = 3) -> Tensor:
    return torch.nn.functional.one_hot(target[:, 0], classes).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ("loss", "parts"),
    [
        (losses.DiceCELoss(dice_weight=1, ce_weight=2), {"dice": 1, "ce": 2}),
        (losses.DiceFocalLoss(dice_weight=2, focal_weight=3), {"dice": 2, "focal": 3}),
        (losses.ComboLoss(ce_ratio=0.2), {"dice": 0.8, "ce": 0.2}),
    ],
    ids=lambda x: type(x).__name__,
)
def test_parts_have_names(loss: Any, parts: dict[str, float]) -> None:
    logits, target = volume()
    found = losses.loss_terms(loss, logits, target)
    assert set(found.terms) == set(parts)
    assert_close(found.terms["dice"], losses.dice_loss(logits, target))
    assert_close(found.total, sum(weight * found.terms[name] for name, weight in parts.items()))
    assert_close(found.total, loss(logits, target))


def test_one_value_is_one_term() -> None:
    logits, target = volume()
    found = losses.loss_terms(losses.DiceLoss(), logits, target)
    assert list(found.terms) == ["loss"]


def test_compound_is_the_weighted_sum_and_names_nested_terms() -> None:
    logits, target = volume()
    loss = losses.CompoundLoss(
        {"both": losses.DiceCELoss(), "focal": losses.FocalLoss(), "l1": losses.RegionL1Loss()},
        {"focal": 0.5, "l1": lambda step: float(step)},
    )
    found = loss(logits, target, step=3)
    focal, l1 = losses.focal_loss(logits, target), losses.region_l1_loss(logits, target)
    assert list(found.terms) == ["both.dice", "both.ce", "focal", "l1"]
    assert_close(found.terms["l1"], l1)  # before its weight
    assert_close(found.total, losses.dice_ce_loss(logits, target) + 0.5 * focal + 3 * l1)


def test_compound_reads_the_volume_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    read = compound_module.region_sums
    monkeypatch.setattr(compound_module, "region_sums", lambda *a, **k: calls.append(a) or read(*a, **k))
    members = {
        "dice": losses.DiceLoss(),
        "squared": losses.DiceLoss(squared=True),
        "tversky": losses.TverskyLoss(alpha=0.3),
        "ce": losses.CrossEntropyLoss(label_smoothing=0.1),
        "focal": losses.FocalLoss(),
        "sharp": losses.FocalLoss(gamma=3.0),
        "combo": losses.ComboLoss(),
    }
    logits, target = volume()
    found = losses.CompoundLoss(members)(logits, target)
    assert len(calls) == 1
    for name in ("dice", "squared", "tversky", "ce", "focal", "sharp"):
        assert_close(found.terms[name], members[name](logits, target))
    apart = {"a": losses.DiceLoss(), "b": losses.DiceLoss(activation="sigmoid"), "c": losses.DiceLoss(ignore_index=0)}
    losses.CompoundLoss(apart)(logits, target)
    assert len(calls) == 4


def test_compound_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="dise"):
        losses.CompoundLoss({"dice": losses.DiceLoss()}, {"dise": 1.0})
    with pytest.raises(ValueError, match="empty"):
        losses.CompoundLoss({})


def test_ramp() -> None:
    linear = losses.Ramp(0.0, 2.0, steps=10, begin=5)
    assert [linear(step) for step in (0, 5, 10, 15, 99)] == [0, 0, 1, 2, 2]
    cosine = losses.Ramp(1.0, 0.0, steps=10, shape="cosine")
    assert [round(cosine(step), 6) for step in (0, 5, 10)] == [1, 0.5, 0]
    sigmoid = losses.Ramp(steps=10, shape="sigmoid")
    assert sigmoid(0) == pytest.approx(math.exp(-5))
    assert sigmoid(10) == 1
    for shape in ("linear", "cosine", "sigmoid"):
        switch = losses.Ramp(steps=0, begin=3, shape=shape)  # type: ignore[arg-type]
        assert [switch(step) for step in (2, 3)] == [0, 1]
        assert losses.Ramp(steps=10, begin=3, shape=shape)(2) == 0  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'cubic'"):
        losses.Ramp(shape="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        losses.Ramp(steps=-1)


def test_lambda_moves_from_cross_entropy_to_dice() -> None:
    logits, target = volume()
    weights = {"ce": losses.Ramp(1, 0, steps=100), "dice": losses.Ramp(0, 1, steps=100)}
    loss = losses.CompoundLoss({"ce": losses.CrossEntropyLoss(), "dice": losses.DiceLoss()}, weights)
    ce, dice = losses.cross_entropy_loss(logits, target), losses.dice_loss(logits, target)
    for step, share in ((0, 1.0), (25, 0.75), (100, 0.0)):
        assert_close(loss(logits, target, step=step).total, share * ce + (1 - share) * dice)


def test_deep_supervision_weighs_heads() -> None:
    logits, target = volume()
    coarse = logits[:, :, ::2, ::2, ::2]
    mask = torch.rand(2, 1, 8, 7, 6) > 0.3
    picked = [x[:, :, 1::2][:, :, :, [0, 2, 4, 6]][..., 1::2] for x in (target, mask)]
    first, second = losses.dice_ce_loss(logits, target, mask), losses.dice_ce_loss(coarse, *picked)
    loss = losses.DeepSupervisionLoss(losses.DiceCELoss())
    found = loss([logits, coarse], target, mask)
    assert_close(found.total, 2 / 3 * first + 1 / 3 * second)
    assert_close(0.5 * (found.terms["dice"] + found.terms["ce"]), found.total)
    given = losses.DeepSupervisionLoss(losses.DiceCELoss(), [3, 1])
    assert_close(given((logits, coarse), target, mask).total, 0.75 * first + 0.25 * second)
    off = losses.DeepSupervisionLoss(losses.DiceCELoss(), [1, 0])
    assert_close(off((logits, coarse), target, mask).total, first)
    assert_close(loss(logits, target, mask).total, first)


def test_deep_supervision_averages_soft_targets_over_what_is_kept() -> None:
    logits, target = volume(size=(8, 8, 8))
    y, mask = soft(target), torch.rand(2, 1, 8, 8, 8) > 0.3
    half = torch.nn.functional.avg_pool3d
    share = half(mask.float(), 2)
    expected = losses.cross_entropy_loss(logits[..., :4, :4, :4], half(y * mask, 2) / share.clamp_min(1e-9), share)
    loss = losses.DeepSupervisionLoss(losses.CrossEntropyLoss(), [0, 1])
    heads = [logits, logits[..., :4, :4, :4]]
    assert_close(loss(heads, y, mask).total, expected)
    changed = torch.where(mask, y, torch.rand_like(y))
    assert_close(loss(heads, changed, mask).total, expected)


def test_deep_supervision_hands_the_step_on() -> None:
    logits, target = volume()
    inner = losses.CompoundLoss({"dice": losses.DiceLoss()}, {"dice": lambda step: step})
    assert_close(losses.DeepSupervisionLoss(inner)(logits, target, step=4).total, 4 * losses.dice_loss(logits, target))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_deep_supervision_refuses_weights(weights: list[float]) -> None:
    logits, target = volume()
    with pytest.raises(ValueError, match="weights"):
        losses.DeepSupervisionLoss(losses.DiceLoss(), weights)([logits, logits[:, :, ::2]], target)


def test_ignored_label_reaches_the_coarse_heads() -> None:
    logits, target = volume(size=(8, 8, 8))
    target[:, :, 4:] = 255
    heads = [logits, logits[..., ::2, ::2, ::2]]
    loss = losses.DeepSupervisionLoss(losses.DiceCELoss(ignore_index=255))
    cropped = [logits[:, :, :4], heads[1][:, :, :2]]
    assert_close(loss(heads, target).total, loss(cropped, target[:, :, :4]).total)


def test_samples_are_routed_by_their_target() -> None:
    logits, target = volume(size=(16, 16, 16))
    y = soft(target)
    y[1] = y[1] * 0.8 + 0.2 / 3
    hard, smooth = losses.DiceLoss(), losses.CrossEntropyLoss()
    found = losses.SampleRoutedLoss(hard, smooth)(logits, y)
    first, second = hard(logits[:1], y[:1]), smooth(logits[1:], y[1:])
    assert_close(found.total, (first + second) / 2)
    assert_close(found.terms, {"hard.loss": first, "soft.loss": second})
    index = losses.SampleRoutedLoss(hard, smooth)(logits, target)
    assert list(index.terms) == ["hard.loss"]
    masked = torch.ones(2, 1, 16, 16, 16)
    masked[1] = 0  # what is soft is not kept
    assert list(losses.SampleRoutedLoss(hard, smooth)(logits, y, masked).terms) == ["hard.loss"]


def test_samples_are_routed_alike_at_every_head() -> None:
    """Averaged to a coarser grid the probabilities of a hard label are no longer 0 and 1."""
    logits, target = volume(size=(16, 16, 16))
    heads = [logits, logits[..., ::2, ::2, ::2]]
    loss = losses.DeepSupervisionLoss(losses.SampleRoutedLoss(losses.DiceLoss(), losses.CrossEntropyLoss()))
    found = loss(heads, soft(target))
    assert list(found.terms) == ["hard.loss"]
    assert_close(found.total, losses.DeepSupervisionLoss(losses.DiceLoss())(heads, soft(target)).total)
    nested = losses.DeepSupervisionLoss(losses.CompoundLoss({"routed": loss.loss}))(heads, soft(target))
    assert list(nested.terms) == ["routed.hard.loss"]
    assert_close(nested.total, found.total)


def test_routed_defaults() -> None:
    axis = torch.arange(16.0)
    edge = torch.sigmoid(axis - 8).view(1, 1, 16, 1, 1).expand(1, 1, 16, 16, 16)
    y = torch.cat([(edge > 0.5).float(), edge])
    logits = torch.randn(2, 1, 16, 16, 16, requires_grad=True)
    found = losses.SampleRoutedLoss()(logits, y)
    expected = {"hard.outside", "soft.inside", "soft.outside", "soft.laplacian", "soft.gradient"}
    assert set(found.terms) == expected
    found.total.backward()
    assert logits.grad is not None
    band = slice(6, 10)  # two voxels to either side of the edge between 8 and 9
    assert not logits.grad[0, :, band.start + 1 : band.stop + 1].any()
    assert logits.grad[0, :, :6].any()
    assert torch.isfinite(logits.grad).all()
