"""A folder that holds one DICOM series, read as one volume through SimpleITK (GDCM)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medseg.data.geometry import Geometry
from medseg.data.itk import LPS_TO_RAS, itk_message
from medseg.errors import InputError

__all__ = ["dicom_files", "read_dicom", "read_dicom_geometry", "series_description"]

# Of the distance between slices: scanners round positions to 0.01 mm; a missing slice is a whole distance.
_UNEVEN = 0.05


@dataclass(frozen=True)
class _Slice:
    file: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float
    position: NDArray[np.float64]
    direction: NDArray[np.float64]


def dicom_files(folder: Path) -> tuple[Path, ...]:
    """The files of the only series in the folder, by name.

    Raises:
        InputError: no DICOM images, or several series.
    """
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(
            f"{folder}: a folder without DICOM images in it, expected a volume file or the folder of one DICOM series"
        )
    files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
    if len(series) > 1:
        said = ", ".join(
            f"'{series_description(names[0]) or 'no description'}' ({len(names)} files, {uid})"
            for uid, names in files.items()
        )
        raise InputError(f"{folder}: {len(series)} DICOM series: {said}; put each into a folder of its own")
    return tuple(sorted(Path(name) for name in files[series[0]]))


def read_dicom_geometry(folder: Path) -> Geometry:
    """The grid of a series, from the positions of its slices; reads headers only. DICOM's LPS becomes RAS+.

    Raises:
        InputError: as `dicom_files`; also slices that are missing, at one position, unlike each other or tilted, colour
            and multi-frame images.
    """
    return _geometry(folder, _slices(folder))


def read_dicom(folder: Path) -> tuple[NDArray[np.float32], Geometry]:
    """The voxels `(X, Y, Z)` in the series' units (HU), float32, and their grid.

    Raises:
        InputError: as `read_dicom_geometry`; also slices that cannot be read.
    """
    slices = _slices(folder)
    geometry = _geometry(folder, slices)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([part.file for part in slices])
    # each slice has a slope of its own (PET), and the type of the first would round the others
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        stored = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise InputError(
            f"{folder}: the DICOM series cannot be read ({itk_message(error)}); export it again"
        ) from error
    return np.asarray(stored).reshape(geometry.shape[::-1]).transpose(), geometry


def _slices(folder: Path) -> list[_Slice]:
    """The slices in the order of their positions along the normal of the first."""
    slices = [_slice(file) for file in dicom_files(folder)]
    normal = slices[0].direction[:, 2]
    return sorted(slices, key=lambda part: float(part.position @ normal))


def _slice(file: Path) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{file}: not readable as DICOM ({itk_message(error)}); export it again") from error
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{file}: a colour image, expected one number a voxel; leave it out")
    size = reader.GetSize()
    if len(size) != 3 or size[2] != 1:
        raise InputError(f"{file}: a multi-frame DICOM file of shape {size}, expected one slice a file; convert it")
    if not reader.HasMetaDataKey("0020|0032"):
        raise InputError(
            f"{file}: no position in its header (Image Position Patient); export it again, or leave it out"
        )
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    x, y, thickness = reader.GetSpacing()
    return _Slice(str(file), size[:2], (x, y), thickness, np.array(reader.GetOrigin()), direction)


def _geometry(folder: Path, slices: list[_Slice]) -> Geometry:
    first, last = slices[0], slices[-1]
    for part in slices[1:]:
        for what in ("size", "spacing", "direction"):
            ours, theirs = (np.array(getattr(one, what), float) for one in (first, part))
            if not np.allclose(ours, theirs, atol=1e-3):
                said, other = (" ".join(f"{value:.4g}" for value in values.ravel()) for values in (theirs, ours))
                raise InputError(
                    f"{part.file}: {what} {said} against {other} of {Path(first.file).name}; put slices of one kind"
                    " into a folder of their own"
                )
    affine = np.eye(4)
    affine[:3, :3] = first.direction * np.array((*first.spacing, first.thickness))
    affine[:3, 3] = first.position
    if len(slices) > 1:
        _refuse_uneven(folder, slices)
        affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    return Geometry((*first.size, len(slices)), LPS_TO_RAS @ affine)


def _refuse_uneven(folder: Path, slices: list[_Slice]) -> None:
    steps = np.diff([part.position for part in slices], axis=0)
    normal = slices[0].direction[:, 2]
    gaps = steps @ normal
    usual = float(np.median(gaps))
    for i, gap in enumerate(gaps):
        pair = f"{Path(slices[i].file).name} and {Path(slices[i + 1].file).name}"
        if gap < 1e-3:
            raise InputError(f"{folder}: slices {pair} lie at one position; put each time point into its own folder")
        if abs(gap - usual) > _UNEVEN * usual:
            raise InputError(
                f"{folder}: slices are {usual:.4g} mm apart, but {pair} {gap:.4g} mm: slices are missing or uneven;"
                " export the whole series, or resample it"
            )
    tilt = float(np.linalg.norm((steps - gaps[:, None] * normal).sum(axis=0)) / gaps.sum())
    if tilt > _UNEVEN:
        raise InputError(
            f"{folder}: the slices are tilted by {np.degrees(np.arctan(tilt)):.1f} degrees (gantry tilt); resample the"
            " series onto a straight grid first"
        )


def series_description(file: str | Path) -> str:
    """What the series of a slice is called; "" where its header does not say, or cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # reading the series will say what is wrong with it
        return ""
    return str(reader.GetMetaData("0008|103e")).strip() if reader.HasMetaDataKey("0008|103e") else ""
