"""Class weights from the number of voxels of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medseg.losses.checks import check_choice

__all__ = ["ClassWeight", "WeightScheme", "class_weights"]

WeightScheme = Literal["inverse_frequency", "effective_number"]
ClassWeight = Sequence[float] | Tensor | WeightScheme | None


def class_weights(
    volumes: Sequence[float] | Tensor, scheme: WeightScheme = "inverse_frequency", beta: float | None = None
) -> Tensor:
    """Weights (K,) of the classes, with mean 1 over the classes that occur; 0 for a class without a voxel.

    Args:
        volumes: (K,) voxels of each class in the training labels.
        scheme: "inverse_frequency" is 1 / volume. "effective_number" is (1 - beta) / (1 - beta^volume), milder for
            large classes (Cui et al. 2019, arXiv:1901.05555, eq. 5).
        beta: Of the effective number, from 0 to below 1; None is 1 - 1 / (mean volume).

    Raises:
        ValueError: a volume is negative or none is positive.
    """
    check_choice("scheme", scheme, WeightScheme)
    counts = torch.as_tensor(volumes, dtype=torch.float64).reshape(-1)
    present = counts > 0
    if bool((counts < 0).any()) or not bool(present.any()):
        raise ValueError(f"volumes must be non-negative with a positive one, not {counts.tolist()}")
    if scheme == "inverse_frequency":
        weights = 1 / counts[present]
    else:
        beta = 1 - 1 / max(float(counts[present].mean()), 2.0) if beta is None else beta
        if not 0 <= beta < 1:
            raise ValueError(f"beta must be from 0 to below 1, not {beta}")
        log_beta = math.log(beta) if beta else -math.inf
        weights = 1 / -torch.expm1(counts[present] * log_beta)
    found = torch.zeros_like(counts)
    found[present] = weights / weights.mean()
    return found.float()
