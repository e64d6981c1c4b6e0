from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.augment import BoxMix, mix, unmix

SHAPE = (12, 10, 6)


@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_box_is_a_box_of_the_sides_asked_for(step: int, shape: tuple[int, int, int]) -> None:
    for box in BoxMix((0.3, 0.7)).draw(0, step, range(2), shape, "x")[:, 0]:
        sides = [int(box.any(1).any(1).sum()), int(box.any(0).any(1).sum()), int(box.any(0).any(0).sum())]
        assert int(box.sum()) == sides[0] * sides[1] * sides[2]
        for side, n in zip(sides, shape, strict=True):
            assert max(1, round(0.3 * n)) <= side <= max(1, round(0.7 * n))


def test_boxes_are_a_function_of_their_slot_and_reach_every_corner() -> None:
    box = BoxMix((0.7, 0.7))
    boxes = box.draw(0, 0, range(600), SHAPE, "x")
    assert torch.equal(boxes[7:8], box.draw(0, 0, [7], SHAPE, "x"))
    assert boxes.any(0).all()


def test_unmix_undoes_mix() -> None:
    x, y = torch.randn(2, 3, *SHAPE), torch.randn(2, 3, *SHAPE)
    box = BoxMix().draw(0, 0, range(2), SHAPE, "x")
    one, other = mix(x, y, box), mix(y, x, box)
    assert torch.equal(one[box.expand_as(x)], x[box.expand_as(x)])
    assert torch.equal(other[box.expand_as(x)], y[box.expand_as(x)])
    again = unmix(one, other, box)
    assert torch.equal(again[0], x)
    assert torch.equal(again[1], y)


@pytest.mark.parametrize("side", [(0.0, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_wrong_sides(side: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="side is two shares"):
        BoxMix(side)
