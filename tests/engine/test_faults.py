"""What goes wrong in a run is skipped, counted and named, or ends it in one line that says what to change."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medseg import ranks
from medseg.augment import Augment, Targets
from medseg.engine import Autocast, Faults, Iteration, JsonLines, StepLog
from medseg.engine.explain import explained, smaller_plan
from medseg.engine.fine_tuning import start_from
from medseg.engine.iteration import StepResult
from medseg.engine.sealed import save_checkpoint
from medseg.errors import InputError
from medseg.inference import save_model
from medseg.methods import MethodOutput, Progress
from medseg.networks import planned_unet
from medseg.plan import Plan, load_plan

Build = Callable[..., Plan]


class _Method:
    """A loss of one factor times the mean output, and another term that is 1."""

    students, needs_teacher, needs_unlabelled = 1, True, False

    def __init__(self) -> None:
        self.factor = 1.0

    def losses(self, batch: Any, models: Any, progress: Progress) -> MethodOutput:
        logits = models.students[0](batch.labelled.image).logits.float()
        return MethodOutput({"labelled": self.factor * logits.mean(), "other": torch.ones(())})


def _iteration(plan: Plan, precision: Any = "fp32") -> Iteration:
    network = planned_unet(plan)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    augment = Augment(0, plan.spacing, Targets.of_plan(plan))
    return Iteration(_Method(), [network], optimizer, augment, Autocast("cpu", precision))


def _raw() -> Any:
    image = torch.randn(2, 1, 16, 16, 8, generator=torch.Generator().manual_seed(7))
    part = {"image": image, "label": (image > 0.5).byte(), "mask": image > -2, "slot": torch.arange(2)}
    return {"step": 3, "labelled": part, "unlabelled": None}


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_that_is_not_finite_changes_nothing(factor: float, precision: str, small_plan: Build) -> None:
    iteration = _iteration(small_plan(), precision)
    assert not iteration(_raw(), Progress(5, 10)).skipped
    before = copy.deepcopy(iteration.state_dict())
    iteration.method.factor = factor  # type: ignore[attr-defined]
    assert iteration(_raw(), Progress(6, 10)).skipped
    for part in ("student_0", "teacher"):
        assert all(torch.equal(before[part][name], value) for name, value in iteration.state_dict()[part].items())
    moments = [state["optimizer"]["state"][0]["exp_avg"] for state in (before, iteration.state_dict())]
    assert torch.equal(*moments)
    if precision == "fp16":
        assert iteration.scaler.get_scale() < before["scaler"]["scale"]
    iteration.method.factor = 1.0  # type: ignore[attr-defined]
    assert not iteration(_raw(), Progress(7, 10)).skipped


def _fake(faults: Faults, steps: list[StepResult], tmp_path: Path, **batch: Any) -> Any:
    """Plays steps to the handlers as the trainer does."""
    state = SimpleNamespace(iteration=0, steps=len(steps), batch={"cases": ["a", "b"], **batch}, output=None)
    rows, log = [], StepLog(every=2)

    def logged(kind: str, metrics: dict[str, float]) -> None:
        rows.append((state.iteration, kind, metrics))
        state.logged = SimpleNamespace(step=state.iteration, kind=kind, metrics=metrics)
        JsonLines(tmp_path / "metrics.jsonl")(trainer)

    trainer: Any = SimpleNamespace(state=state, log=logged)
    for step in steps:
        state.iteration, state.output = state.iteration + 1, step
        log(trainer)
        faults(trainer)
    return rows


GOOD = StepResult({"loss": torch.tensor(1.0), "loss/labelled": 1.0}, 2)
BAD = StepResult({"loss": torch.tensor(math.nan), "loss/labelled": math.inf, "loss/other": 1.0}, 2, skipped=True)
OVERFLOW = StepResult({"loss": torch.tensor(1.0), "gradient_norm": math.inf, "gradient_scale": 8.0}, 2, skipped=True)


def test_skipped_steps_are_counted_and_in_no_average(tmp_path: Path) -> None:
    faults = Faults(limit=2)
    rows = _fake(faults, [BAD, GOOD, BAD, GOOD, OVERFLOW, OVERFLOW, OVERFLOW], tmp_path)
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["skipped_steps"] for row in found if row["kind"] == "fault"] == [1, 2, 3, 4, 5]
    assert [metrics["loss"] for _, kind, metrics in rows if kind == "train" and "loss" in metrics] == [1.0, 1.0]
    assert faults.lines() == ["Steps skipped, because loss or gradient was not finite: 5"]


def test_too_many_in_a_row_name_cases_and_terms_also_over_a_resume(tmp_path: Path) -> None:
    faults = Faults(limit=3)
    _fake(faults, [GOOD, BAD, BAD], tmp_path)
    resumed = Faults(limit=3)
    resumed.load_state_dict(faults.state_dict())
    with pytest.raises(InputError, match="not finite: loss, loss/labelled; their cases: a, b, c; look at") as caught:
        _fake(resumed, [BAD], tmp_path, cases=["b", "c"])
    assert len(str(caught.value).splitlines()) == 1


def test_cases_that_were_left_out_are_counted_once(tmp_path: Path) -> None:
    faults = Faults()
    _fake(faults, [GOOD, GOOD], tmp_path, bad=["c", "c", "d"])
    assert faults.lines() == ["Cases left out that could not be read: 2 (c, d)"]


def test_memory_is_explained_with_a_smaller_plan(small_plan: Build, tmp_path: Path) -> None:
    plan = small_plan(batch_size=8)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
    line = str(explained(error, plan, tmp_path))
    assert "batch 8, patch 16x16x8, filters 4 to 8" in line
    assert "plan_sizes#patch_voxels" in line
    assert len(line.splitlines()) == 1
    assert load_plan(tmp_path / "smaller_plan.yaml").batch_size == 4
    assert explained(ValueError("other"), plan, tmp_path) is None


def test_smaller_plans_halve_the_batch_then_the_patch(small_plan: Build) -> None:
    plan = small_plan(batch_size=4, patch_size=(32, 16, 8))
    sizes = []
    while (smaller := smaller_plan(plan)) is not None:
        Plan.model_validate(smaller.model_dump())  # still fits the network's strides
        assert smaller.network == plan.network
        sizes.append((smaller.batch_size, smaller.patch_size))
        plan = smaller
    assert sizes[:2] == [(2, (32, 16, 8)), (2, (16, 16, 8))]
    assert sizes[-1] == (2, (2, 2, 2))
    voxels = [math.prod(patch) for _, patch in sizes[1:]]
    assert all(b <= a / 2 for a, b in pairwise(voxels))


def test_a_dead_worker_is_explained(small_plan: Build, tmp_path: Path) -> None:
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore")
    line = str(explained(error, small_plan(), tmp_path))
    assert "was ended from outside (DataLoader worker (pid 7) is killed by signal: Killed.)" in line
    assert "--set workers=0" in line


class _Broken(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise RuntimeError(f"no item {index}")


def test_what_a_worker_itself_raises_keeps_its_traceback(small_plan: Build, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"in DataLoader worker process 0(.|\n)*no item 0") as caught:
        next(iter(torch.utils.data.DataLoader(_Broken(), num_workers=1)))
    assert explained(caught.value, small_plan(), tmp_path) is None


def test_another_process_that_is_gone_is_explained(
    small_plan: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:3")
    assert explained(error, small_plan(), tmp_path) is None
    monkeypatch.setattr(ranks, "size", lambda: 2)
    assert "another one has ended" in str(explained(error, small_plan(), tmp_path))
    assert explained(RuntimeError("shapes differ"), small_plan(), tmp_path) is None


def test_fine_tuning_takes_all_but_a_classifier_of_another_size(small_plan: Build, tmp_path: Path) -> None:
    old, new = small_plan(), small_plan(classes={0: "background", 1: "liver", 2: "spleen"})
    source, target = planned_unet(old, seed=5), _iteration(new)
    fresh = copy.deepcopy(target.students[0].state_dict())
    save_model(tmp_path / "model", source.state_dict(), old)
    said = start_from(target, tmp_path / "model")
    assert said.endswith("fresh because of another number of classes: classifier.conv.conv")
    for name, tensor in target.students[0].state_dict().items():
        assert torch.equal(tensor, (fresh if name.startswith("classifier") else source.state_dict())[name]), name
    assert target.teacher is not None
    assert all(torch.equal(tensor, target.students[0].state_dict()[name])
               for name, tensor in target.teacher.network.state_dict().items())  # fmt: skip


def test_fine_tuning_from_a_checkpoint_takes_the_chosen_network(small_plan: Build, tmp_path: Path) -> None:
    student, teacher = (planned_unet(small_plan(), seed=seed).state_dict() for seed in (1, 2))
    save_checkpoint({"student_0": student, "teacher": teacher, "chosen": "teacher"}, tmp_path / "best.pt")
    target = _iteration(small_plan())
    assert start_from(target, tmp_path / "best.pt") == f"Starts from {tmp_path / 'best.pt'}"
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in target.students[0].state_dict().items())


def test_another_network_is_refused_with_names_and_shapes(small_plan: Build, tmp_path: Path) -> None:
    other = small_plan(network={"filters": (4, 16)})
    save_model(tmp_path / "model", planned_unet(other).state_dict(), other)
    with pytest.raises(InputError, match=r"encoders.1\S+ is \(16, 4, 3, 3, 3\) there and \(8, 4, 3, 3, 3\) here"):
        start_from(_iteration(small_plan()), tmp_path / "model")
    with pytest.raises(InputError, match="no model there"):
        start_from(_iteration(small_plan()), tmp_path / "elsewhere")
