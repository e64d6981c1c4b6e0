"""Contract 3: right predictions are cheap, absent classes too; empty masks cost nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import CASES, Case, Inputs, apart_from, by_kind, draw, value, value_and_gradient
from torch import Tensor

NOT_CHEAP = {
    "GradientLoss": "its sparsity term costs 0.01 of the mean gradient: tested without in tests/losses",
    "PointSampledLoss": "points between voxels of two classes have soft targets: tested in tests/losses",
    "CrossEntropyLoss(label_smoothing=0.1)": "the smoothed target is not the label",
    "CrossEntropyLoss(activation=sigmoid,label_smoothing=0.1)": "the smoothed target is not the label",
    "DiceCELoss(squared=True,label_smoothing=0.1)": "the smoothed target is not the label",
}
A_SIGMOID_OF_8 = {  # is 1 - 3e-4, which softmax is not; K = 1 and sigmoid
    "EntropyLoss": "the entropy of 3e-4 is 3e-3",
    "EntropyLoss(activation=sigmoid)": "the entropy of 3e-4 is 3e-3",
    "FocalTverskyLoss": "3e-4 to the power 3/4 is 2e-3",
    "LaplacianPyramidLoss": "an error everywhere counts 2^4 / 5 times",
    "TverskyLoss(absent=smooth,smooth=1.0)": "3e-4 of 4096 voxels is more than one voxel, the smoothing term",
    "GeneralizedDiceLoss(absent=smooth)": "3e-4 of 4096 voxels is more than the smoothing term",
}
NO_TARGET = {
    "FeatureCosineLoss": "features have no classes; alike is tested in test_alike_costs_nothing",
    "FeatureCosineLoss(along=voxels)": "features have no classes",
}


def right(case: Case, labels: Tensor, classes: int) -> Inputs:
    """Logits of 8 for the label and -8 for the others (probabilities of 1 and 0 where these are asked for)."""
    index = torch.arange(classes).view(1, -1, 1, 1, 1)
    hit = labels == (1 if classes == 1 else index)
    x = hit.float() if case.activation == "none" else torch.where(hit, 8.0, -8.0)
    return Inputs(x, {"single": None, "pair": x}.get(case.kind, labels))


def halves(classes: int, absent: bool) -> Tensor:
    """(2, 1, 16, 16, 16) labels in slabs; with `absent` the last class is nowhere in the second sample."""
    slab = torch.arange(16) * max(classes, 2) // 16
    labels = slab.view(1, 1, 16, 1, 1).expand(2, 1, 16, 16, 16).clone()
    if absent:
        labels[1][labels[1] == max(classes, 2) - 1] = 0
    return labels


def with_classes(cases: list[Case]) -> list[Any]:
    """Cases with one and with three classes; class weights are for three."""
    pairs = [
        (case, classes)
        for case in cases
        for classes in (1, 3)
        if case.classes == 3 and (classes == 3 or "class_weight" not in case.options)
    ]
    return [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in pairs]


CHEAP = [
    param
    for param in with_classes(apart_from(NOT_CHEAP | NO_TARGET))
    if str(param.values[0]) not in A_SIGMOID_OF_8 or (param.values[1] == 3 and param.values[0].activation != "sigmoid")
]


@pytest.mark.parametrize("absent", [False, True], ids=["present", "absent"])
@pytest.mark.parametrize(("case", "classes"), CHEAP)
def test_right_is_cheap(case: Case, classes: int, absent: bool) -> None:
    inputs = right(case, halves(classes, absent), classes)
    assert -1e-6 < value(case.build(), inputs) < 1e-3


@pytest.mark.parametrize("case", by_kind("pair"), ids=str)
def test_alike_costs_nothing(case: Case) -> None:
    inputs = draw(case)
    assert abs(value(case.build(), Inputs(inputs.x, inputs.x))) < 1e-6


@pytest.mark.parametrize(("case", "classes"), with_classes(by_kind("segmentation", "composite")))
def test_wrong_costs_more_than_unsure_costs_more_than_right(case: Case, classes: int) -> None:
    labels = halves(classes, absent=False)
    inputs = right(case, labels, classes)
    probability = case.activation == "none"
    unsure = inputs.x * 0 + (1 / max(classes, 2) if probability else 0)
    wrong = 1 - inputs.x if probability and classes == 1 else -inputs.x
    wrong = inputs.x.roll(1, 1) if probability and classes > 1 else wrong
    costs = [value(case.build(), Inputs(x, labels)) for x in (inputs.x, unsure, wrong)]
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_empty_mask_costs_nothing(case: Case, soft: bool, dtype: torch.dtype) -> None:
    inputs = draw(case, (16, 16, 16), soft=soft, dtype=dtype)
    inputs.mask = torch.zeros_like(inputs.x[:, :1], dtype=torch.bool)
    found, gradient = value_and_gradient(case.build(), inputs)
    assert found == 0
    assert not gradient.any()
    inputs.mask[0] = True  # one sample empty, the other not
    found, gradient = value_and_gradient(case.build(), inputs)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()
    assert not gradient[1].any()
