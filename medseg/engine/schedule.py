"""The learning rate over a run."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.errors import InputError
from medseg.methods import Progress

__all__ = ["PolynomialDecay"]


@dataclass(frozen=True)
class PolynomialDecay:
    """The factor on the learning rate: a linear warm-up, then (1 - t)^power over the run, t its share.

    Attributes:
        power: of the decay.
        warmup: how long the factor rises: steps from 1 on, or below 1 a share of the run.
    """

    power: float = 0.9
    warmup: float = 10

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise InputError(f"warmup is {self.warmup}; expected a number of steps, or a share of the run below 1")

    def __call__(self, progress: Progress) -> float:
        """The factor at `progress`."""
        steps = self.warmup if self.warmup >= 1 else self.warmup * progress.steps
        return min((progress.step + 1) / (steps + 1), 1.0) * (1 - progress.share) ** self.power
