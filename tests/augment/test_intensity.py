from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medseg.augment import IntensityAugment, IntensityParameters, apply_intensity

FIELDS = ("gamma", "contrast", "brightness", "blur", "noise", "zoom", "bias")
IDENTITY = {"gamma": 1.0, "contrast": 1.0, "brightness": 0.0, "blur": 0.0, "noise": 0.0, "zoom": 1.0, "bias": 0.0}


def parameters(samples: int = 1, channels: int = 1, **values: float) -> IntensityParameters:
    tensors = {name: torch.full((samples, channels), value) for name, value in (IDENTITY | values).items()}
    return IntensityParameters(**tensors, keys=tuple((0, 0, i, "noise") for i in range(samples)))


def volume(samples: int = 1, channels: int = 1, shape: tuple[int, int, int] = (8, 9, 7)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, channels, *shape, generator=generator)


@given(st.integers(0, 2**31), st.integers(0, 10**5), st.integers(1, 3), st.integers(1, 3))
def test_parameters_are_a_function_of_seed_step_and_sample(seed: int, step: int, samples: int, channels: int) -> None:
    augment = IntensityAugment()
    one, more = (augment.draw(seed, step, range(n), channels, "x") for n in (samples, samples + 2))
    for name in FIELDS:
        values = getattr(one, name)
        assert values.shape == (samples, channels)
        assert torch.equal(values, getattr(more, name)[:samples])
    assert one.keys == more.keys[:samples]
    for name, (low, high) in {
        "gamma": augment.gamma,
        "contrast": augment.contrast,
        "brightness": (-augment.brightness, augment.brightness),
        "blur": (0, augment.blur),
        "noise": (0, augment.noise),
    }.items():
        values = getattr(more, name)
        assert (((values >= low - 1e-6) & (values <= high + 1e-6)) | (values == IDENTITY[name])).all()


def test_samples_steps_seeds_purposes_and_channels_differ() -> None:
    augment = IntensityAugment(share=1.0)
    keys = [(0, 0, "x"), (1, 0, "x"), (0, 1, "x"), (0, 0, "y")]
    gammas = torch.cat([augment.draw(seed, step, range(2), 2, purpose).gamma for seed, step, purpose in keys])
    assert len(gammas.unique()) == gammas.numel()
    noises = {key for seed, step, purpose in keys for key in augment.draw(seed, step, range(2), 2, purpose).keys}
    assert len(noises) == 2 * len(keys)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_each_of_them_is_applied_to_its_share(share: float) -> None:
    drawn = IntensityAugment(share=share, zoom=2.0, bias=0.5).draw(0, 0, range(500), 1, "x")
    applied = torch.stack([getattr(drawn, name) != IDENTITY[name] for name in FIELDS]).float()[:, :, 0]
    assert applied.mean(1).numpy() == pytest.approx(np.full(7, share), abs=0.08)
    if share == 0.3:  # one by one, not together
        assert np.corrcoef(applied)[np.triu_indices(7, 1)] == pytest.approx(np.zeros(21), abs=0.15)


def test_the_identity_gives_the_input_back_to_the_bit() -> None:
    image = volume(2, 2)
    result = apply_intensity(image, parameters(2, 2))
    assert torch.equal(result, image)
    assert result.data_ptr() != image.data_ptr()


def test_the_input_is_not_changed() -> None:
    image = volume(2, 2)
    before = image.clone()
    apply_intensity(image, parameters(2, 2, gamma=0.5, contrast=2, brightness=1, blur=1, noise=1))
    assert torch.equal(image, before)


def test_gamma_keeps_the_range() -> None:
    image = volume()
    for gamma in (0.5, 1.5):
        result = apply_intensity(image, parameters(gamma=gamma))
        low, high = image.min(), image.max()
        assert result.min() == pytest.approx(float(low), abs=1e-5)
        assert result.max() == pytest.approx(float(high), abs=1e-5)
        assert torch.allclose(result, ((image - low) / (high - low)) ** gamma * (high - low) + low, atol=1e-5)
        order = image.ravel().argsort()
        assert (result.ravel()[order].diff() >= -1e-5).all()


def test_contrast_and_brightness() -> None:
    image = volume()
    result = apply_intensity(image, parameters(contrast=1.5, brightness=-0.25))
    assert torch.allclose(result, (image - image.mean()) * 1.5 + image.mean() - 0.25, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7, 1.5])
