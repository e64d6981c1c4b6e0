"""Ours against torch's instance normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.networks.norm import InstanceNorm, _Normalised


def _pair(channels: int) -> tuple[nn.InstanceNorm3d, InstanceNorm]:
    torch.manual_seed(0)
    theirs, ours = nn.InstanceNorm3d(channels, affine=True), InstanceNorm(channels, affine=True)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def _found(norm: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = nn.functional.leaky_relu_(norm(x), 0.01)
    y.backward(upstream)
    return [y.detach(), *(p.grad for p in (x, *norm.parameters()) if p.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 16, 9, 7, 5), (1, 5, 4, 4, 4), (2, 1, 6, 5, 4), (2, 40, 2, 1, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], dtype: torch.dtype, transposed: bool) -> None:
    theirs, ours = _pair(shape[1])
    x = (3 * torch.randn(shape) + 2).to(dtype).contiguous(memory_format=torch.channels_last_3d)
    upstream = torch.randn(shape).to(dtype)
    if not transposed:
        upstream = upstream.contiguous(memory_format=torch.channels_last_3d)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    for mine, reference in zip(_found(ours, x, upstream), _found(theirs, x, upstream), strict=True):
        assert mine.dtype == reference.dtype
        scale = reference.abs().max().clamp_min(1)
        torch.testing.assert_close(mine / scale, reference / scale, **tolerance)


def test_the_gradient_is_that_of_the_function() -> None:
    x = torch.randn(2, 3, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *given: _Normalised.apply(*given, 1e-5), inputs, atol=1e-4)


def test_the_layout_is_kept() -> None:
    _, ours = _pair(4)
    x = torch.randn(2, 4, 6, 5, 3).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = ours(x)
    y.sum().backward()
    assert x.grad is not None
    for tensor in (y, x.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last_3d)
    assert ours(x.detach().contiguous()).is_contiguous()
