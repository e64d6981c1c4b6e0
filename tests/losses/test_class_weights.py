"""Class weights from volumes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from medseg.losses import class_weights


def test_inverse_frequency() -> None:
    weights = class_weights([900, 90, 10])
    assert weights.mean().item() == pytest.approx(1)
    assert_close(weights * torch.tensor([900.0, 90, 10]), weights[0] * 900 * torch.ones(3))


def test_effective_number_is_milder() -> None:
    plain, mild = class_weights([1e6, 1e4, 1e2]), class_weights([1e6, 1e4, 1e2], "effective_number")
    assert mild.mean().item() == pytest.approx(1)
    assert 1 < mild[1] / mild[0] < plain[1] / plain[0]
    expected = [(1 - 0.9) / (1 - 0.9**n) for n in (5, 2)]
    found = class_weights([5, 2], "effective_number", beta=0.9)
    assert (found[1] / found[0]).item() == pytest.approx(expected[1] / expected[0])


def test_a_class_without_voxels_has_no_weight() -> None:
    weights = class_weights(torch.tensor([10, 0, 10]))
    assert_close(weights, torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("volumes", [[0, 0], [5, -1]])
def test_refuses_volumes(volumes: list[int]) -> None:
    with pytest.raises(ValueError, match="volumes"):
        class_weights(volumes)


def test_refuses_schemes_and_beta() -> None:
    with pytest.raises(ValueError, match="'square'"):
        class_weights([1, 2], "square")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta"):
        class_weights([1, 2], "effective_number", beta=1.0)
