"""Contracts 1 and 2: masked = cropped, gather = weigh, and nothing outside a mask has influence."""

from __future__ import annotations

import pytest
import torch
from loss_cases import CASES, Case, Inputs, apart_from, by_kind, draw, value, value_and_gradient
from torch import Tensor
from torch.testing import assert_close

from medseg import losses

NEIGHBOURS = {
    "GradientLoss": "derivatives need neighbours, and count only where all of them are kept",
    "LaplacianPyramidLoss": "the pyramid of a crop is not the crop of the pyramid",
    "PointSampledLoss": "points are drawn over the whole volume and lie between voxels",
    "RegionL1Loss(region=band,width=1)": "the band is found from neighbours",
    "RegionL1Loss(region=band,invert=True)": "the band is found from neighbours",
}
NOT_VOXELWISE = {
    **NEIGHBOURS,
    **dict.fromkeys(
        ["DiceLoss", "TverskyLoss", "JaccardLoss", "FocalTverskyLoss", "GeneralizedDiceLoss"],
        "a ratio of sums over the region, not a mean over voxels: test_dice_is_not_a_mean_over_voxels",
    ),
    **dict.fromkeys(["DiceCELoss", "DiceFocalLoss", "ComboLoss", "CompoundLoss"], "has a Dice term"),
    "DeepSupervisionLoss": "of DiceCELoss here",
    "SampleRoutedLoss": "a composite of losses that are tested alone",
    "LovaszLoss": "voxels are ranked against each other",
    "FeatureCosineLoss(along=voxels)": "the cosine is over the region, not per voxel",
    "CrossEntropyLoss(class_weight=[1.0, 2.0, 3.0])": "divides by the weights of the classes in the region",
    "CrossEntropyLoss(activation=sigmoid,class_weight=[1.0, 2.0, 3.0])": "divides by those weights likewise",
}
KEPT_PER_SAMPLE = 60


