"""The losses that look at neighbours: band, region, gradient, pyramid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from medseg import losses
from medseg.losses.boundary_band import window_max
from medseg.losses.gradient import sobel
from medseg.losses.laplacian_pyramid import blur_and_halve, double


def slabs(edge: int = 8, size: int = 16) -> Tensor:
    """(1, 1, size, size, size) labels, 0 below `edge` along the first axis and 1 from there on."""
    return (torch.arange(size) >= edge).long().view(1, 1, size, 1, 1).repeat(1, 1, 1, size, size)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_band_is_width_voxels_to_either_side(width: int) -> None:
    band = losses.boundary_band(slabs().float(), torch.ones(1, 1, 16, 16, 16), width)
    assert_close(band[0, 0, :, 0, 0].nonzero().flatten(), torch.arange(8 - width, 8 + width))
    assert_close(band.sum(), torch.tensor(2 * width * 256.0))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_classes_and_samples_do_not_see_each_other(dims: int) -> None:
    """Nor where a volume of one axis looks like an image without a batch."""
    x = torch.zeros(2, 3, *[7] * dims)
    x[0, 1].view(-1)[0] = 1
    found = window_max(x, 1)
    assert found[0, 1].sum() == 2**dims
    assert found.sum() == 2**dims


def test_band_knows_only_what_is_kept() -> None:
    mask = torch.ones(1, 1, 16, 16, 16)
    mask[:, :, 8:] = 0
    assert not losses.boundary_band(slabs().float(), mask, 2).any()


def test_region_l1_of_a_region_and_its_complement() -> None:
    p, target = torch.rand(2, 1, 6, 6, 6), torch.randint(0, 2, (2, 1, 6, 6, 6))
    region = torch.rand(2, 1, 6, 6, 6) > 0.5
    error = (p - target).abs()
    inside = torch.stack([error[b][region[b]].mean() for b in range(2)]).mean()
    outside = torch.stack([error[b][~region[b]].mean() for b in range(2)]).mean()
    assert_close(losses.region_l1_loss(p, target, region=region, activation="none"), inside)
    assert_close(losses.region_l1_loss(p, target, region=region, invert=True, activation="none"), outside)
    module = losses.RegionL1Loss(activation="none")
    assert_close(module(p, target, region=region), inside)
    smooth = losses.region_l1_loss(p, target, smooth=True, activation="none")
    assert_close(smooth, F.smooth_l1_loss(p, target.float()))


def test_region_l1_does_not_grow_with_volume_or_batch() -> None:
    p, target = torch.full((1, 1, 8, 8, 8), 0.3), torch.zeros(1, 1, 8, 8, 8, dtype=torch.long)
    one = losses.region_l1_loss(p, target, activation="none")
    many = losses.region_l1_loss(p.repeat(3, 1, 2, 2, 2), target.repeat(3, 1, 2, 2, 2), activation="none")
    assert_close(one, torch.tensor(0.3))
    assert_close(many, one)
    empty = losses.region_l1_loss(p, target, region=torch.zeros_like(target), activation="none")
    assert empty == 0


def test_sobel_of_a_slope_is_its_rise_per_mm() -> None:
    x = torch.arange(8.0).view(1, 1, 8, 1, 1).repeat(1, 1, 1, 6, 5) * 3
    inside = (slice(None), slice(None), slice(1, -1))
    assert_close(sobel(x, 0)[inside], torch.full((1, 1, 6, 6, 5), 3.0))
    assert_close(sobel(x, 0, (1.5, 1.0, 1.0))[inside], torch.full((1, 1, 6, 6, 5), 2.0))
    assert not sobel(x, 1).any()
    assert not sobel(x, 2).any()


def test_sobel_is_the_convolution() -> None:
    x = torch.randn(1, 1, 6, 7, 5)
    kernel = torch.einsum(
        "i,j,k->ijk", torch.tensor([1.0, 2, 1]) / 4, torch.tensor([-1.0, 0, 1]) / 2, torch.tensor([1.0, 2, 1]) / 4
    )
    expected = F.conv3d(F.pad(x, [1] * 6, mode="replicate"), kernel[None, None])
    assert_close(sobel(x, 1), expected)


def test_gradient_loss_is_zero_for_a_right_prediction_but_for_its_sparsity() -> None:
    y = slabs().float()
    assert losses.gradient_loss(y, y, activation="none", sparsity=0) == 0
    expected = 0.01 * sobel(y, 0).abs().mean() / 3
    assert_close(losses.gradient_loss(y, y, activation="none"), expected)
    shifted = (y + 0.25).clamp_max(1.25)
    assert losses.gradient_loss(shifted, y, activation="none", sparsity=0) < 1e-6


def test_halving_and_doubling_keep_constants_and_odd_sizes() -> None:
    x = torch.full((1, 2, 7, 5, 2), 4.0)
    half = blur_and_halve(x)
    assert half.shape == (1, 2, 4, 3, 1)
    assert_close(half, torch.full_like(half, 4.0))
    assert_close(double(half, x.shape[2:]), x)


def test_doubling_is_zeros_and_five_taps_with_gain_eight() -> None:
    x = torch.randn(1, 1, 5, 5, 5)
    spread = torch.zeros(1, 1, 10, 10, 10)
    spread[..., ::2, ::2, ::2] = x
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = 8 * torch.einsum("i,j,k->ijk", taps, taps, taps)[None, None]
    inside = (..., slice(2, 8), slice(2, 8), slice(2, 8))
    assert_close(double(x, (10, 10, 10))[inside], F.conv3d(spread, kernel, padding=2)[inside])


def test_halving_is_the_binomial_filter() -> None:
    x = torch.randn(1, 1, 9, 9, 9)
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = torch.einsum("i,j,k->ijk", taps, taps, taps)[None, None]
    expected = F.conv3d(F.pad(x, [2] * 6, mode="replicate"), kernel, stride=2)
    assert_close(blur_and_halve(x), expected)


def test_pyramid_by_hand() -> None:
    p, y = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16)
    rest, expected = p - y, 0.0
    for level in range(3):
        coarse = blur_and_halve(rest)
        band = rest if level == 2 else rest - double(coarse, rest.shape[2:])
        expected, rest = expected + 2**level * band.abs().mean() / 3, coarse
    assert_close(losses.laplacian_pyramid_loss(p, y, levels=3, activation="none"), expected)
    constant = losses.laplacian_pyramid_loss(y + 0.5, y, levels=5, activation="none")
    assert_close(constant, torch.tensor(0.5 * 2**4 / 5))


def test_pyramid_of_a_small_volume_has_fewer_levels_and_says_so_once() -> None:
    p, y = torch.rand(1, 1, 6, 11, 12), torch.rand(1, 1, 6, 11, 12)
    with pytest.warns(UserWarning, match="4 levels does not fit 6 voxels; 3 are used"):
        found = losses.laplacian_pyramid_loss(p, y, levels=4, activation="none")
    assert_close(losses.laplacian_pyramid_loss(p, y, levels=4, activation="none"), found)
    assert_close(losses.laplacian_pyramid_loss(p, y, levels=3, activation="none"), found)
