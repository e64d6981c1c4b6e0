from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SaveVolume = Callable[..., Path]


@pytest.fixture
def save() -> SaveVolume:
    """Saves a small volume as NIfTI: `save(path, values)` fills 4x3x2 voxels with the values, over and over."""

    def save(
        path: Path,
        values: Iterable[float] = (0, 1),
        dtype: type = np.float32,
        shape: tuple[int, ...] = (4, 3, 2),
        affine: np.ndarray | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.resize(np.array(list(values), dtype), shape)
        nib.save(nib.Nifti1Image(array, np.diag([1, 1, 3, 1.0]) if affine is None else affine), path)
        return path

    return save
