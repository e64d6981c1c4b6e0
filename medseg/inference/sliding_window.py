"""A network applied to a whole volume window by window, the windows blended with Gaussian weights.

Windows are visited in order along one axis, so that planes are finished while the others are still to come: the memory
is that of a slab as thick as a window, whatever the volume's length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.data.limits import refuse_large
from medseg.inference.windows import gaussian_profile, outer, pad_with_edge, summed_profile, window_starts

__all__ = ["Slab", "sliding_window", "stream"]


@dataclass(frozen=True)
class Slab:
    """Finished planes of a volume.

    Attributes:
        axis: of the volume, 0 to 2, along which the slabs follow each other.
        start, stop: the planes along `axis`.
        values: (V, X, Y, Z) float32, the slab's part of the blended output. It is overwritten when the next slab is
            asked for.
        covered: (X, Y, Z) bool, where a window was; None where that is everywhere. `values` is 0 elsewhere.
    """

    axis: int
    start: int
    stop: int
    values: Tensor
    covered: Tensor | None


def sliding_window(
    volume: Tensor,
    network: Callable[[Tensor], Tensor],
    patch: Sequence[int],
    overlap: float = 0.5,
    batch: int = 2,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Logits of a whole volume (K, X, Y, Z), float32, on the volume's device: all slabs of `stream`, which has the
    same arguments, in one tensor."""
    result: Tensor | None = None
    for slab in stream(volume, network, patch, overlap, batch, progress, device):
        if result is None:
            shape = (slab.values.shape[0], *volume.shape[1:])
            result = torch.empty(shape, dtype=torch.float32, device=volume.device)
        result.narrow(slab.axis + 1, slab.start, slab.stop - slab.start).copy_(slab.values)
    assert result is not None  # there is at least one window
    return result


