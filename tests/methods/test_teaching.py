from __future__ import annotations

import torch
from torch import nn

from medseg.augment import Targets, Unlabelled
from medseg.methods.teaching import largest_components, taught


def line(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def test_only_the_largest_component_of_each_class_is_kept() -> None:
    label = line(1, 0, 1, 1, 2, 2, 0, 2, 0)
    keep = largest_components(label, Targets(3))
    assert keep.flatten().tolist() == [False, True, True, True, True, True, True, False, True]


def test_voxels_that_touch_by_a_corner_are_one_component() -> None:
    label = torch.zeros(1, 1, 3, 3, 3, dtype=torch.long)
    label[0, 0, 0, 0, 0] = label[0, 0, 1, 1, 1] = label[0, 0, 2, 2, 2] = 1
    assert largest_components(label, Targets(2)).all()


def test_samples_and_regions_are_filtered_by_themselves() -> None:
    label = torch.cat([line(1, 0, 1, 1), line(1, 1, 0, 1)])
    keep = largest_components(label, Targets(2))
    assert keep[:, 0, :, 0, 0].tolist() == [[False, True, True, True], [True, True, True, False]]
    regions = Targets(3, regions=((1, 2), (2,)))
    found = largest_components(regions.of(line(1, 2, 1, 0, 2)), regions)
    assert found.flatten().tolist() == [True, True, True, True, False]
    assert largest_components(line(0, 0), Targets(2)).all()


class Teacher(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image], 1)


def test_what_is_kept_is_confident_inside_and_in_one_piece() -> None:
    weak = torch.tensor([3.0, -3.0, 3.0, 3.0, 0.1, 3.0]).view(1, 1, -1, 1, 1)
    inside = torch.ones_like(weak, dtype=torch.bool)
    inside[..., -1, :, :] = False
    part = Unlabelled(weak, weak, inside, (0,))
    assert taught(Teacher(), part, Targets(2), 0.9).kept.flatten().tolist() == [True, True, True, True, False, False]
    found = taught(Teacher(), part, Targets(2), 0.9, components=True)
    assert found.kept.flatten().tolist() == [False, True, True, True, False, False]
    assert found.label.flatten().tolist() == [1, 0, 1, 1, 1, 1]
    shares = found.shares(inside)
    assert abs(float(shares["kept_share"]) - 3 / 5) < 1e-6
    assert abs(float(shares["kept_foreground_share"]) - 2 / 3) < 1e-6
