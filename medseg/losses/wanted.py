"""What is asked of the pass over a volume, how the volume is read, and the record of what is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from medseg.losses.checks import Activation

__all__ = ["Key", "Reading", "RegionSums", "Wanted"]

Key = tuple[str, float]  # the name of a sum and the exponent of a focal one, else 0


class Wanted(NamedTuple):
    """Which sums a loss needs. `a | b` is what two losses need together.

    linear: overlap and sizes. squared: overlap and sizes of squares. ce: cross entropy. even: cross entropy
    against the uniform distribution, for label smoothing. focal: the exponents gamma > 0 of focal sums.
    """

    linear: bool = False
    squared: bool = False
    ce: bool = False
    even: bool = False
    focal: tuple[float, ...] = ()

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.linear or other.linear,
            self.squared or other.squared,
            self.ce or other.ce,
            self.even or other.even,
            tuple(sorted({*self.focal, *other.focal})),
        )

    @property
    def overlap(self) -> bool:
        """Whether the overlap is needed."""
        return self.linear or self.squared

    def keys(self, binary: bool) -> list[Key]:
        """The sums to find, in order; channels that are binary have `off` parts too."""
        keys: list[Key] = [("overlap", 0.0)] if self.overlap else []
        keys += [("size", 0.0)] if self.linear else []
        keys += [("size2", 0.0)] if self.squared else []
        for part in ("on", "off") if binary else ("on",):
            keys += [(f"ce_{part}", 0.0)] if self.ce else []
            keys += [(f"even_{part}", 0.0)] if self.even else []
            keys += [(f"focal_{part}", gamma) for gamma in self.focal]
        return keys


class Reading(NamedTuple):
    """How a volume is read."""

    activation: Activation
    wanted: Wanted
    ignore_index: int | None
    binary: bool  # the channels are independent of each other

    @property
    def logs(self) -> bool:
        """Whether a sum needs logarithms."""
        return self.wanted.ce or self.wanted.even or bool(self.wanted.focal)


@dataclass(frozen=True)
class RegionSums:
    """Sums over the voxels of each sample; p probability, y target, m mask. (B, K) unless said.

    found[key, gamma], gamma 0 where there is none:
        overlap: sum m y p; size: sum m p; size2: sum m p^2
        ce_on: sum m y (-log p); even_on: sum m (-log p); focal_on: sum m y (1 - p)^gamma (-log p)
        ce_off, even_off, focal_off: the same with 1 - y and 1 - p for y and p, of binary channels only
    """

    binary: bool  # the channels are independent (sigmoid), each with voxels that have the class and that have not
    voxels: int  # of one sample, kept or not
    mass: Tensor  # (B, 1) sum m
    target: Tensor  # sum m y
    target2: Tensor  # sum m y^2, where `squared` was wanted
    found: dict[Key, Tensor]

    def sum(self, name: str, gamma: float = 0.0) -> Tensor:
        """The sum called `name`."""
        return self.found[name, gamma]
