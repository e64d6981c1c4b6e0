"""Randomness as a pure function of (seed, step, sample, purpose).

Nothing depends on what was drawn before: a resumed run draws what an unbroken one would, N processes draw what one
would, and the two views of a sample pair up.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from medseg.errors import InputError

__all__ = ["generator", "permutation", "torch_generator"]


def _sequence(seed: int, step: int, sample: int, purpose: str) -> np.random.SeedSequence:
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or a positive whole number")
    return np.random.SeedSequence([seed, step, sample, zlib.crc32(purpose.encode())])


def generator(seed: int, step: int, sample: int, purpose: str) -> np.random.Generator:
    """A NumPy generator of its own for one purpose, e.g. `"geometry"`, of one sample in one step.

    Raises:
        InputError: the seed, which users give, is negative.
    """
    return np.random.Generator(np.random.Philox(_sequence(seed, step, sample, purpose)))


def torch_generator(
    seed: int, step: int, sample: int, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """The same for tensors drawn on `device` (its values differ between kinds of device)."""
    state = _sequence(seed, step, sample, purpose).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def permutation(seed: int, lap: int, length: int, purpose: str) -> np.ndarray:
    """The order in which `length` things are visited in lap `lap`: (length,) indices from 0."""
    return generator(seed, lap, 0, purpose).permutation(length)
