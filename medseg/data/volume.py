"""Volumes in files: NIfTI, NRRD, MHA, MHD and folders of a DICOM series read into one array order and one world.

Arrays are `(X, Y, Z)` in nibabel's axis order: array axis i is column i of the 4x4 RAS+ affine, in mm. The
same volume saved in two formats is the same array and the same affine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg.data.detached import data_files
from medseg.data.dicom import dicom_files, read_dicom, read_dicom_geometry
from medseg.data.geometry import MOST_SHEAR, Geometry
from medseg.data.itk import read_itk, read_itk_geometry, write_itk
from medseg.data.limits import refuse_large
from medseg.data.nifti import read_nifti, read_nifti_geometry, write_nifti, write_nifti_like
from medseg.errors import InputError

__all__ = [
    "SUFFIXES",
    "Volume",
    "is_nifti",
    "is_volume",
    "read_geometry",
    "read_labels",
    "read_volume",
    "refuse_missing",
    "refuse_undefined",
    "strip_suffix",
    "suffix_of",
    "volume_files",
    "write_segmentation",
]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels `(X, Y, Z)`, their grid and the file that they are from."""

    array: NDArray[Any]
    geometry: Geometry
    path: Path


def strip_suffix(name: str) -> str:
    """The name without its volume suffix: `case.nii.gz` -> `case`. Other names stay as they are."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def suffix_of(name: str) -> str:
    """The volume suffix of a name as it is written there, "" where it has none."""
    return name[len(strip_suffix(name)) :]


def is_volume(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of a volume: a known suffix, and not hidden (macOS leaves `._NAME`s)."""
    name = Path(path).name
    return not name.startswith(".") and strip_suffix(name) != name


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_geometry(path: str | os.PathLike[str], stacked: bool = False) -> Geometry:
    """The grid of a volume; reads the header only. Of channels `stacked` in one file (see `stacked.py`) that of each.

    Raises:
        InputError: no such file, not readable, not 3-D (trailing axes of length 1 are dropped), complex or
            colour voxels, more than memory holds, a singular or sheared affine, a DICOM series that is not whole
            (see `read_dicom_geometry`).
    """
    path = _existing(path)
    if path.is_dir():
        return _sound(path, read_dicom_geometry(path))
    return _sound(path, read_nifti_geometry(path, stacked) if is_nifti(path) else read_itk_geometry(path, stacked))


def volume_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files whose bytes are the volume: itself, with its data files where it is only a header (NRRD, MHA, MHD), or
    those of a DICOM series.

    Raises:
        InputError: a folder that is no DICOM series, or data files that are numbered in an unknown way.
    """
    path = Path(path)
    if path.is_dir():
        return dicom_files(path)
    return (path, *data_files(path)) if path.suffix.lower() in (".nrrd", ".mha", ".mhd") else (path,)


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """The voxels of an image as float32.

    Raises:
        InputError: as `read_geometry`; also truncated files and NaN or infinite voxels (counted).
    """
    volume = _read(path, np.float32)
    refuse_undefined(volume.path, volume.array)
    return volume


def refuse_missing(path: Path, advice: str) -> None:
    """Refuses a path at which nothing is, or that may not be looked at; the message ends in `advice`.

    Raises:
        InputError: it is so.
    """
    try:
        there, what = path.exists(), "no such file"
    except OSError as error:  # a folder on the way that may not be entered, a name that no file can have
        there, what = False, f"not readable ({error.strerror})"
    if not there:
        raise InputError(f"{path}: {what}{advice}")


def refuse_undefined(path: Path, array: NDArray[Any]) -> None:
    """Refuses an image with voxels that are no numbers.

    Raises:
        InputError: there are some.
    """
    if bad := array.size - int(np.isfinite(array).sum()):
        raise InputError(
            f"{path}: {bad} of {array.size} voxels are NaN or infinite; replace"
            " them, for instance by the background's value"
        )


def read_labels(path: str | os.PathLike[str]) -> Volume:
    """The voxels of a label map as uint8 where they fit, else int16, whatever the file stores.

    Raises:
        InputError: as `read_volume`; also values that are not whole numbers or do not fit int16.
    """
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder, expected one label file ({', '.join(SUFFIXES)})")
    volume = _read(path, None)
    array = volume.array
    if array.dtype.kind == "f":
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            raise InputError(f"{volume.path}: {bad} of {array.size} label voxels are NaN or infinite; export it again")
        broken = array != np.rint(array)
        if broken.any():
            raise InputError(
                f"{volume.path}: label value {array[broken][0]:.9g} is not a whole number"
                f" ({int(broken.sum())} voxels are not); resample labels with nearest neighbours"
            )
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < -(2**15) or high >= 2**15:
        value = low if low < -(2**15) else high
        raise InputError(f"{volume.path}: label value {value:g} is not between -32768 and 32767; renumber the labels")
    dtype = np.uint8 if low >= 0 and high < 2**8 else np.int16
    return Volume(array.astype(dtype), volume.geometry, volume.path)


def write_segmentation(path: str | os.PathLike[str], labels: NDArray[Any], like: str | os.PathLike[str]) -> None:
    """Writes a label map on exactly the grid of `like`, in the format of the suffix of `path`.

    From NIfTI to NIfTI the affine, the qform and sform with their codes and the units stay the input's, bit
    for bit; between other formats the affine is equal to the precision of the format.

    Args:
        path: the file to write; its folder exists.
        labels: `(X, Y, Z)`, uint8 or uint16, of the shape of `like`.
        like: the image that was segmented.

    Raises:
        InputError: an unknown suffix, `like` not readable, or the file cannot be written.
        ValueError: labels of another shape or type.
    """
    path, like = Path(path), Path(like)
    geometry = read_geometry(like, stacked=True)
    if labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"labels are {labels.dtype}, expected uint8 or uint16")
    if labels.shape != geometry.shape:
        raise ValueError(f"labels have shape {labels.shape}, the image {like} has {geometry.shape}")
    if not is_volume(path):
        raise InputError(f"{path}: unknown file type, expected one of {', '.join(SUFFIXES)}")
    if not is_nifti(path):
        write_itk(path, labels, geometry)
    elif is_nifti(like):
        write_nifti_like(path, labels, like)
    else:
        write_nifti(path, labels, geometry.affine)


def _read(path: str | os.PathLike[str], dtype: DTypeLike | None) -> Volume:
    path = _existing(path)
    if path.is_dir():
        array, geometry = read_dicom(path)
        return Volume(np.ascontiguousarray(array), _sound(path, geometry), path)
    read_geometry(path)  # refuses what no memory should be asked for
    array, geometry = read_nifti(path, dtype) if is_nifti(path) else read_itk(path, dtype)
    return Volume(np.ascontiguousarray(array), geometry, path)


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    refuse_missing(path, "; check the path")
    if path.is_dir():
        return path
    if strip_suffix(path.name) == path.name:
        raise InputError(f"{path}: unknown file type, expected one of {', '.join(SUFFIXES)}; convert it")
    return path


def _sound(path: Path, geometry: Geometry) -> Geometry:
    if min(geometry.shape) < 1:
        raise InputError(f"{path}: no voxels, shape {geometry.shape}; export it again")
    refuse_large(path, geometry.shape)
    if geometry.is_singular:
        raise InputError(
            f"{path}: singular affine {geometry.affine[:3].tolist()}: the voxel axes do not span space;"
            " export it again with its orientation"
        )
    if geometry.shear > MOST_SHEAR:
        raise InputError(
            f"{path}: the voxel axes are sheared by {geometry.shear:.1f} degrees; resample it onto a straight grid"
        )
    return geometry
