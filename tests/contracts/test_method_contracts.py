"""What must hold for every method, generated over all that are exported. A new method is tested without a new test."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medseg.methods
from medseg.augment import Augment, Batch, BoxMix, Targets
from medseg.data.loader import RawBatch
from medseg.engine.iteration import Iteration
from medseg.engine.precision import Autocast
from medseg.losses import DeepSupervisionLoss, DiceCELoss
from medseg.methods import Method, MethodOutput, Models, Progress, Ramp, Supervised
from medseg.networks import Teacher, planned_unet
from medseg.plan import Plan

METHODS = {
    name: member
    for name, member in vars(medseg.methods).items()
    if name in medseg.methods.__all__ and inspect.isclass(member) and hasattr(member, "losses") and member is not Method
}
METHODS["ConsistentCopyPaste, mixed"] = medseg.methods.ConsistentCopyPaste  # the default mixes nothing
# What lets a network of random weights learn from unlabelled images: no threshold that it cannot reach.
OPTIONS: dict[str, dict[str, Any]] = {
    "PseudoLabel": {"threshold": 0.0},
    "CrossPseudo": {"threshold": 0.0},
    "ConsistentCopyPaste, mixed": {"box": BoxMix(), "whole": True},
}
SEMI = [name for name, method in METHODS.items() if method.needs_unlabelled]
HALF = Progress(50, 100)
SHAPE = (16, 16, 8)
Build = Callable[..., Plan]


def make(name: str, ramp: Ramp | None = None) -> Method:
    parameters = inspect.signature(METHODS[name]).parameters
    options = dict(OPTIONS.get(name, {}))
    if "ramp" in parameters:
        options["ramp"] = ramp or Ramp(shape="constant")
    return METHODS[name](loss=DeepSupervisionLoss(DiceCELoss()), **options)


def plan_of(small_plan: Build, channels: int = 1, classes: int = 2) -> Plan:
    network = {
        "filters": (4, 6, 8),
        "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 1)),
        "kernels": ((3, 3, 3),) * 3,
        "heads": 1,
    }
    return small_plan(
        network=network,
        patch_size=SHAPE,
        channels=[{"name": f"c{i}", "normalisation": "zscore"} for i in range(channels)],
        classes={i: f"class {i}" for i in range(classes)},
    )


def raw_batch(step: int = 0, samples: int = 2, channels: int = 1, classes: int = 2) -> RawBatch:
    generator = torch.Generator().manual_seed(step)

    def part() -> dict[str, Tensor]:
        image = torch.randn(samples, channels, *SHAPE, generator=generator)
        label = (image[:, :1].abs() * classes / 2).floor().clamp_max(classes - 1).byte()
        return {"image": image, "label": label, "mask": image[:, :1] > -2}

    labelled, unlabelled = part(), part()
    unlabelled["label"].zero_()
    return {"step": step, "labelled": labelled, "unlabelled": unlabelled}


def batch_of(**sizes: int) -> Batch:
    raw = raw_batch(**sizes)
    targets = Targets(sizes.get("classes", 2))
    return Augment(0, (1.0, 1.0, 2.0), targets)(raw["labelled"], raw["unlabelled"], 0)


def models_of(method: Method, plan: Plan) -> Models:
    students = tuple(planned_unet(plan, seed).train() for seed in range(method.students))
    # another network than the student, or its labels would be the student's own
    return Models(students, Teacher(planned_unet(plan, 99)) if method.needs_teacher else None)


def iteration_of(method: Method, plan: Plan, precision: str = "fp32") -> Iteration:
    students = [planned_unet(plan, seed) for seed in range(method.students)]
    parameters = itertools.chain.from_iterable(student.parameters() for student in students)
    return Iteration(
        method,
        students,
        torch.optim.AdamW(list(parameters), lr=1e-2),
        Augment(0, plan.spacing, Targets.of_plan(plan)),
        Autocast("cpu", precision),  # type: ignore[arg-type]
    )


def run(iteration: Iteration, batches: list[RawBatch], steps: int = 10) -> dict[str, Tensor]:
    for i, batch in enumerate(batches):
        iteration(batch, Progress(i, steps))
    return {name: tensor.clone() for name, tensor in iteration.students[0].state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def without_labels(batch: Batch) -> Batch:
    """What is left is what unlabelled images teach: an empty mask gives a labelled term 0 and no gradient."""
    labelled = copy.copy(batch.labelled)
    object.__setattr__(labelled, "mask", torch.zeros_like(labelled.mask))
    return replace(batch, labelled=labelled)


def test_all_methods_are_found() -> None:
    assert {"Supervised", "PseudoLabel"} <= METHODS.keys()
    assert OPTIONS.keys() <= METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_says_what_it_needs(self, name: str) -> None:
        method = make(name)
        assert method.students in (1, 2)
        assert isinstance(method.needs_teacher, bool)
        assert isinstance(method.needs_unlabelled, bool)
        assert inspect.getdoc(METHODS[name])

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize(("samples", "channels", "classes"), [(2, 1, 2), (1, 1, 4), (1, 2, 2)])
    def test_gives_named_terms_and_gradients(
        self, name: str, samples: int, channels: int, classes: int, precision: str, small_plan: Build
    ) -> None:
        method = make(name)
        models = models_of(method, plan_of(small_plan, channels, classes))
        with Autocast("cpu", precision)():  # type: ignore[arg-type]
            output = method.losses(batch_of(samples=samples, channels=channels, classes=classes), models, HALF)
            total = output.total()
        assert isinstance(output, MethodOutput)
        assert output.terms
        assert set(output.weights) <= set(output.terms)
        for value in (*output.terms.values(), total):
            assert value.ndim == 0
            assert value.isfinite()
            assert value.dtype == torch.float32
        for diagnostic in output.diagnostics.values():
            assert isinstance(diagnostic, float | int) or (diagnostic.numel() == 1 and diagnostic.isfinite())
        total.backward()
        for student in models.students:
            found = gradients(student)
            assert all(gradient.isfinite().all() for gradient in found)
            assert any(gradient.any() for gradient in found)

    def test_is_a_function_of_its_arguments(self, name: str, small_plan: Build) -> None:
        """Nothing drawn from global random state, nothing remembered, nothing changed."""
        method, batch = make(name), batch_of()
        models = models_of(method, plan_of(small_plan))
        values = [value for part in (batch.labelled, batch.unlabelled) for value in vars(part).values()]
        tensors = [value for value in values if isinstance(value, Tensor)]
        copies = [tensor.clone() for tensor in tensors]
        torch.manual_seed(1)
        first = method.losses(batch, models, HALF)
        method.losses(batch_of(step=7), models, Progress(99, 100))
        torch.manual_seed(2)
        again = method.losses(batch, models, HALF)
        assert same({k: v.detach() for k, v in first.terms.items()}, {k: v.detach() for k, v in again.terms.items()})
        assert first.weights == again.weights
        assert all(torch.equal(tensor, before) for tensor, before in zip(tensors, copies, strict=True))
        assert not any(tensor.requires_grad for tensor in tensors)

    def test_can_be_copied(self, name: str, small_plan: Build) -> None:
        """The calibration of a budget in minutes runs on a copy, and the run itself begins fresh."""
        plan = plan_of(small_plan)
        iteration = iteration_of(make(name), plan)
        before = copy.deepcopy(iteration.state_dict())
        run(copy.deepcopy(iteration), [raw_batch(0), raw_batch(1)])
        for key, state in iteration.state_dict().items():
            if not key.startswith("optimizer"):
                assert same(state, before[key])

    def test_a_run_is_repeatable(self, name: str, small_plan: Build) -> None:
        plan, batches = plan_of(small_plan), [raw_batch(i) for i in range(3)]
        one, other = (run(iteration_of(make(name), plan), batches) for _ in range(2))
        assert same(one, other)
        assert not same(one, planned_unet(plan, 0).state_dict())

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_its_values_are_finite_over_steps(self, name: str, precision: str, small_plan: Build) -> None:
        iteration = iteration_of(make(name), plan_of(small_plan, 2, 4), precision)
        for step in range(3):
            raw = raw_batch(step, samples=1, channels=2, classes=4)
            result = iteration(raw, Progress(step, 3))
            values = {key: float(value) for key, value in result.values.items()}
            assert {"loss", "gradient_norm", "learning_rate"} <= values.keys()
            assert all(torch.tensor(value).isfinite() for value in values.values()), values


def nan_images(batch: RawBatch) -> RawBatch:
    assert batch["unlabelled"] is not None
    image = torch.full_like(batch["unlabelled"]["image"], float("nan"))
    return {**batch, "unlabelled": batch["unlabelled"] | {"image": image}}


def garbage_labels(batch: RawBatch) -> RawBatch:
    assert batch["unlabelled"] is not None
    return {
        **batch,
        "unlabelled": batch["unlabelled"] | {"label": torch.randint_like(batch["unlabelled"]["label"], 200)},
    }


@pytest.mark.parametrize("name", SEMI)
class TestEveryMethodThatUsesUnlabelledImages:
    def test_they_teach_the_student_and_not_the_teacher(self, name: str, small_plan: Build) -> None:
        method = make(name)
        models = models_of(method, plan_of(small_plan))
        if models.teacher is not None:
            models.teacher.requires_grad_(True)  # the terms must stop before it, not its parameters refuse
        method.losses(without_labels(batch_of()), models, HALF).total().backward()
        for student in models.students:
            assert any(gradient.any() for gradient in gradients(student))
        if models.teacher is not None:
            assert not gradients(models.teacher)

    def test_the_student_is_compared_with_the_teacher(self, name: str, small_plan: Build) -> None:
        """Another teacher, or in its place another second student, is another target."""
        method, plan, batch = make(name), plan_of(small_plan), without_labels(batch_of())
        models = models_of(method, plan)
        others = [
            Models(models.students, Teacher(planned_unet(plan, seed)))
            if method.needs_teacher
            else Models((models.students[0], planned_unet(plan, seed).train()))
            for seed in (200, 201)
        ]
        found = {float(method.losses(batch, which, HALF).total().detach()) for which in (models, *others)}
        assert len(found) == 3

    def test_teacher_and_students_share_no_storage(self, name: str, small_plan: Build) -> None:
        iteration = iteration_of(make(name), plan_of(small_plan))
        run(iteration, [raw_batch(i) for i in range(2)])
        networks = [*iteration.students, *([iteration.teacher] if iteration.teacher is not None else [])]
        for one, other in itertools.combinations(networks, 2):
            assert not set(_storages(one)) & set(_storages(other))

    def test_the_unlabelled_images_matter(self, name: str, small_plan: Build) -> None:
        plan, batches = plan_of(small_plan), [raw_batch(i) for i in range(3)]
        changed = [
            {**batch, "unlabelled": {**batch["unlabelled"], "image": batch["unlabelled"]["image"].flip(2)}}
            for batch in batches
        ]
        assert not same(run(iteration_of(make(name), plan), batches), run(iteration_of(make(name), plan), changed))

    @pytest.mark.parametrize("ramp", [Ramp(weight=0.0), Ramp(start=1.0), Ramp(start=0.5)])
    def test_they_have_no_influence_where_the_ramp_is_0(self, name: str, ramp: Ramp, small_plan: Build) -> None:
        """Not even images of NaN: 0 times NaN is not 0. What is left is the supervised baseline itself."""
        plan, batches = plan_of(small_plan), [raw_batch(i) for i in range(4)]
        plain = run(iteration_of(make(name, ramp), plan), batches)
        broken = run(iteration_of(make(name, ramp), plan), [nan_images(batch) for batch in batches])
        assert same(plain, broken)
        assert all(tensor.isfinite().all() for tensor in plain.values())
        supervised = Supervised(DeepSupervisionLoss(DiceCELoss()))
        labelled: list[RawBatch] = [{**batch, "unlabelled": None} for batch in batches]
        assert same(plain, run(iteration_of(supervised, plan), labelled))

    def test_the_label_of_an_unlabelled_case_has_no_influence(self, name: str, small_plan: Build) -> None:
        plan, batches = plan_of(small_plan), [raw_batch(i) for i in range(2)]
        plain = run(iteration_of(make(name), plan), batches)
        assert same(plain, run(iteration_of(make(name), plan), [garbage_labels(batch) for batch in batches]))

    def test_what_lies_outside_the_volume_teaches_nothing(self, name: str, small_plan: Build) -> None:
        method, batch = make(name), without_labels(batch_of())
        models = models_of(method, plan_of(small_plan))
        assert batch.unlabelled is not None
        nowhere = copy.copy(batch.unlabelled)
        object.__setattr__(nowhere, "mask", torch.zeros_like(nowhere.mask))
        total = method.losses(replace(batch, unlabelled=nowhere), models, HALF).total()
        assert total == 0
        total.backward()
        assert not any(gradient.any() for student in models.students for gradient in gradients(student))

    def test_it_tells_how_far_the_ramp_is_and_how_much_is_kept(self, name: str, small_plan: Build) -> None:
        method, batch = make(name), batch_of()
        found = method.losses(batch, models_of(method, plan_of(small_plan)), HALF).diagnostics
        assert found["ramp"] == 1
        assert 0 < found["kept_share"] <= 1

    def test_its_pseudo_label_is_what_a_label_would_be(self, name: str, small_plan: Build) -> None:
        """Of the form of a label, inside the volume, from the images alone, and not to be differentiated."""
        method, batch = make(name), batch_of(classes=3)
        models = models_of(method, plan_of(small_plan, classes=3))
        found = method.pseudo_label(batch, models)
        assert found is not None
        assert batch.unlabelled is not None
        assert found.label.shape == batch.labelled.label.shape
        assert found.label.dtype == batch.labelled.label.dtype
        assert not found.label.requires_grad
        assert found.kept.dtype == torch.bool
        assert not (found.kept & ~batch.unlabelled.mask).any()
        blind = replace(batch.labelled, label=torch.zeros_like(batch.labelled.label))
        again = method.pseudo_label(replace(batch, labelled=blind), models)
        assert again is not None
        assert torch.equal(found.label, again.label)
        assert torch.equal(found.kept, again.kept)

    def test_it_says_when_they_are_missing(self, name: str, small_plan: Build) -> None:
        method, batch = make(name), batch_of()
        models = models_of(method, plan_of(small_plan))
        with pytest.raises(ValueError, match="unlabelled"):
            method.losses(replace(batch, unlabelled=None), models, HALF)


def _storages(module: nn.Module) -> Iterator[int]:
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        yield tensor.untyped_storage().data_ptr()
