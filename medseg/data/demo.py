"""The built-in default data: a cohort of phantoms, made where it is absent."""

from __future__ import annotations

import os

from medseg import ranks
from medseg.data.phantoms import write_cohort

__all__ = ["demo_cohort"]


def demo_cohort(folder: str | os.PathLike[str] = "runs/phantoms") -> str:
    """The folder of the default phantom cohort, written first if it is not there."""
    ranks.all_or_none(lambda: write_cohort(folder) if ranks.local_rank() == 0 else None)
    return str(folder)
