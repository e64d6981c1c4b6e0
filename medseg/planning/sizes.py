"""How large a network and its batches may be: small ones for a CPU, or as much as a memory holds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

from medseg.errors import InputError

__all__ = ["Limits", "Sizes", "chosen_memory", "parse_memory"]

_UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_USUAL_GPU = 8e9  # what most GPUs have at least: plans made on different ones are then the same


@dataclass(frozen=True)
class Sizes:
    """Limits of a plan. What is None follows from the memory: without one it is small enough for minutes on a CPU.

    Attributes:
        patch_voxels: a patch has at most about this many voxels. 131,072; with a memory, what fits.
        batch_voxels: a batch has about this many voxels, and 2 to 16 patches. 200,000; with a memory, what fits.
        base_filters: channels of the first stage, doubled at each further one up to `max_filters`. 16, or 32.
        max_stages: at most so many resolutions. 4, or 6.
        residual: residual blocks in the encoder.
        heads: deep-supervision heads, fewer where there are few stages. 2, or 3.
    """

    patch_voxels: int | None = None
    batch_voxels: int | None = None
    base_filters: int | None = None
    max_filters: int = 320
    max_stages: int | None = None
    residual: bool = True
    heads: int | None = None

    def filled(self, memory: float | None) -> Limits:
        """All limits, for a budget of `memory` bytes or, where it is None, of minutes on a CPU."""
        small = memory is None

        def either(value: int | None, on_cpu: float, in_memory: float) -> float:
            return value if value is not None else on_cpu if small else in_memory

        return Limits(
            patch_voxels=either(self.patch_voxels, 131_072, math.inf),
            batch_voxels=either(self.batch_voxels, 200_000, math.inf),
            base_filters=int(either(self.base_filters, 16, 32)),
            max_filters=self.max_filters,
            max_stages=int(either(self.max_stages, 4, 6)),
            residual=self.residual,
            heads=int(either(self.heads, 2, 3)),
        )


@dataclass(frozen=True)
class Limits:
    """`Sizes` without gaps."""

    patch_voxels: float
    batch_voxels: float
    base_filters: int
    max_filters: int
    max_stages: int
    residual: bool
    heads: int


def parse_memory(memory: str | float | None) -> float | None:
    """Bytes of "8GB", "500 MB", "8GiB" or a number of bytes.

    Raises:
        InputError: it is none of these, or less than 100 MB.
    """
    if memory is None:
        return None
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", str(memory).strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise InputError(f"--memory {memory}: expected a size such as 8GB or 500MB")
    size = float(found[1]) * unit
    if size < 1e8:
        raise InputError(f"--memory {memory}: no network trains in {size / 1e6:.3g} MB; expected 100MB or more")
    return size


def chosen_memory(memory: str | float | None, device: torch.device | str | None) -> float | None:
    """The memory that a plan is made for: what is asked for; on a GPU 8 GB, or all it has where that is less; None, the
    small sizes, on a CPU, where the time is what limits."""
    given = parse_memory(memory)
    if given is not None or device is None or torch.device(device).type != "cuda":
        return given
    return min(_USUAL_GPU, float(torch.cuda.get_device_properties(torch.device(device)).total_memory))
