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


@pytest.fixture
def save_dicom() -> Callable[..., Path]:
    """Saves a series as DICOM: `save_dicom(folder, stored values (X, Y, Z))`, one file a slice, 0.5 x 0.75 mm, 2 mm
    apart, rescaled by `slope(z)` and -1000. `slices` are those written; `header` are attributes over the usual ones."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def save_dicom(
        folder: Path,
        array: np.ndarray,
        slices: Iterable[int] | None = None,
        slope: Callable[[int], float] = lambda z: 1.0,
        **header: object,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for z in range(array.shape[2]) if slices is None else slices:
            part = Dataset()
            part.file_meta = FileMetaDataset()
            part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            part.SOPClassUID = part.file_meta.MediaStorageSOPClassUID = CTImageStorage
            part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{z + 1}"
            part.Modality, part.SeriesDescription = "CT", "abdomen"
            part.StudyInstanceUID, part.SeriesInstanceUID, part.InstanceNumber = "1.2.3", "1.2.3.4", z
            part.ImagePositionPatient = [10, 20, -5 + 2 * z]
            part.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            part.PixelSpacing = [0.75, 0.5]  # rows come first
            part.Columns, part.Rows = array.shape[:2]
            part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
            part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 16, 15, 1
            part.RescaleIntercept, part.RescaleSlope = -1000, slope(z)
            part.PixelData = array[:, :, z].T.astype("<i2").tobytes()
            for name, value in header.items():
                setattr(part, name, value)
            # names against the order of the slices
            part.save_as(folder / f"IM{99 - z:02}.dcm", enforce_file_format=True)
        return folder

    return save_dicom
