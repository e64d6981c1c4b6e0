"""What the mean teacher compares, and where an unsure one is not followed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from eight_voxels import FULL, IMAGES, Fixed, Recorded, batch, in_slots

from medseg.augment import Batch, Targets
from medseg.losses import ConsistencyLoss
from medseg.methods import MeanTeacher, MethodOutput, Models, Progress, Ramp

REGIONS = Targets(3, regions=((1, 2), (2,)))


def losses(method: MeanTeacher, one: Batch, progress: Progress = Progress(3, 9)) -> tuple[MethodOutput, Fixed]:  # noqa: B008
    teacher = Fixed(1.0).eval()
    return method.losses(one, Models((Fixed(2.0).train(),), teacher), progress), teacher


@pytest.mark.parametrize("measure", ["mse", "kl"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_probabilities_are_compared_inside_the_volume(overlapping: bool, measure: str) -> None:
    one = batch(IMAGES, [True] * 6 + [False] * 2)
    if overlapping:
        one = replace(one, targets=REGIONS)
    weak = torch.tensor(IMAGES).double()
    mine, theirs = (torch.stack([0 * weak, z])[:, :6] for z in (2 * (weak + 0.5), weak))
    if overlapping:  # each channel against its complement
        mine, theirs = (torch.stack([z.sigmoid(), 1 - z.sigmoid()]) for z in (mine, theirs))
    else:
        mine, theirs = mine.softmax(0), theirs.softmax(0)
    distance = (mine - theirs).square().mean(0) if measure == "mse" else (theirs * (theirs / mine).log()).sum(0)
    output, _ = losses(MeanTeacher(Recorded(), ConsistencyLoss(measure=measure), FULL), one)  # type: ignore[arg-type]
    assert output.terms["consistency"].item() == pytest.approx(distance.mean().item(), rel=1e-4)
    assert output.diagnostics["kept_share"] == 1


@pytest.mark.parametrize(("step", "kept"), [(1, 4), (5, 7)])
def test_an_unsure_teacher_is_followed_more_and_more(step: int, kept: int) -> None:
    """Entropies are 0.08, 0.29, 0.5, 1 and back; what is let through rises from 0.3 to 1."""
    method = MeanTeacher(Recorded(), ramp=Ramp(2.0, 0, 1, "linear"), passes=2, noise=0.0, certainty=0.3)
    output, _ = losses(method, in_slots(batch(IMAGES)), Progress(step, 10))
    assert output.diagnostics["kept_share"] == pytest.approx(kept / 8)
    unsure, _ = losses(method, replace(in_slots(batch(IMAGES)), targets=REGIONS), Progress(step, 10))
    assert unsure.diagnostics["kept_share"] == 0  # one region is at 0.5 everywhere


def test_every_pass_has_noise_of_its_own() -> None:
    _, teacher = losses(MeanTeacher(Recorded(), ramp=FULL, passes=8, noise=0.5), in_slots(batch(IMAGES)))
    noise = torch.stack(teacher.seen[1:]) - teacher.seen[0]
    assert len(noise.unique()) == 64
    assert noise.std().item() == pytest.approx(0.5, rel=0.3)