@torch.no_grad()
def stream(
    volume: Tensor,
    network: Callable[[Tensor], Tensor],
    patch: Sequence[int],
    overlap: float = 0.5,
    batch: int = 2,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str | None = None,
    wanted: Tensor | None = None,
) -> Iterator[Slab]:
    """The weighted mean of a network's output over overlapping windows, slab by slab along the axis that has most
    windows.

    Windows lie evenly and cover the volume exactly; where it is smaller than the patch it is padded with its edge
    voxels. Beside the volume there is in memory what one slab of `patch` planes takes, V x patch x the volume's
    cross-section, and one batch.

    Args:
        volume: (C, X, Y, Z).
        network: takes (B, C, *patch), gives (B, V, *patch) of any floating type; it is called without
            gradients.
        patch: the window's size in voxels along X, Y, Z.
        overlap: share of a window that at least overlaps with the next one, in [0, 1).
        batch: windows per call of the network; the last call may have fewer.
        progress: called after each batch with the windows done and the windows in all.
        device: where the network is and slabs are; None is where the volume is.
        wanted: (X, Y, Z) bool; windows without such a voxel are left out, but for the first where that is all of
            them. None wants all.

    Raises:
        ValueError: the volume is not 4-dimensional or empty, an argument is out of range, or the network
            gives another shape than it should.
    """
    patch = tuple(int(n) for n in patch)
    _validate(volume, patch, overlap, batch)
    padded, inside = pad_with_edge(volume.as_subclass(Tensor), patch)  # MONAI's MetaTensor is slow to index
    shape = tuple(padded.shape[1:])
    starts = [window_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    axis = max(range(3), key=lambda i: len(starts[i]))
    corners = sorted(itertools.product(*starts), key=lambda corner: corner[axis])
    if wanted is not None:
        mask = pad_with_edge(wanted.as_subclass(Tensor)[None].to(padded.device), patch)[0][0]
        corners = [corner for corner in corners if bool(mask[_window(corner, patch)].any())] or corners[:1]
    where = torch.device(device) if device is not None else padded.device
    blend = _Blend(shape, patch, starts, axis, inside, where, sparse=wanted is not None)
    for done in range(0, len(corners), batch):
        group = corners[done : done + batch]
        windows = torch.stack([padded[(slice(None), *_window(corner, patch))] for corner in group])
        outputs = network(windows.to(where))
        _check_output(outputs, len(group), patch)
        if progress is not None:
            progress(done + len(group), len(corners))
        blend.prepare(outputs)
        for corner, output in zip(group, outputs, strict=True):
            yield from blend.finished(before=corner[axis])
            blend.add(corner, output)
    yield from blend.finished(before=shape[axis])


class _Blend:
    """The planes that windows still reach: sums of weighted outputs, and of the weights where windows are left out."""

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        starts: Sequence[Sequence[int]],
        axis: int,
        inside: Sequence[slice],
        device: torch.device,
        sparse: bool,
    ) -> None:
        self.shape, self.patch, self.axis, self.inside, self.device = shape, patch, axis, inside, device
        profiles = [gaussian_profile(p).to(device) for p in patch]
        self.weights = outer(profiles)
        self.sums = [summed_profile(profile, at, n) for profile, at, n in zip(profiles, starts, shape, strict=True)]
        self.depth = patch[axis]
        self.edges = [*starts[axis], shape[axis]]  # a plane is finished when a window begins behind it
        self.begin = 0  # the first plane in memory
        self.total: Tensor | None = None
        room = [self.depth if i == axis else n for i, n in enumerate(shape)]
        self.weight = torch.zeros(room, device=device) if sparse else None

    def prepare(self, outputs: Tensor) -> None:
        """Takes memory for outputs like these, in their layout: sums across layouts take several times as long."""
        if self.total is None:
            values = outputs.shape[1]
            room = [self.depth if i == self.axis else n for i, n in enumerate(self.shape)]
            if self.device.type == "cpu":
                refuse_large("the plan's windows", (values, *room), "blending them takes", copies=1)
            last = outputs.stride(1) == 1 and values >= 8  # few values are the shorter loop
            self.total = (
                torch.zeros((*room, values), device=self.device).permute(3, 0, 1, 2)
                if last
                else torch.zeros((values, *room), device=self.device)
            )

    def add(self, corner: Sequence[int], output: Tensor) -> None:
        assert self.total is not None
        at = [slice(c, c + p) for c, p in zip(corner, self.patch, strict=True)]
        at[self.axis] = slice(0, self.depth)
        self.total[(slice(None), *at)].addcmul_(output.to(torch.float32), self.weights)
        if self.weight is not None:
            self.weight[tuple(at)].add_(self.weights)

    def finished(self, before: int) -> Iterator[Slab]:
        """The planes from the first in memory up to `before`, which no further window reaches."""
        for edge in [e for e in self.edges if self.begin < e <= before]:
            yield from self._slab(edge - self.begin)
            self._forget(edge - self.begin)
            self.begin = edge

    def _slab(self, planes: int) -> Iterator[Slab]:
        assert self.total is not None
        values = self.total.narrow(self.axis + 1, 0, planes)
        covered: Tensor | None = None
        if self.weight is None:
            sums = [s[self.begin : self.begin + planes] if i == self.axis else s for i, s in enumerate(self.sums)]
            values /= outer(sums)
        else:
            weight = self.weight.narrow(self.axis, 0, planes)
            covered = weight > 0
            values /= torch.where(covered, weight, 1)
        kept = list(self.inside)
        first = max(kept[self.axis].start, self.begin)
        last = min(kept[self.axis].stop, self.begin + planes)
        if last > first:
            offset = kept[self.axis].start
            kept[self.axis] = slice(first - self.begin, last - self.begin)
            cut = None if covered is None else covered[tuple(kept)]
            yield Slab(self.axis, first - offset, last - offset, values[(slice(None), *kept)], cut)

    def _forget(self, planes: int) -> None:
        assert self.total is not None
        for held, axis in ((self.total, self.axis + 1), (self.weight, self.axis)):
            if held is None:
                continue
            for to in range(0, self.depth - planes, planes):  # piecewise: the two do not overlap
                n = min(planes, self.depth - planes - to)
                held.narrow(axis, to, n).copy_(held.narrow(axis, to + planes, n))
            held.narrow(axis, max(self.depth - planes, 0), min(planes, self.depth)).zero_()


def _window(corner: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))


def _validate(volume: Tensor, patch: Sequence[int], overlap: float, batch: int) -> None:
    if volume.ndim != 4 or not volume.numel():
        raise ValueError(f"volume must be (C, X, Y, Z) with voxels in it, found shape {tuple(volume.shape)}")
    if len(patch) != 3 or min(patch) < 1:
        raise ValueError(f"patch must be three sizes >= 1, found {tuple(patch)}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be in [0, 1), found {overlap}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, found {batch}")


def _check_output(output: Tensor, n_windows: int, patch: Sequence[int]) -> None:
    if output.ndim != 5 or output.shape[0] != n_windows or tuple(output.shape[2:]) != tuple(patch):
        raise ValueError(
            f"the network must give (B, K, X, Y, Z) with B = {n_windows} and X, Y, Z = {tuple(patch)}, "
            f"found {tuple(output.shape)}"
        )
