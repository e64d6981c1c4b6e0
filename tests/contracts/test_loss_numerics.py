"""Contract 4: gradients are right, and half precision input is summed in float32 at least."""

from __future__ import annotations

import pytest
import torch
from loss_cases import CASES, Case, Inputs, draw, value, value_and_gradient
from torch import Tensor


@pytest.mark.filterwarnings("ignore:a Laplacian pyramid")
@pytest.mark.parametrize(("soft", "masked"), [(False, True), (True, False)], ids=["hard masked", "soft"])
@pytest.mark.parametrize("shape", [(3, 4, 2), (4, 3)], ids=["3d", "2d"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient(case: Case, shape: tuple[int, ...], soft: bool, masked: bool) -> None:
    inputs = draw(case, shape, soft=soft)
    mask = torch.rand_like(inputs.x[:, :1]) + 0.5 if masked else None
    loss = case.build()

    def of(x: Tensor) -> Tensor:
        return value(loss, Inputs(x, inputs.other, mask))

    assert torch.autograd.gradcheck(of, inputs.x.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_input(case: Case, dtype: torch.dtype) -> None:
    """float16 overflows above 65504: a sum over 96^3 or 48^3 voxels must not be in it."""
    size, classes = (96, 2) if case == Case(case.name) else (48, case.classes)
    inputs = draw(case, (size, size, size), batch=1, classes=classes, dtype=torch.float32)
    loss = case.build()
    expected = value(loss, inputs)
    if case.kind == "pair":
        inputs.other = inputs.other.to(dtype)
    found, gradient = value_and_gradient(loss, Inputs(inputs.x.to(dtype), inputs.other))
    assert found.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.isfinite(gradient).all()
    assert abs(found - expected) < 1e-3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_is_off_inside(case: Case) -> None:
    inputs = draw(case, (16, 16, 16), dtype=torch.float32)
    expected = value_and_gradient(case.build(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(case.build(), inputs)
    torch.testing.assert_close(found, expected)
