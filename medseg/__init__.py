"""3-D medical image segmentation for cohorts of which only some volumes are labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from medseg.api import Precision, Segmenter

__all__ = ["__version__", "load_model"]

__version__ = "0.1.0"


def load_model(
    path: str | os.PathLike[str], device: str = "auto", precision: Precision = "auto", mirror: bool | None = None
) -> Segmenter:
    """A model that predicts, from the folder `model/` of a run or that of an ensemble; see `medseg.api.load_model`."""
    # imported here: `import medseg` and `medseg --help` answer at once
    from medseg import api

    return api.load_model(path, device, precision, mirror)
