"""Several channels in one file: the last of four axes, or the components of a voxel."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.geometry import Geometry
from medseg.data.itk import itk_channels, read_itk_channels
from medseg.data.limits import refuse_large
from medseg.data.nifti import nifti_channels, read_nifti_channels
from medseg.data.volume import SUFFIXES, Volume, is_nifti, read_geometry, read_volume, refuse_undefined
from medseg.errors import InputError

__all__ = ["count_channels", "read_channels", "read_first", "read_stack"]


def count_channels(path: str | os.PathLike[str]) -> int:
    """How many numbers a voxel has, by the header: 1 of a volume and of a DICOM series.

    Raises:
        InputError: as `read_geometry`, but for the number of axes.
    """
    path = Path(path)
    read_geometry(path, stacked=True)
    return 1 if path.is_dir() else nifti_channels(path) if is_nifti(path) else itk_channels(path)


def read_channels(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], Geometry]:
    """The values of a file with several numbers a voxel, (C, X, Y, Z), and their grid; C is 1 where there is one.

    In NIfTI they are the last of four axes, or of five of which the fourth has length 1. Values may be NaN.

    Raises:
        InputError: as `read_geometry`, but for the number of axes; also truncated files and folders.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder, expected one file ({', '.join(SUFFIXES)})")
    geometry = read_geometry(path, stacked=True)
    refuse_large(path, (count_channels(path), *geometry.shape))  # before any memory is asked for
    array, _ = read_nifti_channels(path) if is_nifti(path) else read_itk_channels(path)
    return np.ascontiguousarray(array), geometry


def read_stack(path: str | os.PathLike[str], count: int) -> tuple[Volume, ...]:
    """The `count` channels of a file that holds them all, as the 4-D images of the Medical Segmentation Decathlon do.

    Raises:
        InputError: as `read_channels`; also another number of channels, and NaN or infinite voxels.
    """
    path = Path(path)
    if (found := count_channels(path)) != count:
        raise InputError(
            f"{path}: one file for {count} channels holds {found}; expected {count} along a fourth axis, or list one"
            " 3-D file a channel"
        )
    array, geometry = read_channels(path)
    refuse_undefined(path, array)
    return tuple(Volume(channel, geometry, path) for channel in array)


def read_first(path: str | os.PathLike[str]) -> Volume:
    """The first channel of an image, to be looked at.

    Raises:
        InputError: as `read_volume`.
    """
    count = count_channels(path)
    return read_volume(path) if count == 1 else read_stack(path, count)[0]
