"""NRRD and MetaImage (MHA, MHD) files through SimpleITK, in nibabel's axis order and RAS+."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import DTypeLike, NDArray

from medseg.data.damage import damage
from medseg.data.geometry import Geometry
from medseg.errors import InputError
from medseg.files import writing

__all__ = [
    "LPS_TO_RAS",
    "itk_channels",
    "itk_message",
    "read_itk",
    "read_itk_channels",
    "read_itk_geometry",
    "write_itk",
]

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK prints to stderr; what matters is checked here

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world of DICOM and ITK to that of nibabel, and back."""


def read_itk_geometry(path: Path, channels: bool = False) -> Geometry:
    """The grid of a file that SimpleITK reads, where it may have `channels` that of each; reads the header only. Its
    LPS becomes RAS+."""
    return _geometry(path, _reader(path), channels)


def itk_channels(path: Path) -> int:
    """How many numbers a voxel has by the header: its components, or the length of a fourth axis."""
    reader = _reader(path)
    return int(reader.GetNumberOfComponents()) * math.prod(reader.GetSize()[3:])


def read_itk(path: Path, dtype: DTypeLike | None) -> tuple[NDArray[Any], Geometry]:
    """The voxels `(X, Y, Z)` as `dtype` or as what is stored, and their grid."""
    reader = _reader(path)
    geometry = _geometry(path, reader)
    array = _whole(path, reader, geometry).reshape(geometry.shape[::-1]).transpose()  # SimpleITK's first axis is Z
    with np.errstate(all="ignore"):  # what overflows becomes infinite, which the caller counts
        return np.asarray(array, dtype=dtype), geometry


def read_itk_channels(path: Path) -> tuple[NDArray[Any], Geometry]:
    """The components of a voxel, or the last of four axes, as `(C, X, Y, Z)`, and their grid."""
    reader = _reader(path)
    geometry = _geometry(path, reader, channels=True)
    stored = _whole(path, reader, geometry).astype(np.float32)
    if reader.GetNumberOfComponents() > 1:  # (Z, Y, X, C)
        return stored.reshape(*geometry.shape[::-1], -1).transpose(3, 2, 1, 0), geometry
    return stored.reshape(-1, *geometry.shape[::-1]).transpose(0, 3, 2, 1), geometry


def _whole(path: Path, reader: Any, geometry: Geometry) -> NDArray[Any]:
    """The voxels as SimpleITK orders them."""
    try:
        problem = damage(path)
        stored = None if problem else sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, OSError, ValueError) as error:
        problem = itk_message(error)
    if problem or stored is None:
        raise InputError(
            f"{path}: truncated or damaged: the header promises {geometry.shape} voxels, which cannot be read"
            f" ({problem}); copy or export it again"
        )
    return np.asarray(stored)


def write_itk(path: Path, labels: NDArray[Any], geometry: Geometry) -> None:
    """Writes `(X, Y, Z)` compressed on that grid, as NRRD, MHA or MHD by the suffix of `path`.

    An MHD's voxels go into `NAME.zraw` beside it.

    Raises:
        InputError: it cannot be written.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels.transpose()))
    affine = LPS_TO_RAS @ geometry.affine
    spacing = np.array(geometry.spacing)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    # under its own name first, which an MHD's header takes for its data file; MetaIO writes no suffix in capitals
    with writing(path) as whole, tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        made = Path(folder) / path.with_suffix(path.suffix.lower()).name
        _save(image, path, made)
        if made.suffix == ".mhd":
            with writing(path.with_suffix(".zraw")) as data:
                made.with_suffix(".zraw").replace(data)
        made.replace(whole)


def _save(image: Any, path: Path, temporary: Path) -> None:
    try:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        # ITK does not report every failed write (a full disk), so what was written is read again
        same = np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(temporary))), sitk.GetArrayViewFromImage(image))
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be written ({itk_message(error)}); free space or choose another output folder"
        ) from error
    if not same:
        raise InputError(f"{path}: not written completely; free space or choose another output folder")


def _reader(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    if path.suffix != path.suffix.lower() != ".nrrd":
        reader.SetImageIO("MetaImageIO")  # which does not know its suffixes in capitals
    try:
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"{path}: not readable as {path.suffix[1:].upper()} ({itk_message(error)}); copy or export it again"
        ) from error
    return reader


def _geometry(path: Path, reader: Any, channels: bool = False) -> Geometry:
    components = reader.GetNumberOfComponents()
    if (components != 1 and not channels) or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        what = "complex" if components == 1 else f"{components} values a voxel (colour or vectors)"
        raise InputError(f"{path}: {what}, expected one real number a voxel; export one channel a file")
    stored = tuple(reader.GetSize())
    shape = stored[:-1] if channels and components == 1 and len(stored) > 3 else stored
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(f"{path}: {len(shape)}-D image of shape {stored}, expected 3-D; save one volume a file")
    direction = np.array(reader.GetDirection()).reshape(len(stored), len(stored))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    return Geometry(shape, LPS_TO_RAS @ affine)


def itk_message(error: BaseException) -> str:
    """The last line of what ITK says, without its addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rsplit("): ", 1)[-1].removeprefix("sitk::ERROR: ") if lines else type(error).__name__
