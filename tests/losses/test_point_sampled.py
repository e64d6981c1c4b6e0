"""Points: where they are drawn, which are kept, and what they cost."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, grid_sample
from torch.testing import assert_close

from medseg import losses
from medseg.losses.points import Corners, draw_points


def volume(classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 12, 11, 10, generator=generator)
    return logits, torch.randint(0, classes, (2, 1, 12, 11, 10), generator=generator)


def sample(x: Tensor, points: Tensor) -> Tensor:
    """(B, C, P) by grid_sample at 2 c - 1."""
    grid = (2 * points.flip(1) - 1).view(1, 1, 1, -1, 3).expand(x.shape[0], 1, 1, -1, 3)
    return grid_sample(x, grid, padding_mode="border", align_corners=False).flatten(2)


def test_corners_interpolate_as_grid_sample_does() -> None:
    x = torch.randn(2, 3, 7, 6, 5)
    points = draw_points(500, 3, seed=1, step=2)
    assert_close(Corners(points, x.shape[2:]).interpolate(x), sample(x, points), rtol=1e-4, atol=1e-5)
    plane, flat = x[..., 0], points[:, :2]
    grid = (2 * flat.flip(1) - 1).view(1, 1, -1, 2).expand(2, 1, -1, 2)
    expected = grid_sample(plane, grid, padding_mode="border", align_corners=False).flatten(2)
    assert_close(Corners(flat, plane.shape[2:]).interpolate(plane), expected, rtol=1e-4, atol=1e-5)


def test_points_are_a_function_of_seed_and_step() -> None:
    assert torch.equal(draw_points(9, 3, 4, 5), draw_points(9, 3, 4, 5))
    assert not torch.equal(draw_points(9, 3, 4, 5), draw_points(9, 3, 4, 6))
    assert not torch.equal(draw_points(9, 3, 4, 5), draw_points(9, 3, 5, 5))
    logits, target = volume()
    loss = losses.PointSampledLoss(points=50)
    first = loss(logits, target, step=1)
    assert first != loss(logits, target, step=2)
    assert first == loss(logits, target, step=1)


def test_value_by_the_definition() -> None:
    """Candidates, the most doubtful, the uniform rest; BCE and Dice with s = 1; over the masks that are there."""
    logits, target = volume()
    target[1][target[1] == 2] = 0
    y = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1).float()
    points = draw_points(300 + 25, 3, 0, 0)
    z, t = sample(logits, points), sample(y, points)
    costs = []
    for b, k in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        doubtful = z[b, k, :300].abs().argsort()[:75]
        chosen = torch.cat([doubtful, torch.arange(300, 325)])
        logit, truth = z[b, k, chosen], t[b, k, chosen]
        p = logit.sigmoid()
        dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        costs.append(0.25 * binary_cross_entropy_with_logits(logit, truth) + 0.75 * dice)
    found = losses.point_sampled_loss(logits, target, points=100, ce_weight=1, dice_weight=3)
    assert_close(found, torch.stack(costs).mean(), rtol=1e-4, atol=1e-5)
    assert_close(losses.point_sampled_loss(logits, y, points=100, ce_weight=1, dice_weight=3), found)


def test_a_right_prediction_without_boundaries_is_cheap() -> None:
    target = torch.ones(1, 1, 16, 16, 16, dtype=torch.long)
    logits = torch.where(torch.arange(2).view(1, 2, 1, 1, 1) == target, 8.0, -8.0)
    assert losses.point_sampled_loss(logits, target) < 1e-3
    assert losses.point_sampled_loss(logits[:, 1:], target) < 1e-3


def test_doubt_is_where_the_points_go() -> None:
    logits = torch.full((1, 1, 16, 16, 16), 9.0)
    logits[:, :, 8:] = 0.1
    logits.requires_grad_()
    target = torch.ones(1, 1, 16, 16, 16, dtype=torch.long)
    losses.point_sampled_loss(logits, target, points=200, importance=1.0).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :7].any()


@pytest.mark.parametrize(
    "options", [{"points": 0}, {"importance": 1.5}, {"oversample": 0.5}], ids=lambda o: next(iter(o))
)
def test_refuses(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        losses.PointSampledLoss(**options)  # type: ignore[arg-type]


def _rank(rank: int, file: str, results: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    logits, target = volume()
    target[1] = 0
    value = losses.point_sampled_loss(logits[[rank]], target[[rank]], points=64)
    torch.save(value, f"{results}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_ranks_equal_the_joint_batch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One rank has three masks and the other one: both divide by two, and the mean of the ranks is that of all."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_rank, (str(folder / "meeting"), str(folder / "value")), nprocs=2)
    each = torch.stack([torch.load(folder / f"value.{rank}") for rank in range(2)])
    logits, target = volume()
    target[1] = 0
    assert_close(each.mean(), losses.point_sampled_loss(logits, target, points=64))
