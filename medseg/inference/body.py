"""Where a volume shows the body, so that windows of nothing but air can be left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.plan import Plan

__all__ = ["body_mask"]

_BINS = 256


def body_mask(volume: Tensor, plan: Plan) -> Tensor:
    """(X, Y, Z) bool of a prepared volume (C, X, Y, Z): where, smoothed over 5 voxels, any channel is above Otsu's
    threshold (1979) or within a tenth of its range below. A constant channel shows nothing.

    Smoothing keeps single bright voxels of noise out and widens the body's edge by two voxels. A channel whose scale is
    fixed begins at the lower limit that it is clipped to: what lies there is air or was no part of any training label.
    """
    found = torch.zeros(volume.shape[1:], dtype=torch.bool, device=volume.device)
    for channel, image in zip(plan.channels, volume, strict=True):
        smooth = F.avg_pool3d(image[None], 5, stride=1, padding=2, count_include_pad=False)[0]
        low, high = float(smooth.min()), float(smooth.max())
        if high <= low:
            continue
        if channel.normalisation == "clip_zscore":
            found |= smooth > low + 1e-3 * (high - low)
        else:
            found |= smooth > _otsu(smooth, low, high) - 0.1 * (high - low)
    return found


def _otsu(image: Tensor, low: float, high: float) -> float:
    """The threshold that leaves the least variance within the two classes it makes."""
    counts = torch.histc(image, _BINS, low, high).double()
    centres = torch.linspace(low, high, 2 * _BINS + 1, dtype=torch.float64, device=image.device)[1::2]
    below, above = counts.cumsum(0), counts.sum() - counts.cumsum(0)
    sums = (counts * centres).cumsum(0)
    between = below * above * (sums / below.clamp(min=1) - (sums[-1] - sums) / above.clamp(min=1)) ** 2
    return float(centres[int(between.argmax())])
