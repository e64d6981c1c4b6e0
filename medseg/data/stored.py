"""An array of a volume in a file, read box by box without loading the volume."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["ArrayFile", "Stored"]

_PLANES = 16  # read from a mapped file before its pages are let go


@dataclass(frozen=True)
class ArrayFile:
    """Where in a `.npy` file an array lies. Holds no handle: thousands of cases need no thousands of open files."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    offset: int

    def mapped(self) -> np.ndarray:
        """The array, memory-mapped and read-only. Unmapped when nothing refers to it any more, so that pages once read
        do not add up in the process.

        Raises:
            OSError: the file is gone or not of its size: what is cleared or torn while a run reads it.
        """
        return self._array(self._map())

    def read(self, box: Sequence[slice], out: np.ndarray) -> None:
        """Copies a box of the last three axes to `out`. Pages are let go on the way, so that those of a large patch do
        not stay in memory beside it.

        Raises:
            OSError: as in `mapped`.
        """
        x, y, z = box
        pages = self._map()
        array = self._array(pages)
        for first in range(x.start, x.stop, _PLANES):
            planes = slice(first, min(first + _PLANES, x.stop))
            out[..., first - x.start : planes.stop - x.start, :, :] = array[..., planes, y, z]
            pages.madvise(mmap.MADV_DONTNEED)

    def _map(self) -> mmap.mmap:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if os.fstat(descriptor).st_size < self.offset + np.dtype(self.dtype).itemsize * int(np.prod(self.shape)):
                raise OSError(f"{self.path} is shorter than it was")
            return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def _array(self, pages: mmap.mmap) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, pages, self.offset)


@dataclass(frozen=True)
class Stored:
    """A part of a volume: what lies outside continues its edge.

    Attributes:
        source: (..., X, Y, Z), in a file, or in memory as tests have it.
        origin: position of its first voxel in the volume.
    """

    source: ArrayFile | np.ndarray
    origin: tuple[int, int, int] = (0, 0, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., X, Y, Z)"""
        return self.source.shape

    def array(self) -> np.ndarray:
        """All of it, read-only where it is a file."""
        return self.source.mapped() if isinstance(self.source, ArrayFile) else self.source

    def box(
        self, start: Sequence[int] | np.ndarray, size: Sequence[int] | np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """A copy (..., *size) of the box whose first voxel is `start` in the volume; in `out` where that is given."""
        source = self.source
        result = np.empty((*source.shape[:-3], *(int(n) for n in size)), source.dtype) if out is None else out
        there, here = [], []
        for axis, length in enumerate(source.shape[-3:]):
            first, extent = int(start[axis]) - self.origin[axis], int(size[axis])
            # at least one voxel, whose value continues: a box may lie wholly outside
            low = min(max(first, 0), length - 1)
            high = max(min(first + extent, length), low + 1)
            begin = min(max(low - first, 0), extent - 1)
            there.append(slice(low, high))
            here.append(slice(begin, begin + high - low))
        inside = result[..., here[0], here[1], here[2]]
        if isinstance(source, ArrayFile):
            source.read(there, inside)
        else:
            inside[...] = source[..., there[0], there[1], there[2]]
        _continue_edges(result, here)
        return result

    def whole(self, shape: Sequence[int]) -> np.ndarray:
        """A copy (..., *shape) of the volume."""
        return self.box((0, 0, 0), shape)


def _continue_edges(array: np.ndarray, filled: Sequence[slice]) -> None:
    """Continues what is in the box `filled` of (..., X, Y, Z) to all of it, in place; `numpy.pad` takes ten times as
    long."""
    x, y, z = filled
    array[..., : x.start, y, z] = array[..., x.start : x.start + 1, y, z]
    array[..., x.stop :, y, z] = array[..., x.stop - 1 : x.stop, y, z]
    array[..., : y.start, z] = array[..., y.start : y.start + 1, z]
    array[..., y.stop :, z] = array[..., y.stop - 1 : y.stop, z]
    array[..., : z.start] = array[..., z.start : z.start + 1]
    array[..., z.stop :] = array[..., z.stop - 1 : z.stop]
