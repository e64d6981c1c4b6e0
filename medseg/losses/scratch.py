"""Buffers that are made once and used for every block."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """Buffers by name, of one dtype and device. Memory made anew for every block costs more than the arithmetic."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self._made: dict[tuple[str, torch.Size], Tensor] = {}

    def __call__(self, name: str, shape: torch.Size) -> Tensor:
        """The buffer `name` of this shape, with what was last written to it."""
        if (name, shape) not in self._made:
            self._made[name, shape] = torch.empty(shape, dtype=self.dtype, device=self.device)
        return self._made[name, shape]

    def classes(self, count: int) -> Tensor:
        """(1, `count`, 1): 0, 1, ... `count` - 1."""
        key = ("classes", torch.Size((1, count, 1)))
        if key not in self._made:
            self._made[key] = torch.arange(count, dtype=self.dtype, device=self.device).view(key[1])
        return self._made[key]
