"""A network applied to a whole volume window by window, the windows blended with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["gaussian_profile", "sliding_window", "window_starts"]


@torch.no_grad()
def sliding_window(
    volume: Tensor,
    network: Callable[[Tensor], Tensor],
    patch: Sequence[int],
    overlap: float = 0.5,
    batch: int = 2,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Logits of a whole volume: the weighted mean of the network's logits over overlapping windows.

    Windows lie evenly and cover the volume exactly. Where the volume is smaller than the patch it is padded
    on both sides with its edge voxels and the result is cropped: repeating the edge adds neither a step in
    intensity (as a constant would) nor needs more voxels than there are (as mirroring would).

    Args:
        volume: (C, X, Y, Z).
        network: takes (B, C, *patch), gives (B, K, *patch) of any floating type; it is called without
            gradients.
        patch: the window's size in voxels along X, Y, Z.
        overlap: share of a window that at least overlaps with the next one, in [0, 1).
        batch: windows per call of the network; the last call may have fewer.
        progress: called after each batch with the windows done and the windows in all.
        device: where the windows are put before the network sees them; None is where the volume is.

    Returns:
        Logits (K, X, Y, Z), float32, on the volume's device.

    Raises:
        ValueError: the volume is not 4-dimensional or empty, an argument is out of range, or the network
            gives another shape than it should.
    """
    patch = tuple(int(n) for n in patch)
    _validate(volume, patch, overlap, batch)
    padded, inside = _pad_with_edge(volume.as_subclass(Tensor), patch)  # MONAI's MetaTensor is slow to index
    shape = padded.shape[1:]
    starts = [window_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    profiles = [gaussian_profile(p).to(padded.device) for p in patch]
    weights = _outer(profiles)
    windows = [
        tuple(slice(s, s + p) for s, p in zip(corner, patch, strict=True)) for corner in itertools.product(*starts)
    ]
    total: Tensor | None = None
    for done in range(0, len(windows), batch):
        group = windows[done : done + batch]
        logits = network(torch.stack([padded[(slice(None), *window)] for window in group]).to(device or padded.device))
        _check_output(logits, len(group), patch)
        if total is None:
            total = torch.zeros((logits.shape[1], *shape), dtype=torch.float32, device=padded.device)
        for window, of_window in zip(group, logits.to(padded.device, torch.float32), strict=True):
            total[(slice(None), *window)].addcmul_(of_window, weights)
        if progress is not None:
            progress(done + len(group), len(windows))
    assert total is not None  # there is at least one window
    total /= _outer([_summed(profile, at, n) for profile, at, n in zip(profiles, starts, shape, strict=True)])
    return total[(slice(None), *inside)].contiguous()


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spaced, the first at 0, the last ending at `size`.

    As few as give neighbours the overlap asked for, up to half a voxel of rounding. `size` must be at least
    `patch`.
    """
    step = max(patch * (1 - overlap), 1)
    n = math.ceil((size - patch) / step - 1e-9) + 1
    return [round(i * (size - patch) / max(n - 1, 1)) for i in range(n)]


def gaussian_profile(size: int) -> Tensor:
    """Weights along one axis of a window, (size,), float32: a Gaussian of sigma size / 8 about its centre.

    A window's weights are the product over the axes (Isensee et al. 2021, nnU-Net). No weight along an axis
    is below exp(-8), so that the product and its sums are exact enough in float32. There is no floor: along
    the volume's edges it would make a window's border, where it knows least, count as much as another's
    middle.
    """
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-0.5 * (x / (size / 8)) ** 2).to(torch.float32)


def _summed(profile: Tensor, starts: Sequence[int], size: int) -> Tensor:
    """Sum of the profiles of all windows along one axis, (size,): windows are a grid, weights sum by axis."""
    total = torch.zeros(size, dtype=profile.dtype, device=profile.device)
    for start in starts:
        total[start : start + len(profile)] += profile
    return total


def _outer(profiles: Sequence[Tensor]) -> Tensor:
    x, y, z = profiles
    return x[:, None, None] * y[:, None] * z


def _pad_with_edge(volume: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """The volume grown on both sides to at least the patch, and where in it the volume lies."""
    inside = []
    for axis, wanted in enumerate(patch, start=1):
        size = volume.shape[axis]
        missing = max(wanted - size, 0)
        before = missing // 2
        inside.append(slice(before, before + size))
        if missing:
            index = torch.arange(-before, size + missing - before, device=volume.device).clamp(0, size - 1)
            volume = volume.index_select(axis, index)
    return volume, tuple(inside)


def _validate(volume: Tensor, patch: Sequence[int], overlap: float, batch: int) -> None:
    if volume.ndim != 4 or not volume.numel():
        raise ValueError(f"volume must be (C, X, Y, Z) with voxels in it, found shape {tuple(volume.shape)}")
    if len(patch) != 3 or min(patch) < 1:
        raise ValueError(f"patch must be three sizes >= 1, found {tuple(patch)}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be in [0, 1), found {overlap}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, found {batch}")


def _check_output(logits: Tensor, n_windows: int, patch: Sequence[int]) -> None:
    if logits.ndim != 5 or logits.shape[0] != n_windows or tuple(logits.shape[2:]) != tuple(patch):
        raise ValueError(
            f"the network must give (B, K, X, Y, Z) with B = {n_windows} and X, Y, Z = {tuple(patch)}, "
            f"found {tuple(logits.shape)}"
        )
