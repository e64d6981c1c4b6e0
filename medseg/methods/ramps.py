"""Ramps: weights that grow over a share of the run; pure functions of progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medseg.losses.ramp import risen
from medseg.methods.base import Progress

__all__ = ["Ramp", "RampShape"]

RampShape = Literal["sigmoid", "linear", "cosine", "constant"]


@dataclass(frozen=True)
class Ramp:
    """0 until `start`, then rising to `weight` over `length`, both shares of the run; and 0 for `not_before` steps.

    `not_before` is for short runs: what a teacher says that has seen few steps itself does harm. In a run no longer
    than that the weight stays 0.

    Shapes are those of `medseg.losses.ramp.risen`, and constant, which is `weight` from `start` on.
    """

    weight: float = 1.0
    start: float = 0.0
    length: float = 0.4
    shape: RampShape = "sigmoid"
    not_before: int = 0

    def __post_init__(self) -> None:
        if self.shape not in get_args(RampShape):
            raise ValueError(f"shape is one of {', '.join(get_args(RampShape))}, found {self.shape!r}")
        if not (0 <= self.start <= 1 and 0 <= self.length <= 1 and self.weight >= 0):
            raise ValueError(f"start and length are shares of the run and weight is not negative, found {self}")
        if self.not_before < 0:
            raise ValueError(f"not_before is a number of steps, found {self.not_before}")

    def __call__(self, progress: Progress) -> float:
        """The weight at `progress`."""
        start = max(self.start, self.not_before / max(progress.steps, 1))
        if progress.share < start:
            return 0.0
        t = min((progress.share - start) / self.length, 1.0) if self.length > 0 else 1.0
        return self.weight if self.shape == "constant" else self.weight * risen(t, self.shape)
