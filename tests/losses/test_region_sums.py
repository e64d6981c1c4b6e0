"""The sums block by block equal those of the plain form, and so do their gradients."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from medseg.losses import blockwise
from medseg.losses.blockwise import Blockwise
from medseg.losses.plain_sums import plain_sums
from medseg.losses.wanted import Reading, Wanted

ALL = Wanted(linear=True, squared=True, ce=True, even=True, focal=(0.5, 1.5, 2.0))
WANTED = [Wanted(linear=True), Wanted(squared=True), Wanted(ce=True), Wanted(linear=True, ce=True), ALL]


@pytest.mark.parametrize("wanted", WANTED, ids=lambda w: "+".join(k for k, v in w._asdict().items() if v))
@pytest.mark.parametrize(("activation", "classes"), [("softmax", 3), ("sigmoid", 1), ("sigmoid", 3)])
def test_blockwise_is_plain(activation: str, classes: int, wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "CPU_BLOCK", 64)  # several blocks, the last one short
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 41, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, max(classes, 2), (2, 1, 41), generator=generator)
    soft = torch.rand(2, classes, 41, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, 1, 41, generator=generator, dtype=torch.float64)
    by = torch.randn(len(wanted.keys(True)), 2, classes, generator=generator, dtype=torch.float64)
    for target, mask, ignored in product((labels, soft), (None, weights > 0.5, weights), (None, 1)):
        how = Reading(activation, wanted, ignored, activation == "sigmoid")  # type: ignore[arg-type]
        found = []
        for sums_of in (Blockwise.apply, plain_sums):
            z = logits.clone().requires_grad_()
            sums, mass, volume, volume2 = sums_of(z, target, mask, how)
            (gradient,) = torch.autograd.grad((sums * by[: len(sums)]).sum(), z)
            found.append([sums, mass, volume, gradient] + ([volume2] if wanted.squared else []))
        assert_close(found[0], found[1])


def test_large_volumes_are_counted_exactly() -> None:
    """Sums of float32 ones stop at 2^24 when made one by one."""
    target = torch.zeros(1, 1, 2**24 + 64, dtype=torch.uint8)
    logits = torch.zeros(1, 1, 2**24 + 64)
    _, mass, *_ = Blockwise.apply(logits, target, None, Reading("sigmoid", Wanted(linear=True), None, True))
    assert mass.item() == 2**24 + 64


def test_second_derivatives_are_refused_and_not_wrong() -> None:
    z = torch.randn(1, 2, 8, requires_grad=True)
    target = torch.zeros(1, 1, 8, dtype=torch.long)
    sums, *_ = Blockwise.apply(z, target, None, Reading("softmax", Wanted(linear=True), None, False))
    (gradient,) = torch.autograd.grad((sums**2).sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("size", [1.0, 80.0, 1000.0])
@pytest.mark.parametrize("offset", [0.0, -200.0, 200.0])
def test_logits_of_any_size(size: float, offset: float) -> None:
    """With float32's range of exp left behind, values and gradients stay those of the shifted softmax."""
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)) * size + offset
    target = torch.randint(0, 3, (2, 1, 50), generator=torch.Generator().manual_seed(1))
    how = Reading("softmax", ALL, None, False)
    found = []
    for sums_of in (Blockwise.apply, plain_sums):
        z = logits.clone().requires_grad_()
        sums, *_ = sums_of(z, target, None, how)
        found.append([sums, *torch.autograd.grad(sums.sum(), z)])
    assert torch.isfinite(found[0][0]).all()
    assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_diverged_network_is_not_hidden() -> None:
    logits = torch.zeros(1, 2, 8)
    logits[0, 0, 3] = torch.nan
    target = torch.zeros(1, 1, 8, dtype=torch.long)
    sums, *_ = Blockwise.apply(logits, target, None, Reading("softmax", Wanted(ce=True), None, False))
    assert sums.isnan().any()
