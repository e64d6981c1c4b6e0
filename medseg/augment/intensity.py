"""Grey values varied per sample and channel: resolution, blur, gamma, contrast, brightness, bias field, noise. Drawn
apart from application."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.randomness import generator, torch_generator

__all__ = ["IntensityAugment", "IntensityParameters", "apply_intensity"]


@dataclass(frozen=True)
class IntensityParameters:
    """Of one batch, each (B, C): the identity is gamma 1, contrast 1, brightness 0, blur 0, noise 0, zoom 1, bias 0.

    `noise` is the standard deviation, and `bias` the size of the field's logarithm; noise and field themselves are
    drawn by `keys`, one (seed, step, sample, purpose) a sample.
    """

    gamma: Tensor
    contrast: Tensor
    brightness: Tensor
    blur: Tensor
    noise: Tensor
    zoom: Tensor
    bias: Tensor
    keys: tuple[tuple[int, int, int, str], ...]


@dataclass(frozen=True)
class IntensityAugment:
    """How far grey values may go; images are normalised, so 1 is about one standard deviation.

    Attributes:
        gamma: smallest and largest exponent over the sample's own range.
        contrast: smallest and largest factor around the sample's mean.
        brightness: largest shift.
        blur: largest standard deviation of a Gaussian, in voxels.
        noise: largest standard deviation of Gaussian noise.
        zoom: largest factor by which the resolution is lowered; 1 is off.
        bias: largest standard deviation of the logarithm of a smooth field that multiplies what lies above the
            sample's minimum, as the coils of an MRI scanner do; 0 is off.
        share: the share of samples that each of the seven is applied to, drawn one by one.

    Raises:
        ValueError: one of them is out of its range.
    """

    gamma: tuple[float, float] = (0.7, 1.5)
    contrast: tuple[float, float] = (0.75, 1.25)
    brightness: float = 0.2
    blur: float = 1.0
    noise: float = 0.15
    zoom: float = 1.0
    bias: float = 0.0
    share: float = 0.15

    def __post_init__(self) -> None:
        if not (0 < self.gamma[0] <= self.gamma[1] and 0 <= self.contrast[0] <= self.contrast[1]):
            raise ValueError(f"gamma and contrast are two factors, the smaller first, found {self}")
        sizes = min(self.brightness, self.blur, self.noise, self.bias)
        if not (sizes >= 0 and self.zoom >= 1 and 0 <= self.share <= 1):
            raise ValueError(f"zoom is from 1, share a share, and nothing is negative, found {self}")

    def draw(self, seed: int, step: int, slots: Sequence[int], channels: int, purpose: str) -> IntensityParameters:
        """Parameters for the samples of these slots (places in the step's batch), a pure function of (seed, step, slot,
        purpose)."""
        rows = [self._row(generator(seed, step, i, f"{purpose} intensity"), channels) for i in slots]
        gamma, contrast, brightness, blur, noise, zoom, bias = torch.from_numpy(np.stack(rows, axis=1)).float()
        keys = tuple((seed, step, i, purpose) for i in slots)
        return IntensityParameters(gamma, contrast, brightness, blur, noise, zoom, bias, keys)

    def _row(self, random: np.random.Generator, channels: int) -> np.ndarray:
        """(7, C)"""
        wanted = random.random((7, channels)) < self.share
        values = np.stack(
            [
                np.exp(random.uniform(math.log(self.gamma[0]), math.log(self.gamma[1]), channels)),
                random.uniform(*self.contrast, channels),
                random.uniform(-self.brightness, self.brightness, channels),
                random.uniform(0, self.blur, channels),
                random.uniform(0, self.noise, channels),
                random.uniform(1, self.zoom, channels),
                random.uniform(0, self.bias, channels),
            ]
        )
        return np.where(wanted, values, np.array([1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])[:, None])


def apply_intensity(image: Tensor, parameters: IntensityParameters) -> Tensor:
    """A new image (B, C, D, H, W) with the parameters applied; the input is not changed."""
    p = parameters
    result = image.clone(memory_format=torch.contiguous_format)
    for b in range(image.shape[0]):
        for c in range(image.shape[1]):  # one at a time: most samples need few of the seven
            x = result[b, c]
            if p.zoom[b, c] > 1:
                x = _coarsened(x, float(p.zoom[b, c]))
            if p.blur[b, c] > 0:
                x = _blurred(x, float(p.blur[b, c]))
            if p.gamma[b, c] != 1:
                low, high = x.aminmax()
                span = (high - low).clamp_min(1e-6)
                x = ((x - low) / span).pow(float(p.gamma[b, c])) * span + low
            if p.contrast[b, c] != 1:
                mean = x.mean()
                x = (x - mean) * float(p.contrast[b, c]) + mean
            x = x + float(p.brightness[b, c])
            seed, step, sample, purpose = p.keys[b]
            if p.bias[b, c] > 0:
                random = torch_generator(seed, step, sample, f"{purpose} bias {c}", image.device)
                x = _biased(x, float(p.bias[b, c]), random)
            if p.noise[b, c] > 0:
                random = torch_generator(seed, step, sample, f"{purpose} noise {c}", image.device)
                noise = torch.randn(x.shape, generator=random, device=image.device, dtype=torch.float32)
                x = x + float(p.noise[b, c]) * noise
            result[b, c] = x
    return result


def _coarsened(x: Tensor, zoom: float) -> Tensor:
    """(D, H, W) at a resolution lower by `zoom`, on the same voxels: nearest down, linear up."""
    low = [max(1, round(n / zoom)) for n in x.shape]
    coarse = F.interpolate(x[None, None].float(), low, mode="nearest-exact")  # "nearest" would shift x off its label
    return F.interpolate(coarse, tuple(x.shape), mode="trilinear", align_corners=False)[0, 0]


def _biased(x: Tensor, size: float, random: torch.Generator) -> Tensor:
    """(D, H, W) with what lies above its minimum multiplied by the exponential of a smooth field."""
    coarse = torch.randn((1, 1, 4, 4, 4), generator=random, device=x.device)
    field = F.interpolate(coarse, tuple(x.shape), mode="trilinear", align_corners=True)[0, 0]
    low = x.min()
    return (x - low) * (size * field).exp() + low


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """(D, H, W) convolved with a Gaussian of `sigma` voxels, separably; edges are continued."""
    radius = max(1, int(np.ceil(2 * sigma)))
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    kernel = torch.softmax(-0.5 * (offsets / sigma) ** 2, 0) if sigma > 0.1 else (offsets == 0).float()
    x = x[None, None].float()
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
        shape[2 + axis] = len(kernel)
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
        x = F.conv3d(F.pad(x, padding, mode="replicate"), kernel.view(shape))
    return x[0, 0]
