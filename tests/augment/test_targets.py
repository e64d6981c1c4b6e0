from __future__ import annotations

import pytest
import torch

from medseg.augment import Targets
from medseg.plan import Region

REGIONS = Targets(4, regions=((1, 2, 3), (2, 3)))


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def test_regions_of_a_plan_are_unions_of_class_indices(small_plan) -> None:  # type: ignore[no-untyped-def]
    plan = small_plan(
        classes={0: "background", 5: "a", 9: "b"},
        regions=(Region(name="both", values=(5, 9), painted=5), Region(name="b", values=(9,), painted=9)),
    )
    targets = Targets.of_plan(plan)
    assert targets.regions == ((1, 2), (2,))
    assert targets.outputs == plan.outputs == 2


def test_labels_of_regions_overlap() -> None:
    found = REGIONS.of(labels(0, 1, 2, 3))
    assert found[0, 0].flatten().tolist() == [0, 1, 1, 1]
    assert found[0, 1].flatten().tolist() == [0, 0, 1, 1]
    assert found.is_floating_point()
    assert REGIONS.foreground(found).flatten().tolist() == [False, True, True, True]


def test_labels_of_classes_stay_as_they_are() -> None:
    one = labels(0, 2, 1)
    assert Targets(3).of(one) is one
    assert Targets(3).foreground(one).flatten().tolist() == [False, True, True]
    soft = torch.tensor([[0.7, 0.2], [0.3, 0.8]]).view(1, 2, 2, 1, 1)
    assert Targets(2, soft=True).of(soft) is soft
    assert Targets(2, soft=True).foreground(soft).flatten().tolist() == [False, True]


def test_a_region_is_annotated_where_all_its_classes_are() -> None:
    looked_for = torch.tensor([[True, True, True, True], [True, False, True, True], [True, True, False, True]])
    assert REGIONS.annotated(looked_for)[:, :, 0, 0, 0].tolist() == [[True, True], [False, True], [False, False]]
    assert Targets(4).annotated(looked_for).shape == (3, 4, 1, 1, 1)


def test_a_prediction_as_a_label() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).view(1, 3, 2, 1, 1)
    hard, soft = Targets(3).pseudo(logits), Targets(3, soft=True).pseudo(logits)
    assert hard.label.flatten().tolist() == [0, 1]
    assert soft.label[0, :, 1].flatten().tolist() == [0, 1, 0]
    expected = logits.softmax(1).amax(1).flatten().tolist()
    assert hard.confidence.flatten().tolist() == soft.confidence.flatten().tolist() == pytest.approx(expected)
    assert hard.foreground.flatten().tolist() == [False, True]


def test_the_confidence_of_regions_is_that_of_the_least_certain() -> None:
    logits = torch.tensor([[4.0, -4.0], [0.5, -3.0]]).view(1, 2, 2, 1, 1)
    found = REGIONS.pseudo(logits)
    assert found.label[0, :, 0].flatten().tolist() == [1, 1]
    assert found.confidence.flatten().tolist() == pytest.approx([0.6225, 0.9526], abs=1e-4)
    assert found.foreground.flatten().tolist() == [True, False]


def test_soft_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        Targets(3, regions=((1,),), soft=True)