def test_blur_is_a_gaussian_of_voxels(sigma: float) -> None:
    image = volume(shape=(20, 21, 22))
    result = apply_intensity(image, parameters(blur=sigma))[0, 0].numpy()
    # the kernel ends at two standard deviations
    expected = gaussian_filter(image[0, 0].numpy(), sigma, mode="nearest", radius=max(1, math.ceil(2 * sigma)))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_blur_keeps_a_constant_and_continues_edges() -> None:
    image = torch.full((1, 1, 3, 1, 5), 7.0)  # axes shorter than the kernel
    assert torch.allclose(apply_intensity(image, parameters(blur=2.0)), image, atol=1e-5)


def test_a_lower_resolution_is_that_of_the_same_places() -> None:
    image = torch.linspace(0, 20, 21).view(1, 1, 21, 1, 1).expand(1, 1, 21, 9, 9)
    result = apply_intensity(image, parameters(zoom=3.0))
    assert torch.allclose(result[:, :, 1:-1], image[:, :, 1:-1], atol=1e-5)  # the outermost voxels are continued
    steps = volume(shape=(21, 9, 9))
    assert apply_intensity(steps, parameters(zoom=3.0)).diff(dim=2).abs().mean() < 0.5 * steps.diff(dim=2).abs().mean()


def test_a_bias_field_is_smooth_and_multiplies_what_lies_above_the_minimum() -> None:
    image = torch.ones(1, 1, 24, 24, 24)
    image[..., ::2] = 0
    result = apply_intensity(image, parameters(bias=0.3))
    assert not result[..., ::2].any()
    field = result[..., 1::2].log()
    assert 0.05 < field.std() < 0.3
    assert field.diff(dim=2).abs().max() < 0.3
    assert torch.allclose(apply_intensity(image, parameters(bias=0.6))[..., 1::2].log(), 2 * field, atol=1e-5)
    assert torch.allclose(apply_intensity(image + 5, parameters(bias=0.3)), result + 5, atol=1e-4)


def test_noise_has_its_standard_deviation_and_its_own_key() -> None:
    image = volume(2, 2, (20, 20, 20))
    drawn = parameters(2, 2, noise=0.5)
    result = apply_intensity(image, drawn)
    noise = result - image
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(result, apply_intensity(image, drawn))
    different = [noise[0, 0], noise[0, 1], noise[1, 0], noise[1, 1]]
    assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1 for a in different for b in different if a is not b)
    elsewhere = apply_intensity(image, replace(drawn, keys=((9, 0, 0, "noise"), drawn.keys[1])))
    assert not torch.equal(elsewhere[0], result[0])
    assert torch.equal(elsewhere[1], result[1])


def test_each_sample_and_channel_has_its_own_parameters() -> None:
    image = volume(3, 2)
    drawn = IntensityAugment(share=0.8).draw(3, 0, range(3), 2, "x")
    together = apply_intensity(image, drawn)
    for i in range(3):
        alone = IntensityParameters(
            **{name: getattr(drawn, name)[i : i + 1] for name in FIELDS}, keys=drawn.keys[i : i + 1]
        )
        assert torch.equal(apply_intensity(image[i : i + 1], alone)[0], together[i])
    first = apply_intensity(
        image[:, :1],
        IntensityParameters(**{name: getattr(drawn, name)[:, :1] for name in FIELDS}, keys=drawn.keys),
    )
    assert torch.equal(first[:, 0], together[:, 0])


@pytest.mark.parametrize(
    "options", [{"gamma": (0, 1)}, {"gamma": (2, 1)}, {"contrast": (1, 0)}, {"blur": -1}, {"zoom": 0.5}, {"share": 2}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"found IntensityAugment\("):
        IntensityAugment(**options)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0, -3.5, 1e4]))
def test_a_constant_image_stays_finite(step: int, value: float) -> None:
    image = torch.full((1, 1, 4, 4, 4), value)
    wild = IntensityAugment(gamma=(0.1, 5), contrast=(0, 3), brightness=2, blur=3, noise=1, share=0.8)
    result = apply_intensity(image, wild.draw(0, step, range(1), 1, "x"))
    assert result.isfinite().all()
    assert result.shape == image.shape
    assert (result - value).abs().max() < 10


def test_global_random_state_is_neither_used_nor_changed() -> None:
    image, drawn = volume(), parameters(noise=1.0)
    torch.manual_seed(1)
    one = apply_intensity(image, drawn)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(one, apply_intensity(image, drawn))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
