"""What a file may claim: a volume that this machine could never hold is refused before any memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil

from medseg.errors import InputError

__all__ = ["most_bytes", "refuse_large"]

_COPIES = 2  # read, and prepared: with fewer nothing can be done


def most_bytes() -> int:
    """The machine's memory."""
    return int(psutil.virtual_memory().total)


def refuse_large(name: object, shape: Sequence[int], what: str = "the header claims", copies: int = _COPIES) -> None:
    """Refuses a volume of `shape` whose voxels in float32 would not fit into memory `copies` times.

    Raises:
        InputError: it would not.
    """
    needed = math.prod(int(n) for n in shape) * 4 * copies
    if needed > most_bytes():
        size = " x ".join(str(int(n)) for n in shape)
        raise InputError(
            f"{name}: {what} {size} voxels, {needed / 2**30:,.0f} GiB to work with, more than the "
            f"{most_bytes() / 2**30:,.0f} GiB of this machine; check the file, crop it or use a larger machine"
        )
