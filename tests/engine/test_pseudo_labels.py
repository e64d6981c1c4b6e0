"""Pseudo-labels of validation cases against their labels: counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medseg.augment import Augment, Batch, GeometryAugment, Targets
from medseg.engine import Autocast, Iteration, PseudoLabelCheck
from medseg.losses import DeepSupervisionLoss, DiceCELoss
from medseg.methods import Models, Supervised
from medseg.methods.teaching import Taught
from medseg.networks import planned_unet
from medseg.plan import Plan


class Patches(list[dict[str, Tensor]]):
    """Two patches of which the class 1 has 8 and 4 voxels, class 2 none and 6."""

    batch_size = 2

    def __init__(self, **more: Tensor) -> None:
        label = torch.zeros(2, 1, 16, 16, 8, dtype=torch.uint8)
        label[0, 0, :8, 0, 0] = 1
        label[1, 0, :4, 0, 0] = 1
        label[1, 0, :6, 1, 0] = 2
        mask = torch.ones_like(label, dtype=torch.bool)
        mask[:, :, 15] = False
        for i in range(2):
            patch = {"image": torch.zeros(1, 16, 16, 8), "label": label[i], "mask": mask[i], "slot": torch.tensor(i)}
            self.append(patch | {"case": torch.tensor(0)} | {name: value[i] for name, value in more.items()})

    def __getitems__(self, indices: list[tuple[int, int]]) -> dict[str, Tensor]:
        assert {step for step, _ in indices} in ({0}, {1})
        return {name: torch.stack([self[slot][name] for _, slot in indices]) for name in self[0]}


class Says(Supervised):
    """Gives one answer, and looks at what it was asked."""

    needs_unlabelled = True

    def __init__(self, answer: Taught) -> None:
        super().__init__(DeepSupervisionLoss(DiceCELoss()))
        self.answer = answer

    def pseudo_label(self, batch: Batch, models: Models) -> Taught:  # type: ignore[override]
        assert len(models.students) == 1
        assert batch.unlabelled is not None
        assert not batch.unlabelled.mask[:, :, 15].any()
        # the label of a sample is not beside it
        assert int((batch.labelled.label[0] == 1).sum()) == 4
        return self.answer


def check(method: Supervised, plan: Plan, patches: Any) -> dict[str, float]:
    network = planned_unet(plan)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    still = GeometryAugment(flip_axes=(), share=0.0)
    augment = Augment(0, plan.spacing, Targets.of_plan(plan), geometry=still)
    iteration = Iteration(method, [network], optimizer, augment, Autocast("cpu", "fp32"))
    return PseudoLabelCheck(iteration, patches, patches=4)()


@pytest.fixture
def plan(small_plan: Callable[..., Plan]) -> Plan:
    return small_plan(classes={0: "background", 1: "left", 2: "right"})


@pytest.fixture
def answer() -> Taught:
    label = torch.zeros(2, 1, 16, 16, 8, dtype=torch.int64)
    label[0, 0, :4, 0, 0] = 1  # half of the first sample's, and the second sample's missed
    label[1, 0, :6, 1, 0] = 2
    label[1, 0, 6:8, 1, 0] = 2  # two too many
    return Taught(label, torch.ones_like(label, dtype=torch.bool), label > 0)


def test_counts_are_those_of_all_patches_together(plan: Plan, answer: Taught) -> None:
    found = check(Says(answer), plan, Patches())
    assert found["pseudo_label_dice"] == pytest.approx((2 * 4 / (4 + 12) + 2 * 6 / (8 + 6)) / 2)
    assert found["pseudo_label_kept_share"] == 1
    assert found["pseudo_label_kept_foreground"] == 1


def test_only_what_is_kept_is_judged(plan: Plan, answer: Taught) -> None:
    kept = answer.kept.clone()
    kept[0, 0, 4:] = False
    kept[1, 0, :, 0] = False
    kept[1, 0, 6:] = False
    found = check(Says(answer._replace(kept=kept)), plan, Patches())
    assert found["pseudo_label_dice"] == 1
    assert found["pseudo_label_kept_foreground"] == pytest.approx((4 + 6) / (12 + 6))
    assert found["pseudo_label_kept_share"] == pytest.approx((4 * 16 * 8 + 6 * 15 * 8) / (2 * 15 * 16 * 8))


def test_a_class_nobody_looked_for_is_not_judged(plan: Plan, answer: Taught) -> None:
    looked_for = torch.tensor([[True, True, True], [True, True, False]])
    found = check(Says(answer), plan, Patches(annotated=looked_for))
    assert found["pseudo_label_dice"] == pytest.approx(2 * 4 / (4 + 12))  # of class 2 nothing is there to judge


def test_nothing_is_said_where_nothing_is_taught(plan: Plan) -> None:
    assert check(Supervised(DeepSupervisionLoss(DiceCELoss())), plan, Patches()) == {}
