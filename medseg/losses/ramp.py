"""Weights that change over a run, as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medseg.losses.checks import check_choice

__all__ = ["Ramp", "Shape", "risen"]

Shape = Literal["linear", "cosine", "sigmoid"]


def risen(t: float, shape: Shape) -> float:
    """How far a ramp has risen at the share `t` of its way, both from 0 to 1: linear t; cosine (1 - cos(pi t)) / 2;
    sigmoid exp(-5 (1 - t)^2) (Laine & Aila 2017), which is 0.0067 and not 0 at t = 0."""
    if shape == "linear":
        return t
    return (1 - math.cos(math.pi * t)) / 2 if shape == "cosine" else math.exp(-5 * (1 - t) ** 2)


@dataclass(frozen=True)
class Ramp:
    """A weight that goes from `start` to `end` between the steps `begin` and `begin + steps`, in the `shape` of
    `risen`. `steps` = 0 is a switch at `begin`.
    """

    start: float = 0.0
    end: float = 1.0
    steps: int = 1000
    shape: Shape = "linear"
    begin: int = 0

    def __post_init__(self) -> None:
        check_choice("shape", self.shape, Shape)
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, not {self.steps}")

    def __call__(self, step: float) -> float:
        """The weight at `step`."""
        if step >= self.begin + self.steps:
            return self.end
        if step < self.begin:
            return self.start
        t = (step - self.begin) / self.steps
        return self.start + (self.end - self.start) * risen(t, self.shape)