def random_mask(inputs: Inputs, seed: int = 1) -> Tensor:
    """A bool mask that keeps KEPT_PER_SAMPLE voxels of each sample."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(inputs.x.shape[0], inputs.x[0, 0].numel(), generator=generator)
    order = noise.argsort(1).argsort(1)
    return (order < KEPT_PER_SAMPLE).view(-1, 1, *inputs.x.shape[2:])


def gather(x: Tensor, mask: Tensor) -> Tensor:
    """(B, C, KEPT_PER_SAMPLE, 1, 1): the kept voxels of each sample in a row."""
    rows = [x[sample, :, mask[sample, 0]] for sample in range(x.shape[0])]
    return torch.stack(rows)[..., None, None]


def scatter(x: Tensor, mask: Tensor) -> Tensor:
    """The reverse of `gather`, with 0 elsewhere."""
    found = x.new_zeros(mask.shape[0], x.shape[1], *mask.shape[2:])
    for sample in range(x.shape[0]):
        found[sample, :, mask[sample, 0]] = x[sample, :, :, 0, 0]
    return found


@pytest.mark.parametrize("shape", [(6, 7, 5), (9, 8)], ids=["3d", "2d"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("case", apart_from(NEIGHBOURS), ids=str)
def test_box_mask_is_crop(case: Case, soft: bool, shape: tuple[int, ...]) -> None:
    inputs = draw(case, shape, soft=soft)
    box = (slice(None), slice(None), slice(1, 5), slice(2, 7))
    mask = torch.zeros_like(inputs.x[:, :1], dtype=torch.bool)
    mask[box] = True
    masked, gradient = value_and_gradient(case.build(), Inputs(inputs.x, inputs.other, mask))
    cropped, expected = value_and_gradient(case.build(), inputs.each(lambda x: x[box]))
    assert_close(masked, cropped)
    assert_close(gradient[box], expected)
    gradient[box] = 0
    assert not gradient.any()


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("case", apart_from(NEIGHBOURS), ids=str)
def test_any_mask_is_the_kept_voxels(case: Case, soft: bool) -> None:
    inputs = draw(case, soft=soft)
    mask = random_mask(inputs)
    masked, gradient = value_and_gradient(case.build(), Inputs(inputs.x, inputs.other, mask))
    kept, expected = value_and_gradient(case.build(), inputs.each(lambda x: gather(x, mask)))
    assert_close(masked, kept)
    assert_close(gradient, scatter(expected, mask))


@pytest.mark.parametrize("case", apart_from(NEIGHBOURS), ids=str)
def test_weight_two_is_the_voxel_twice(case: Case) -> None:
    inputs = draw(case)
    mask = random_mask(inputs)
    weights = mask * torch.where(torch.arange(mask[0].numel()).view(mask.shape[1:]) % 2 == 0, 1.0, 2.0)
    rows = inputs.each(lambda x: gather(x, mask))
    repeats = gather(weights, mask)[:, 0, :, 0, 0].long()
    weighted = [
        value(
            case.build(),
            Inputs(*(None if x is None else x[[sample]] for x in (inputs.x, inputs.other)), weights[[sample]]),
        )
        for sample in range(2)
    ]
    repeated = [
        value(case.build(), rows.each(lambda x, s=sample: x[[s]].repeat_interleave(repeats[s], 2)))
        for sample in range(2)
    ]
    assert_close(torch.stack(weighted), torch.stack(repeated))


@pytest.mark.parametrize(
    ("soft", "kind", "equal"),
    [
        (False, "bool", False),
        (True, "bool", False),
        (False, "weights", False),
        (True, "weights", False),
        (False, "bool", True),
    ],
    ids=["hard-bool", "soft-bool", "hard-weights", "soft-weights", "many-equal"],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outside_the_mask_is_no_influence(case: Case, soft: bool, kind: str, equal: bool) -> None:
    """Also where many predictions are equal, as bf16 makes them."""
    inputs, others = draw(case, (16, 16, 16), soft=soft), draw(case, (16, 16, 16), soft=soft, seed=9)
    if equal and case.activation != "none":
        inputs.x = inputs.x.round()
    mask = torch.ones_like(inputs.x[:, :1], dtype=torch.bool)
    mask[:, :, 10:] = False
    mask[0, :, :, :3] = False
    inputs.mask = mask if kind == "bool" else mask * 1.5
    changed = Inputs(
        *(
            None if a is None else torch.where(mask, a, b)
            for a, b in ((inputs.x, others.x), (inputs.other, others.other))
        ),
        inputs.mask,
    )
    first, gradient = value_and_gradient(case.build(), inputs)
    second, again = value_and_gradient(case.build(), changed)
    assert_close(first, second, rtol=1e-12, atol=0)
    assert_close(gradient, again, rtol=1e-9, atol=1e-15)
    assert not gradient[~mask.expand_as(gradient)].any()


@pytest.mark.parametrize("ignored", [255, -1, 0])
@pytest.mark.parametrize("case", by_kind("segmentation", "composite"), ids=str)
def test_ignored_label_is_a_mask(case: Case, ignored: int) -> None:
    inputs = draw(case, (16, 16, 16))
    mask = torch.ones_like(inputs.x[:, :1], dtype=torch.bool)
    mask[:, :, 9:] = False
    target = inputs.other.clone()
    if ignored == 0:
        target[target == 0] = 1
    expected = value_and_gradient(case.build(), Inputs(inputs.x, target, mask))
    found = value_and_gradient(case.build(ignore_index=ignored), Inputs(inputs.x, torch.where(mask, target, ignored)))
    assert_close(found, expected)


@pytest.mark.parametrize("case", apart_from(NOT_VOXELWISE), ids=str)
def test_gather_is_weigh(case: Case) -> None:
    """The loss of every voxel alone, weighed and divided by the weights' sum, is the masked loss."""
    inputs = draw(case, batch=1)
    alone = inputs.each(lambda x: x.flatten(2).transpose(0, 2).unsqueeze(-1))
    voxels = torch.stack([value(case.build(), alone.each(lambda x, n=n: x[[n]])) for n in range(alone.x.shape[0])])
    mask = random_mask(inputs)
    weights = torch.rand(mask.shape, dtype=torch.float64) * mask
    assert_close(value(case.build(), Inputs(inputs.x, inputs.other, mask)), voxels[mask.flatten()].mean())
    expected = (voxels * weights.flatten()).sum() / weights.sum()
    assert_close(value(case.build(), Inputs(inputs.x, inputs.other, weights)), expected)
    if "denominator" in getattr(case.build(), "arguments", dict)():
        every = value(case.build(denominator="all"), Inputs(inputs.x, inputs.other, weights))
        assert_close(every, (voxels * weights.flatten()).sum() / voxels.numel())


def test_dice_is_not_a_mean_over_voxels() -> None:
    """Dice is a ratio of sums: masking the sums is cropping; dividing by a count of voxels is something else."""
    case = Case("DiceLoss")
    inputs = draw(case, batch=1)
    mask = random_mask(inputs)
    masked = losses.dice_loss(inputs.x, inputs.other, mask)
    assert_close(masked, losses.dice_loss(gather(inputs.x, mask), gather(inputs.other, mask)))
    assert abs(masked - losses.dice_loss(inputs.x, inputs.other) * mask.double().mean()) > 0.1


def test_exemptions_are_of_cases() -> None:
    names = {case.name for case in CASES} | {str(case) for case in CASES}
    for name, reason in {**NEIGHBOURS, **NOT_VOXELWISE}.items():
        assert name in names, f"{name} is exempt but not exported"
        assert len(reason) > 10
