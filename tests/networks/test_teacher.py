from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.networks import Teacher, ema_decay, planned_unet
from medseg.plan import Plan


class WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)  # has float and integer buffers
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x))


def changed(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module


def storages(module: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in itertools.chain(module.parameters(), module.buffers())}


def test_the_teacher_begins_as_the_student_and_shares_nothing(small_plan: Callable[..., Plan]) -> None:
    for student in (WithBuffers(), planned_unet(small_plan()), planned_unet(small_plan(), device="cpu")):
        before = copy.deepcopy(student.state_dict())
        teacher = Teacher(student)
        assert not storages(teacher) & storages(student)
        for name, tensor in teacher.network.state_dict().items():
            assert torch.equal(tensor, before[name])
        teacher.update(changed(student), 5, 100)
        changed(teacher)
        assert not storages(teacher) & storages(student)
        changed(student, 1)
        assert all(parameter.requires_grad for name, parameter in student.named_parameters() if name != "frozen")


def test_it_takes_no_gradient_but_lets_one_through() -> None:
    teacher = Teacher(WithBuffers())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    x = torch.randn(4, 3, requires_grad=True)
    teacher(x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_it_is_always_in_evaluation_mode() -> None:
    student = WithBuffers().train()
    teacher = Teacher(student)
    holder = nn.ModuleList([student, teacher])
    for mode in (True, False, True):
        holder.train(mode)
        teacher.train(mode)
        assert not any(module.training for module in teacher.modules())
    assert student.training
    mean = teacher.network.norm.running_mean.clone()
    teacher(torch.randn(8, 3))
    assert torch.equal(teacher.network.norm.running_mean, mean)  # it has no statistics of its own


@given(st.integers(0, 50), st.integers(1, 2000), st.floats(0.001, 1))
def test_the_decay(step: int, steps: int, half_life: float) -> None:
    decay = ema_decay(step, steps, half_life)
    lasting = 0.5 ** (1 / (half_life * steps))
    assert decay == pytest.approx(min(1 - 1 / (step + 1), lasting))
    assert 0 <= decay < 1
    assert ema_decay(step + 1, steps, half_life) >= decay


def test_a_weight_loses_half_its_influence_in_a_half_life() -> None:
    steps, half_life = 1000, 0.1
    influence = 1.0
    for step in range(500, 600):
        influence *= ema_decay(step, steps, half_life)
    assert influence == pytest.approx(0.5, rel=1e-6)


def test_extreme_half_lives() -> None:
    assert ema_decay(1000, 10, 0) == 0  # no memory at all
    assert ema_decay(10**9, 10**9, 1e9) == pytest.approx(1)
    assert ema_decay(0, 1, 1) == 0


def test_an_update_is_the_weighted_mean() -> None:
    student = WithBuffers()
    teacher = Teacher(student, half_life=0.05)
    expected = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    for step in range(12):
        changed(student, step)
        teacher.update(student, step, 100)
        decay = ema_decay(step, 100, 0.05)
        for name, parameter in student.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
        for name, parameter in teacher.network.named_parameters():
            assert torch.allclose(parameter, expected[name], atol=1e-5)
    assert not torch.allclose(teacher.network.layer.weight, student.layer.weight, atol=1e-2)


def test_the_first_update_is_the_student() -> None:
    """What the random initialisation was is forgotten at once."""
    student = WithBuffers()
    teacher = Teacher(student)
    teacher.update(changed(student), 0, 100)
    for mine, theirs in zip(teacher.network.parameters(), student.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_buffers_are_copied() -> None:
    student = WithBuffers().train()
    teacher = Teacher(student)
    for _ in range(3):
        student(torch.randn(8, 3))
    teacher.update(student, 50, 100)
    assert student.norm.num_batches_tracked == 3
    for (name, mine), (_, theirs) in zip(teacher.network.named_buffers(), student.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name
        assert mine.data_ptr() != theirs.data_ptr()


def test_an_update_leaves_the_student_and_its_gradients(small_plan: Callable[..., Plan]) -> None:
    student = planned_unet(small_plan()).train()
    teacher = Teacher(student)
    student(torch.randn(1, 1, 8, 8, 8)).logits.sum().backward()
    before = copy.deepcopy(student.state_dict())
    gradients = [parameter.grad.clone() for parameter in student.parameters()]
    teacher.update(student, 3, 10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(student.parameters(), gradients, strict=True))
    assert student.training
    assert all(parameter.grad_fn is None for parameter in teacher.parameters())


def test_it_gives_plain_logits_while_the_student_trains(small_plan: Callable[..., Plan]) -> None:
    student = planned_unet(small_plan()).train()
    teacher = Teacher(student)
    image = torch.randn(2, 1, 16, 16, 8)
    logits = teacher(image)
    assert type(logits) is torch.Tensor
    assert torch.equal(logits, student(image).logits)
    assert copy.deepcopy(teacher)(image).equal(logits)
