"""NIfTI files through nibabel."""

from __future__ import annotations

import gzip
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike, NDArray

from medseg.data.geometry import Geometry
from medseg.errors import InputError
from medseg.files import writing

__all__ = [
    "nifti_channels",
    "read_nifti",
    "read_nifti_channels",
    "read_nifti_geometry",
    "write_nifti",
    "write_nifti_like",
]

# nibabel reports on stderr every header field that it mends; what matters is checked here
imageglobals.logger.setLevel(logging.CRITICAL)

_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
)
_MOST_BEHIND = 1 << 24  # bytes: what follows the voxels is padding, if anything; a bomb is read no further
_LONGEST_HEADER = 540  # bytes, that of NIfTI-2
_MOST_BEFORE = 1 << 26  # bytes: header and extensions, which are kilobytes
_TO_MM = {"meter": 1e3, "micron": 1e-3}


def read_nifti_geometry(path: Path, channels: bool = False) -> Geometry:
    """The grid of a NIfTI file, where it may have `channels` that of each; reads the header only. Lengths in metres or
    microns become mm."""
    image = _open(path)
    _refuse_spacing(path, image)
    return _geometry(path, image, channels)


def nifti_channels(path: Path) -> int:
    """How many numbers a voxel has by the header: the length of the last of four axes or more; 1 of three."""
    return int(np.prod(_open(path).shape[3:], dtype=np.int64))


def read_nifti(path: Path, dtype: DTypeLike | None) -> tuple[NDArray[Any], Geometry]:
    """The voxels `(X, Y, Z)`, scaled by slope and intercept, as `dtype` or as stored, and their grid."""
    image = _open(path)
    geometry = _geometry(path, image)
    return _whole(path, image, geometry, dtype).reshape(geometry.shape), geometry


def read_nifti_channels(path: Path) -> tuple[NDArray[Any], Geometry]:
    """The values `(C, X, Y, Z)` of the last of four axes (of five where the fourth has length 1), and their grid."""
    image = _open(path)
    geometry = _geometry(path, image, channels=True)
    array = _whole(path, image, geometry, np.float32).reshape(*geometry.shape, -1)
    return np.moveaxis(array, -1, 0), geometry


def _whole(path: Path, image: Any, geometry: Geometry, dtype: DTypeLike | None) -> NDArray[Any]:
    try:
        return _voxels(path, image, dtype)
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: truncated or damaged: the header promises {geometry.shape} voxels, which cannot be read"
            f" ({_line(error)}); copy or export it again"
        ) from error


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Writes `(X, Y, Z)` with that affine as scanner coordinates in mm; equal input gives equal bytes."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with writing(path) as temporary:
        nib.save(image, temporary)


def write_nifti_like(path: Path, labels: NDArray[Any], like: Path) -> None:
    """Writes labels `(X, Y, Z)` with the header of `like`: its affine, form codes and units.

    What describes the intensities (scaling, display window, intent) is cleared, and so are free text and
    extensions, where patient data may be.
    """
    image = _open(like)
    affine = image.affine
    header = image.header.copy()
    header.extensions.clear()
    header.set_data_shape(labels.shape)
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(None, None)
    header.set_intent("none")
    for field in ("cal_min", "cal_max"):
        header[field] = 0
    for field in ("descrip", "aux_file", "db_name"):
        if field in header.keys():  # noqa: SIM118 - a header iterates over values; NIfTI-2 has no db_name
            header[field] = b""
    with writing(path) as temporary:
        nib.save(type(image)(labels, affine, header), temporary)


def _voxels(path: Path, image: Any, dtype: DTypeLike | None) -> NDArray[Any]:
    with np.errstate(all="ignore"):  # what overflows becomes infinite, which the caller counts
        if path.suffix.lower() != ".gz":
            return np.asarray(image.dataobj, dtype=dtype)
        with gzip.open(path) as stream:
            array = np.asarray(type(image).from_stream(stream).dataobj, dtype=dtype)
            rest = 0  # gzip looks at its checksum at the end, where nibabel does not arrive
            while more := len(stream.read(1 << 20)):
                rest += more
                if rest > _MOST_BEHIND:
                    raise ValueError(f"more than {_MOST_BEHIND >> 20} MiB follow behind the voxels")
            return array


def _open(path: Path) -> Any:
    try:
        _refuse_extensions(path)
        image = nib.load(path, mmap=False)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not readable as NIfTI ({_line(error)}); copy or export it again") from error
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(f"{path}: a {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    return image


def _refuse_extensions(path: Path) -> None:
    """Refuses what would have nibabel read extensions without end: it takes their lengths, and where voxels begin, as
    they are written, and of a length below 8 reads all that a gzip expands to."""
    with Opener(path) as file:
        head = file.read(_LONGEST_HEADER + 4)
        for kind in (nib.Nifti1Header, nib.Nifti2Header):
            size = kind.template_dtype.itemsize
            if not kind.may_contain_header(head) or len(head) < size + 4:
                continue  # nibabel says what it is
            header = kind(head[:size], check=False)
            order = "<" if header.endianness == "<" else ">"
            begin = float(header["vox_offset"])
            if not begin <= _MOST_BEFORE:
                raise ValueError(f"voxels begin at byte {begin:g}, expected at most {_MOST_BEFORE}")
            at, room = size + 4, begin - size - 4
            while head[size] and (room >= 16 or room < 0):
                file.seek(at)
                length = struct.unpack(f"{order}i", file.read(4))[0]
                if not 16 <= length <= room:
                    raise ValueError(f"an extension of {length} bytes, expected 16 to {room:g}")
                at, room = at + length, room - length


def _geometry(path: Path, image: Any, channels: bool = False) -> Geometry:
    kind = image.get_data_dtype().kind
    if kind not in "iufb":
        what = "complex" if kind == "c" else "colour"
        raise InputError(f"{path}: {what} voxels, expected one real number a voxel; export one channel a file")
    stored = tuple(int(size) for size in image.shape)
    # the channels are the last axis: (X, Y, Z, C), or (X, Y, Z, 1, C) where NIfTI reserves the fourth for time
    shape = stored[:-1] if channels and len(stored) > 3 else stored
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(f"{path}: {len(shape)}-D image of shape {stored}, expected 3-D; save one volume a file")
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _TO_MM.get(_unit(image), 1.0)
    return Geometry(shape, affine)


def _refuse_spacing(path: Path, image: Any) -> None:
    """Refuses voxel sizes that nibabel would mend: to 1 mm where they are 0, to their absolute values below."""
    with Opener(path) as file:
        header = type(image.header).from_fileobj(file, check=False)
    spacing = np.array(header["pixdim"][1:4], float)
    if int(header["sform_code"]) == 0 and not (np.isfinite(spacing).all() and (spacing[: len(image.shape)] > 0).all()):
        said = " x ".join(f"{mm:g}" for mm in spacing)
        raise InputError(f"{path}: voxels of {said} mm in its header, expected sizes above 0; export it again")


def _unit(image: Any) -> str:
    try:
        return str(image.header.get_xyzt_units()[0])
    except KeyError:  # a code that the standard does not know
        return "unknown"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
