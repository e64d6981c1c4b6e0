from __future__ import annotations

import pytest
import torch
from eight_voxels import CLASSES, FULL, IMAGES, KEY, SHAPE, Fixed, Recorded, batch
from torch import Tensor

from medseg.augment import Batch, Labelled
from medseg.methods import Models, Progress, PseudoLabel, Ramp, Supervised
from medseg.networks.unet import NetworkOutput


def test_the_teacher_labels_the_weak_view_and_the_student_learns_the_strong_one() -> None:
    loss, student, teacher = Recorded(), Fixed(2.0).train(), Fixed(1.0).eval()
    output = PseudoLabel(loss, threshold=0.9, ramp=FULL).losses(
        batch(IMAGES), Models((student,), teacher), Progress(3, 9)
    )
    assert torch.equal(teacher.seen[0].ravel(), torch.tensor(IMAGES))
    assert torch.equal(student.seen[1].ravel(), torch.tensor(IMAGES) + 0.5)
    heads, label, mask, step = loss.asked[1]
    assert len(heads) == 2  # with deep supervision
    assert label.ravel().tolist()[4:] == [1, 1, 1, 1]
    assert label.ravel().tolist()[:3] == [0, 0, 0]
    assert mask.ravel().tolist() == [True, True, False, False, False, True, True, True]
    assert (label.shape, mask.shape, step) == (SHAPE, SHAPE, pytest.approx(1000 / 3))  # thousandths of the run
    assert output.diagnostics["kept_share"] == pytest.approx(5 / 8)
    assert output.diagnostics["kept_foreground_share"] == pytest.approx(3 / 5)
    assert output.diagnostics["ramp"] == 1
    # scaled by the share that is kept: FixMatch's mean over all voxels
    alone = loss((torch.cat([torch.zeros(SHAPE), 2.0 * (torch.tensor(IMAGES).view(SHAPE) + 0.5)], 1),), label, mask, 3)
    assert output.terms["unlabelled"].item() == pytest.approx(float(5 / 8 * alone.total), rel=1e-5)


def test_what_lies_outside_is_neither_kept_nor_counted() -> None:
    loss = Recorded()
    outside = [False] * 4 + [True] * 4
    output = PseudoLabel(loss, 0.9, FULL).losses(
        batch(IMAGES, outside), Models((Fixed(1.0).train(),), Fixed(1.0).eval()), Progress(0, 9)
    )
    assert loss.asked[1][2].ravel().tolist() == [False] * 5 + [True] * 3
    assert output.diagnostics["kept_share"] == pytest.approx(3 / 4)


def test_nothing_kept_is_nothing_learnt() -> None:
    student = Fixed(1.0).train()
    output = PseudoLabel(Recorded(), 1.0, FULL).losses(
        batch(IMAGES), Models((student,), Fixed(0.1).eval()), Progress(0, 9)
    )
    assert output.terms["unlabelled"] == 0
    assert output.diagnostics["kept_foreground_share"] == 0
    output.terms["unlabelled"].backward()
    assert student.factor.grad == 0


def test_even_classes_are_foreground_too() -> None:
    """`label & mask` on integers would lose class 2."""

    class Two(Fixed):
        def forward(self, image: Tensor) -> Tensor | NetworkOutput:
            logits = torch.cat([torch.zeros_like(image), torch.zeros_like(image), 50 + image], 1)
            return NetworkOutput(logits, (), {}) if self.training else logits

    output = PseudoLabel(Recorded(), 0.9, FULL).losses(
        batch(IMAGES), Models((Two(1.0).train(),), Two(1.0).eval()), Progress(0, 9)
    )
    assert output.diagnostics["kept_foreground_share"] == 1


def test_the_ramp_weighs_the_unlabelled_term() -> None:
    models = Models((Fixed(2.0).train(),), Fixed(1.0).eval())
    output = PseudoLabel(Recorded(), 0.9, Ramp(weight=0.25, shape="constant")).losses(
        batch(IMAGES), models, Progress(0, 9)
    )
    assert output.weights == {"unlabelled": 0.25}
    total = output.terms["labelled"] + 0.25 * output.terms["unlabelled"]
    assert torch.equal(output.total(), total)


def test_before_the_ramp_neither_teacher_nor_unlabelled_images_are_looked_at() -> None:
    loss, student, teacher = Recorded(), Fixed(2.0).train(), Fixed(1.0).eval()
    models = Models((student,), teacher)
    output = PseudoLabel(loss, 0.9, Ramp(start=0.5)).losses(batch(IMAGES), models, Progress(1, 9))
    assert (len(teacher.seen), len(student.seen), len(loss.asked)) == (0, 1, 1)
    assert set(output.terms) == {"labelled"}
    assert output.diagnostics["ramp"] == 0
    supervised = Supervised(Recorded()).losses(batch(IMAGES), models, Progress(1, 9))
    assert torch.equal(supervised.terms["labelled"], output.terms["labelled"])


def test_the_labelled_term_is_of_the_training_view_under_its_mask() -> None:
    loss = Recorded()
    ones = torch.ones(SHAPE)
    part = Labelled(2 * ones, 3 * ones, 4 * ones.long(), ones.bool())
    output = Supervised(loss).losses(Batch(part, None, CLASSES, KEY), Models((Fixed(1.0).train(),)), Progress(7, 9))
    heads, label, mask, step = loss.asked[0]
    assert heads[0][0, 1].unique().tolist() == [2]
    assert label is part.label
    assert mask is part.mask
    assert step == pytest.approx(7000 / 9)  # thousandths of the run: schedules of losses do not depend on its length
    assert set(output.terms) == {"labelled"}
    assert output.diagnostics == {"labelled/part": output.terms["labelled"]}


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is a probability"):
        PseudoLabel(Recorded(), threshold)
