"""Rotation, scaling, flips and bending of a batch, image, label and mask as one. Drawn apart from application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.randomness import generator

__all__ = ["GeometryAugment", "apply_geometry", "inverse"]

_POINTS = 5  # control points along each axis of a patch


class _Warped(NamedTuple):
    image: Tensor
    label: Tensor
    mask: Tensor


@dataclass(frozen=True)
class GeometryAugment:
    """How far a patch may be turned.

    Attributes:
        rotation: largest angle about each axis, in degrees.
        scale: smallest and largest zoom factor, the same along all axes.
        flip_axes: spatial axes (0, 1, 2) that are mirrored half of the time; none where left and right matter.
        share: the share of samples that are rotated, scaled and bent; each of the three is drawn by itself.
        bend: standard deviation in mm of the shifts of a grid of control points over the patch (elastic); 0 is off.

    Raises:
        ValueError: one of them is out of its range.
    """

    rotation: float = 20.0
    scale: tuple[float, float] = (0.8, 1.25)
    flip_axes: tuple[int, ...] = ()
    share: float = 0.3
    bend: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.scale[0] <= self.scale[1] and 0 <= self.share <= 1 and self.bend >= 0):
            raise ValueError(f"scale is two factors, the smaller first, share a share and bend in mm, found {self}")
        if not set(self.flip_axes) <= {0, 1, 2}:
            raise ValueError(f"flip_axes are of the axes 0, 1 and 2, found {self.flip_axes}")

    def draw(self, seed: int, step: int, slots: Sequence[int], spacing: Sequence[float], purpose: str) -> Tensor:
        """Matrices (B, 3, 3) from output to input positions, in voxels of `spacing` mm around the patch's centre: one
        for each slot, its place in the step's batch."""
        matrices = [self._matrix(generator(seed, step, i, f"{purpose} geometry"), spacing) for i in slots]
        return torch.from_numpy(np.stack(matrices)).float()

    def draw_bends(
        self, seed: int, step: int, slots: Sequence[int], spacing: Sequence[float], purpose: str
    ) -> Tensor | None:
        """Shifts (B, 3, 5, 5, 5) in voxels of control points spread evenly over the patch; None where off."""
        if self.bend == 0:
            return None
        shifts = []
        for i in slots:
            random = generator(seed, step, i, f"{purpose} bend")
            wanted = random.random() < self.share
            shifts.append(wanted * random.normal(0, self.bend, (3, _POINTS, _POINTS, _POINTS)))
        return torch.from_numpy(np.stack(shifts) / np.asarray(spacing, float)[None, :, None, None, None]).float()

    def _matrix(self, random: np.random.Generator, spacing: Sequence[float]) -> np.ndarray:
        angles = np.deg2rad(random.uniform(-self.rotation, self.rotation, 3)) * (random.random() < self.share)
        logs = np.log(self.scale)
        zoom = np.exp(random.uniform(logs[0], logs[1])) if random.random() < self.share else 1.0
        matrix = np.eye(3) / zoom
        for axis, angle in enumerate(angles):
            a, b = [i for i in range(3) if i != axis]
            turn = np.eye(3)
            turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            matrix = matrix @ turn
        for axis in self.flip_axes:
            if random.random() < 0.5:
                matrix[:, axis] *= -1
        mm = np.diag(np.asarray(spacing, float))
        return np.linalg.inv(mm) @ matrix @ mm  # voxels in, voxels out; the turn itself is in mm


def inverse(matrices: Tensor) -> Tensor:
    """The matrices (B, 3, 3) that undo `matrices`. Bends have no exact inverse."""
    return torch.linalg.inv(matrices.double()).to(matrices.dtype)


def apply_geometry(
    image: Tensor, label: Tensor, mask: Tensor, matrices: Tensor, bends: Tensor | None = None
) -> _Warped:
    """Image (B, C, D, H, W) linearly, label and mask (B, 1, D, H, W) by the nearest voxel, through `matrices` (B, 3, 3)
    in voxels and the shifts `bends`. Soft labels (B, K, D, H, W), floating point with the background first, linearly.
    Where a position falls outside the patch all three continue their edge, and the mask is False there unless
    background continues."""
    turned = (matrices != torch.eye(3)).flatten(1).any(1)
    if bends is not None:
        turned |= bends.flatten(1).any(1)
    rows = turned.nonzero().flatten().tolist()  # the others stay as they are, and cost nothing
    found = _Warped(image.clone(), label.clone(), mask.clone())
    if rows:
        moved = _warped(image[rows], label[rows], mask[rows], matrices[rows], None if bends is None else bends[rows])
        for whole, part in zip(found, moved, strict=True):
            whole[rows] = part
    return found


def _warped(image: Tensor, label: Tensor, mask: Tensor, matrices: Tensor, bends: Tensor | None) -> _Warped:
    shape = torch.tensor(image.shape[2:], dtype=torch.float32)
    # affine_grid works in [-1, 1] with the last axis first
    half = shape / 2
    normalised = (matrices * half[None, None, :] / half[None, :, None]).flip(1).flip(2)
    theta = torch.cat([normalised, torch.zeros(len(image), 3, 1)], dim=2).to(image.device)
    grid = F.affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    if bends is not None:
        grid = grid + _field(bends.to(image.device), image.shape[2:])
    inside = (grid.abs() <= 1).all(-1)[:, None]
    if label.is_floating_point():
        both = _sampled(torch.cat([image, label], dim=1), grid, "bilinear")
        moved, labels = both[:, : image.shape[1]], both[:, image.shape[1] :]
        known = _sampled(mask.to(image.dtype), grid, "nearest") > 0.5
        return _Warped(moved, labels, known & (inside | (labels[:, :1] > 0.5)))
    moved = _sampled(image, grid, "bilinear")
    both = _sampled(torch.cat([label.to(image.dtype), mask.to(image.dtype)], dim=1), grid, "nearest")
    known = (both[:, 1:] > 0.5) & (inside | (both[:, :1] == 0))
    return _Warped(moved, both[:, :1].to(label.dtype), known)


def _sampled(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)


def _field(bends: Tensor, shape: Sequence[int]) -> Tensor:
    """Shifts (B, D, H, W, 3) of sampling positions as `grid_sample` wants them: in half patches, last axis first."""
    dense = F.interpolate(bends, tuple(shape), mode="trilinear", align_corners=True)
    scale = torch.tensor([2 / n for n in shape], device=bends.device).view(1, 3, 1, 1, 1)
    return (dense * scale).flip(1).permute(0, 2, 3, 4, 1)
