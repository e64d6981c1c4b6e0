from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.augment import Targets
from medseg.errors import InputError
from medseg.losses import (
    CompoundLoss,
    CrossEntropyLoss,
    DiceCELoss,
    DiceLoss,
    PointSampledLoss,
    SampleRoutedLoss,
    class_weights,
)
from medseg.methods import task_loss


class Labels:
    asked = 0

    @property
    def class_voxels(self) -> list[int]:
        self.asked += 1
        return [900, 90, 10]


@pytest.mark.parametrize("scheme", ["inverse_frequency", "effective_number"])
def test_schemes_become_weights_everywhere(scheme: Any) -> None:
    labels = Labels()
    loss = CompoundLoss({"a": DiceCELoss(class_weight=scheme), "b": CrossEntropyLoss(class_weight=[1, 2, 3])})
    logits, target = torch.randn(1, 3, 4, 4, 4), torch.randint(0, 3, (1, 1, 4, 4, 4))
    with pytest.raises(ValueError, match=f"class_weight '{scheme}' needs the voxels of each class"):
        loss(logits, target)
    assert scheme in repr(loss)
    found = task_loss(loss, labels, Targets(3))(logits, target).terms["a.ce"]
    expected = CrossEntropyLoss(class_weight=class_weights([900, 90, 10], scheme))(logits, target)
    torch.testing.assert_close(found, expected)
    assert labels.asked == 1


def test_nothing_is_counted_without_a_scheme() -> None:
    labels = Labels()
    task_loss(DiceCELoss(), labels, Targets(3))
    assert labels.asked == 0


def test_regions_are_read_with_sigmoid_and_weighed_by_their_unions() -> None:
    loss = DiceLoss(class_weight="inverse_frequency")
    task_loss(loss, Labels(), Targets(3, regions=((1, 2), (2,))))
    assert loss.activation == "sigmoid"
    torch.testing.assert_close(loss.class_weight, class_weights([100, 10]))
    with pytest.raises(InputError, match="DiceLoss: activation 'softmax' cannot have targets that overlap"):
        task_loss(DiceLoss(activation="softmax"), Labels(), Targets(3, regions=((1, 2), (2,))))
    with pytest.raises(InputError, match="DiceLoss: include_background=false, but no region is the background"):
        task_loss(DiceLoss(include_background=False), Labels(), Targets(3, regions=((1, 2), (2,))))


def test_weights_are_as_many_as_outputs() -> None:
    loss = CompoundLoss({"a": CrossEntropyLoss(class_weight=[1, 2])})
    task_loss(loss, Labels(), Targets(2))
    with pytest.raises(InputError, match="CrossEntropyLoss: class_weight has 2 values for 3 outputs"):
        task_loss(loss, Labels(), Targets(3))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="class_weight must be one of 'inverse_frequency', 'effective_number'"):
        DiceCELoss(class_weight="inverse")  # type: ignore[arg-type]


def test_points_of_some_samples_only_are_refused_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = CompoundLoss({"routed": SampleRoutedLoss(soft=CompoundLoss({"points": PointSampledLoss()}))})
    task_loss(loss, Labels(), Targets(3))
    monkeypatch.setattr("medseg.ranks.size", lambda: 2)
    task_loss(PointSampledLoss(), Labels(), Targets(3))
    with pytest.raises(InputError, match="train in one process"):
        task_loss(loss, Labels(), Targets(3))


def test_a_loss_without_a_mask_is_refused() -> None:
    with pytest.raises(InputError, match="MSELoss does not take"):
        task_loss(torch.nn.MSELoss(), Labels(), Targets(3))
