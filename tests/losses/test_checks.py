"""What is refused, and how that is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medseg import losses

LOGITS, LABELS = torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4, dtype=torch.long)
LOSSES = [losses.dice_loss, losses.region_l1_loss, losses.point_sampled_loss]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("logits", "target", "mask", "error", "words"),
    [
        (LOGITS.long(), LABELS, None, TypeError, "floating point"),
        (torch.zeros(2, 3), LABELS, None, ValueError, r"\(2, 3\)"),
        (LOGITS, LABELS[:1], None, ValueError, "grid of logits"),
        (LOGITS, LABELS[..., :3], None, ValueError, "grid of logits"),
        (LOGITS, LABELS[:, 0], None, ValueError, "grid of logits"),
        (LOGITS, LABELS.repeat(1, 2, 1, 1, 1), None, ValueError, "2 channels"),
        (LOGITS, LABELS.float(), None, TypeError, "integer dtype"),
        (LOGITS, LABELS, LABELS[:, 0], ValueError, r"mask of shape \(2, 4, 4, 4\)"),
        (LOGITS, LABELS, LOGITS, ValueError, "mask of shape"),
        (LOGITS, LABELS, LABELS.to(torch.complex64), TypeError, "complex64"),
    ],
)
def test_shapes_and_dtypes(
    loss: Callable[..., Tensor], logits: Tensor, target: Tensor, mask: Tensor | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        loss(logits, target, mask)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DiceLoss", {"activation": "tanh"}),
        ("DiceLoss", {"reduction": "average"}),
        ("DiceLoss", {"absent": "keep"}),
        ("CrossEntropyLoss", {"denominator": "voxels"}),
        ("RegionL1Loss", {"region": "rim"}),
        ("FeatureCosineLoss", {"along": "rows"}),
        ("ConsistencyLoss", {"measure": "l7"}),
        ("FocalLoss", {"gamma": -1.0}),
        ("FocalTverskyLoss", {"gamma": 0.0}),
    ],
)
def test_options_are_checked_in_the_constructor(name: str, options: dict[str, Any]) -> None:
    (key, value), *_ = options.items()
    with pytest.raises(ValueError, match=rf"{key} must be .*{value}"):
        getattr(losses, name)(**options)


def test_softmax_of_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="one channel is 1 everywhere"):
        losses.dice_loss(LOGITS[:, :1], LABELS, activation="softmax")


@pytest.mark.parametrize("name", ["dice_loss", "cross_entropy_loss", "generalized_dice_loss", "region_l1_loss"])
def test_class_weights_must_fit(name: str) -> None:
    with pytest.raises(ValueError, match="class_weight has 2 values for 3 classes"):
        getattr(losses, name)(LOGITS, LABELS, class_weight=[1.0, 2.0])


def test_alpha_must_fit() -> None:
    with pytest.raises(ValueError, match="alpha has 2 values for 3 classes"):
        losses.focal_loss(LOGITS, LABELS, alpha=[0.1, 0.2])


def test_features_must_be_alike() -> None:
    with pytest.raises(ValueError, match="must be alike"):
        losses.feature_cosine_loss(LOGITS, LOGITS[:, :2])
    with pytest.raises(ValueError, match="mask of shape"):
        losses.feature_cosine_loss(LOGITS, LOGITS, LABELS[:1] > 0)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dice_loss", (2, 3)),
        ("generalized_dice_loss", (2,)),
        ("cross_entropy_loss", (2,)),
        ("focal_loss", (2,)),
        ("lovasz_loss", (2, 3)),
        ("region_l1_loss", (2, 3)),
        ("gradient_loss", (2, 3)),
        ("point_sampled_loss", (2, 3)),
    ],
)
def test_reductions(name: str, shape: tuple[int, ...], reduction: str) -> None:
    logits, target = torch.randn(2, 3, 8, 8, 8), torch.randint(0, 3, (2, 1, 8, 8, 8))
    function = getattr(losses, name)
    values = function(logits, target, reduction="none")
    assert values.shape == shape
    expected = {"none": values, "sum": values.sum(), "mean": values.mean()}[reduction]
    torch.testing.assert_close(function(logits, target, reduction=reduction), expected)


def test_module_follows_to_a_dtype_and_has_no_state() -> None:
    loss = losses.CrossEntropyLoss(class_weight=torch.tensor([1.0, 2.0, 3.0]))
    assert not loss.state_dict()
    assert loss.double().class_weight.dtype == torch.float64
    assert "class_weight" in repr(loss)
