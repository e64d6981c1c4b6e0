"""The flagship's options, each alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eight_voxels import IMAGES, Fixed, Recorded, batch, in_slots
from torch import Tensor

from medseg.augment import BoxMix, IntensityRemap
from medseg.errors import InputError
from medseg.methods import ConsistentCopyPaste, MethodOutput, Models, Progress, Ramp
from medseg.networks.unet import NetworkOutput

HALF = Ramp(weight=0.5, shape="constant")


class Contrary(Fixed):
    """Says the opposite when it is asked again."""

    def forward(self, image: Tensor) -> NetworkOutput | Tensor:
        logits = super().forward(image)
        assert isinstance(logits, Tensor)
        return logits if len(self.seen) == 1 else -logits


def losses(teacher: Fixed, **options: Any) -> MethodOutput:
    options = {"box": BoxMix(), **options}
    method = ConsistentCopyPaste(Recorded(), components=False, ramp=HALF, **options)
    one = in_slots(batch(IMAGES, [True] * 6 + [False] * 2))
    return method.losses(one, Models((Fixed(2.0).train(),), teacher.eval()), Progress(3, 9))


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, {"mixed"}),
        ({"whole": True}, {"mixed", "whole"}),
        ({"box": None}, {"labelled", "whole"}),
        ({"twins": IntensityRemap()}, {"mixed", "mixed_twin"}),
    ],
)
def test_what_is_learned_is_a_mean_over_images(options: dict[str, Any], terms: set[str]) -> None:
    output = losses(Fixed(1.0), **options)
    assert set(output.terms) == set(output.weights) == terms
    assert sum(output.weights.values()) == pytest.approx(1)
    if terms == {"labelled", "whole"}:  # the ramp stands at a half
        assert output.weights["labelled"] == pytest.approx(2 * output.weights["whole"])


@pytest.mark.parametrize("box", [None, BoxMix()])
def test_the_entropy_is_that_of_the_unlabelled_voxels(box: BoxMix | None) -> None:
    p = torch.sigmoid(2 * (torch.tensor(IMAGES[:6]) + 0.5))
    output = losses(Fixed(1.0), box=box, entropy_weight=0.1)
    assert output.terms["entropy"].item() == pytest.approx(torch.special.entr(torch.stack([p, 1 - p])).sum(0).mean())
    assert output.weights["entropy"] == pytest.approx(0.05)


def test_what_the_teacher_says_otherwise_of_mixed_images_is_not_kept() -> None:
    for teacher, share in ((Fixed, 1), (Contrary, pytest.approx(1 / 6))):  # at 0.5 the opposite is the same
        found = losses(teacher(1.0), agreement=True).diagnostics
        assert found["kept_share"] == found["agreement_share"] == share
    assert losses(Contrary(1.0)).diagnostics["kept_share"] == 1


def test_a_stage_that_the_network_has_not_is_named_with_those_it_has() -> None:
    with pytest.raises(InputError, match="method#feature_stage: 'decoder9'; the network has"):
        losses(Fixed(1.0), twins=IntensityRemap(), feature_weight=0.1, feature_stage="decoder9")
