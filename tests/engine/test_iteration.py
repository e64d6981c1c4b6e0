"""The one iteration: parts of a batch equal the batch, fp16 scales, compiled networks keep their keys."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medseg.augment import Augment, Targets
from medseg.data.loader import RawBatch
from medseg.engine import Autocast, Iteration
from medseg.errors import InputError
from medseg.losses import DeepSupervisionLoss, DiceCELoss
from medseg.methods import Progress, PseudoLabel, Ramp, Supervised
from medseg.networks import planned_unet
from medseg.plan import Plan

LOSS = DeepSupervisionLoss(DiceCELoss())
HALF = Progress(5, 10)
Build = Callable[..., Plan]


def raw_batch(labelled: int = 4, unlabelled: int = 2) -> RawBatch:
    generator = torch.Generator().manual_seed(7)

    def part(samples: int) -> dict[str, Tensor]:
        image = torch.randn(samples, 1, 16, 16, 8, generator=generator)
        return {"image": image, "label": (image > 0.5).byte(), "mask": image > -2, "slot": torch.arange(samples)}

    return {"step": 3, "labelled": part(labelled), "unlabelled": part(unlabelled) if unlabelled else None}


def iteration_of(plan: Plan, method: Any = None, precision: str = "fp32", **options: Any) -> Iteration:
    network = planned_unet(plan)
    return Iteration(
        method or Supervised(LOSS),
        [network],
        torch.optim.SGD(network.parameters(), lr=0.1),
        Augment(0, plan.spacing, Targets.of_plan(plan)),
        Autocast("cpu", precision),  # type: ignore[arg-type]
        **options,
    )


def gradients(iteration: Iteration) -> Tensor:
    return torch.cat([p.grad.flatten() for p in iteration.students[0].parameters() if p.grad is not None])


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_equal_the_batch(parts: int, small_plan: Build) -> None:
    plan = small_plan()
    whole, split = (iteration_of(plan, clip_norm=1e9, accumulate=n) for n in (1, parts))
    one, other = (iteration(raw_batch(unlabelled=0), HALF) for iteration in (whole, split))
    torch.testing.assert_close(gradients(split), gradients(whole), rtol=1e-5, atol=1e-5)
    assert one.values.keys() == other.values.keys()
    for name, value in one.values.items():
        assert float(other.values[name]) == pytest.approx(float(value), abs=1e-5), name
    assert one.samples == other.samples == 4


def test_parts_keep_the_augmentation_of_their_slots(small_plan: Build) -> None:
    """A quarter of the batch by itself, on another process, is warped and varied as it is within the batch."""
    raw, augment = raw_batch(unlabelled=4), Augment(0, (1.0, 1.0, 2.0), Targets(2))
    assert raw["unlabelled"] is not None
    whole = augment(raw["labelled"], raw["unlabelled"], 3)
    for first in range(2):
        labelled, unlabelled = ({k: v[first::2] for k, v in raw[kind].items()} for kind in ("labelled", "unlabelled"))  # type: ignore[literal-required]
        part = augment(labelled, unlabelled, 3)
        assert torch.equal(part.labelled.image, whole.labelled.image[first::2])
        assert whole.unlabelled is not None
        assert part.unlabelled is not None
        assert torch.equal(part.unlabelled.strong, whole.unlabelled.strong[first::2])


def test_parts_that_are_not_even_are_refused(small_plan: Build) -> None:
    with pytest.raises(InputError, match="accumulate is 3, but a batch has 4 patches"):
        iteration_of(small_plan(), accumulate=3)(raw_batch(), HALF)
    with pytest.raises(InputError, match="accumulate is 0"):
        iteration_of(small_plan(), accumulate=0)


def test_fp16_scales_gradients_and_its_scale_is_part_of_the_state(small_plan: Build) -> None:
    plan = small_plan()
    iteration = iteration_of(plan, precision="fp16")
    before = copy.deepcopy(iteration.students[0].state_dict())
    iteration.scaler.load_state_dict(iteration.scaler.state_dict() | {"scale": 2.0**40})
    iteration(raw_batch(), HALF)  # such a scale overflows: the step is left out and the scale lowered
    assert all(torch.equal(tensor, before[name]) for name, tensor in iteration.students[0].state_dict().items())
    assert iteration.scaler.get_scale() == 2.0**39
    again = iteration_of(plan, precision="fp16")
    again.load_state_dict(iteration.state_dict())
    assert again.scaler.get_scale() == 2.0**39
    iteration.scaler.load_state_dict(iteration.scaler.state_dict() | {"scale": 2.0**10})
    norm = float(iteration(raw_batch(), HALF).values["gradient_norm"])
    # unscaled before it is measured and clipped
    assert norm == pytest.approx(float(iteration_of(plan)(raw_batch(), HALF).values["gradient_norm"]), rel=0.05)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in iteration.students[0].state_dict().items())


def test_the_state_is_taken_over(small_plan: Build) -> None:
    plan = small_plan()
    one = iteration_of(plan, PseudoLabel(LOSS, 0.0, Ramp(shape="constant")))
    one(raw_batch(), HALF)
    other = iteration_of(plan, PseudoLabel(LOSS, 0.0, Ramp(shape="constant")))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for iteration in (one, other):
        iteration(raw_batch(), HALF)
    for key in ("student_0", "teacher"):
        ours, theirs = one.state_dict()[key], other.state_dict()[key]
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_compiled_networks_keep_their_keys(small_plan: Build) -> None:
    plan = small_plan()
    method = PseudoLabel(LOSS, 0.0, Ramp(shape="constant"))
    plain, compiled = (iteration_of(plan, method, compile=how) for how in (False, "eager"))
    found = [float(each(raw_batch(), HALF).values["loss"]) for each in (plain, copy.deepcopy(compiled), compiled)]
    assert found[1:] == pytest.approx(found[:1] * 2, rel=1e-5)
    ours, theirs = compiled.state_dict(), plain.state_dict()
    assert compiled.students[0]._compiled_call_impl is not None
    assert compiled.teacher is not None
    assert compiled.teacher.network._compiled_call_impl is not None
    for key in ("student_0", "teacher"):
        assert ours[key].keys() == theirs[key].keys() == planned_unet(plan).state_dict().keys()
    with pytest.raises(InputError, match=r"compile.*did you mean 'inductor'"):
        iteration_of(plan, compile="inductr")


def test_what_cannot_be_repeated_exactly_is_named(small_plan: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*_: Any) -> None:
        raise RuntimeError("kthvalue CUDA does not have a deterministic implementation, but you set ...")

    monkeypatch.setattr(Supervised, "losses", losses)
    with pytest.raises(InputError, match="deterministic: kthvalue CUDA does not have"):
        iteration_of(small_plan())(raw_batch(), HALF)
