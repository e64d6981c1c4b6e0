from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

from medseg.augment import IntensityRemap, apply_remap


def image(samples: int = 2, channels: int = 2) -> torch.Tensor:
    return torch.randn(samples, channels, 6, 5, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7


def test_the_identity_gives_the_image_back() -> None:
    x = image()
    curves = torch.linspace(0, 1, 5).expand(2, 2, 5)
    torch.testing.assert_close(apply_remap(x, curves), x, rtol=1e-5, atol=1e-5)


def test_curves_are_linear_between_their_points_and_keep_mean_and_spread() -> None:
    x, curves = image(), IntensityRemap(strength=1.0).draw(3, 4, range(2), 2, "x")
    found = apply_remap(x, curves)
    for b in range(2):
        for c in range(2):
            one = x[b, c].double().numpy()
            place = (one - one.min()) / (one.max() - one.min())
            y = interp1d(np.linspace(0, 1, 6), curves[b, c].numpy())(place)
            expected = (y - y.mean()) / y.std() * one.std() + one.mean()
            np.testing.assert_allclose(found[b, c].numpy(), expected, rtol=1e-4, atol=1e-3)


def test_curves_are_a_function_of_seed_step_slot_and_purpose() -> None:
    remap = IntensityRemap()
    curves = remap.draw(1, 2, [0, 5], 1, "x")
    assert torch.equal(curves[1:], remap.draw(1, 2, [5], 1, "x"))
    others = [remap.draw(*key, [5], 1, purpose) for key, purpose in (((2, 2), "x"), ((1, 3), "x"), ((1, 2), "y"))]
    assert not any(torch.equal(curves[1:], other) for other in others)


def test_some_curves_fall_and_strength_0_is_the_identity() -> None:
    strong = IntensityRemap(strength=1.0).draw(0, 0, range(50), 1, "x")
    assert (strong.diff(dim=2) < 0).any(2).float().mean() > 0.5
    still = IntensityRemap(strength=0.0).draw(0, 0, range(3), 1, "x")
    torch.testing.assert_close(still, torch.linspace(0, 1, 6).expand(3, 1, 6))


def test_a_constant_image_stays() -> None:
    x = torch.full((1, 1, 3, 3, 3), 4.0)
    assert torch.equal(apply_remap(x, IntensityRemap().draw(0, 0, [0], 1, "x")), x)


@pytest.mark.parametrize("options", [{"strength": 1.5}, {"points": 1}])
def test_wrong_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="strength is from 0 to 1"):
        IntensityRemap(**options)  # type: ignore[arg-type]
