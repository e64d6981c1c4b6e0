"""Values on the plan's grid, slab by slab, interpolated onto the planes of a volume's own grid.

Linear in each axis, as `torch.nn.functional.interpolate(mode="trilinear", align_corners=False)` does it, but a few rows
of one plane at a time: along the axis of the slabs a plane lies between two others, which is all that must be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.inference.sliding_window import Slab

__all__ = ["Rows", "native_rows"]


@dataclass(frozen=True)
class Rows:
    """A few rows of one plane of the volume's own grid (its axes in the plan's order).

    Attributes:
        axis: along which planes follow each other.
        plane: which one.
        first: the first of the rows, along the first of the two other axes.
        length: of a row.
        values: (V, rows x length) float32.
        covered: (rows x length,) bool, None where everything is.
    """

    axis: int
    plane: int
    first: int
    length: int
    values: Tensor
    covered: Tensor | None


def native_rows(
    slabs: Iterable[Slab],
    have: tuple[int, int, int],
    want: tuple[int, int, int],
    elements: int = 2**20,
    values: int = 1,
) -> Iterator[Rows]:
    """The values of `slabs` on a grid of shape `want` over the field of view of theirs.

    Args:
        slabs: in order, together a grid of shape `have`.
        have, want: shapes in one axis order.
        elements: about how many numbers a yielded tensor has.
        values: V, or what it becomes where that is more.
    """
    before: tuple[Tensor, Tensor | None] | None = None  # the last plane of the slab before
    at = 0
    for slab in slabs:
        axis, v = slab.axis, slab.values.shape[0]
        # planes first; the values stay where they lie in memory, first or last
        inner = slab.values.stride(0) == 1 and v > 1
        planes = slab.values.movedim((axis + 1, 0), (0, 3) if inner else (0, 1))
        dim = 0 if inner else 1  # of a plane, along which its rows follow each other
        covered = None if slab.covered is None else slab.covered.movedim(axis, 0)
        others = [i for i in range(3) if i != axis]
        rows, row = (_Lines(have[i], want[i], slab.values.device) for i in others)
        lines = _Lines(have[axis], want[axis], torch.device("cpu"))
        n = max(1, elements // (max(values, v) * want[others[1]]))
        while at < want[axis] and int(lines.high[at]) < slab.stop:
            plane, is_covered = _between(planes, covered, before, int(lines.low[at]) - slab.start, lines.share[at])
            for first in range(0, want[others[0]], n):
                part = row(rows(plane, dim, first, first + n), dim + 1)
                flat = part.reshape(-1, v).T if inner else part.reshape(v, -1)
                there = None if is_covered is None else row.nearest(rows.nearest(is_covered, 0, first, first + n), 1)
                yield Rows(axis, at, first, want[others[1]], flat, None if there is None else there.flatten())
            at += 1
        before = planes[-1].clone(), None if covered is None else covered[-1].clone()


def _between(
    planes: Tensor, covered: Tensor | None, before: tuple[Tensor, Tensor | None] | None, low: int, share: Tensor
) -> tuple[Tensor, Tensor | None]:
    """What lies by `share` between the planes `low` and `low + 1`; plane -1 is the last one of the slab before."""
    if low < 0:
        assert before is not None  # planes come in order
        plane, is_covered = before
    else:
        plane, is_covered = planes[low], None if covered is None else covered[low]
    if share > 0:
        plane = torch.lerp(plane, planes[low + 1], float(share))
        if covered is not None and share >= 0.5:
            is_covered = covered[low + 1]
    return plane, is_covered


class _Lines:
    """Where the voxels of an axis of `want` lie between those of an axis of `have` voxels."""

    def __init__(self, have: int, want: int, device: torch.device) -> None:
        self.same = have == want
        place = ((torch.arange(want, dtype=torch.float64) + 0.5) * (have / want) - 0.5).clamp(0, have - 1)
        self.low = place.floor().long().to(device)
        self.share = (place - place.floor()).float().to(device)
        self.high = torch.where(self.share > 0, self.low + 1, self.low).clamp(max=have - 1)

    def __call__(self, values: Tensor, dim: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Values interpolated along `dim`, the voxels from `start` to `stop` of it."""
        if self.same:
            return values[(slice(None),) * dim + (slice(start, stop),)]
        share = self.share[start:stop]
        share = share.reshape([-1 if i == dim else 1 for i in range(values.ndim)])
        low = values.index_select(dim, self.low[start:stop])
        return torch.lerp(low, values.index_select(dim, self.high[start:stop]), share)

    def nearest(self, values: Tensor, dim: int, start: int = 0, stop: int | None = None) -> Tensor:
        """The nearest values along `dim`."""
        index = torch.where(self.share < 0.5, self.low, self.high)[start:stop]
        return values.index_select(dim, index)
