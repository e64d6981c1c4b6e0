"""DICOM segmentations: labels as an object that a PACS files beside the series it refers to. Needs `medseg[dicom]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg
from medseg.data.case import Case
from medseg.data.dicom import dicom_files
from medseg.errors import InputError
from medseg.files import writing
from medseg.inference.findings import targets
from medseg.inference.volumes import VolumeItem
from medseg.plan import Plan

__all__ = ["dicom_seg_writer", "write_dicom_seg"]

_STRUCTURE = ("91723000", "SCT", "Anatomical structure")
_ABNORMAL = ("49755003", "SCT", "Morphologically abnormal structure")
# SNOMED CT, as DICOM's context groups for segmentation list them (CID 7166, 7159 and what they include)
_CODES = {
    "adrenal gland": "23451007", "aorta": "15825003", "atrium": "59652004", "bladder": "89837001",
    "brain": "12738006", "colon": "71854001", "duodenum": "38848004", "esophagus": "32849002",
    "hippocampus": "5366008", "femur": "71341001", "gallbladder": "28231008", "heart": "80891009",
    "inferior vena cava": "64131007", "kidney": "64033007", "left atrium": "82471001",
    "left ventricle": "87878005", "liver": "10200004", "lung": "39607008", "pancreas": "15776009",
    "portal vein": "32764006", "prostate": "41216001", "right atrium": "73829009", "right ventricle": "53085002",
    "spinal cord": "2748008", "spleen": "78961009", "stomach": "69695003", "trachea": "44567001",
    "uterus": "35039007",
}  # fmt: skip
_LESIONS = {"tumor": "108369006", "tumour": "108369006", "neoplasm": "108369006", "lesion": "52988006"}
_PLURALS = {"kidneys": "kidney", "lungs": "lung", "adrenal glands": "adrenal gland", "oesophagus": "esophagus"}


def dicom_seg_writer(plan: Plan, cases: Sequence[Case]) -> Callable[[Path, NDArray[Any], VolumeItem], None]:
    """What writes segmentations of `cases` by `plan`.

    Raises:
        InputError: highdicom is not installed, or a case is no DICOM series.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError("--dicom-seg needs highdicom; install it with: pip install 'medseg[dicom]'") from error
    for case in cases:
        if not case.images[0].is_dir():
            raise InputError(f"{case.images[0]}: no DICOM series, which a DICOM segmentation must refer to; leave out"
                             " --dicom-seg, or name the series' folder")  # fmt: skip
    parts = [(name, values) for name, _, values in targets(plan)]
    return lambda path, labels, item: write_dicom_seg(path, labels, item.path, parts)


def write_dicom_seg(
    path: Path, labels: NDArray[Any], series: Path, parts: Sequence[tuple[str, tuple[int, ...]]]
) -> None:
    """Writes a binary segmentation with one segment a class or region that occurs, referring to every slice of
    `series`; where none occurs, the first one's, which is empty. Segments overlap where regions do.

    Args:
        path: of the file.
        labels: (X, Y, Z) label values on the grid of the series.
        series: the folder of the series that was segmented.
        parts: the name of each segment and the label values that it is made of.

    Raises:
        InputError: the file cannot be written, or the series lacks what a segmentation must repeat.
    """
    import highdicom as hd
    import pydicom

    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in dicom_files(series)]
    row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
    slices.sort(key=lambda part: float(np.array(part.ImagePositionPatient, float) @ np.cross(row, column)))
    there = set(np.unique(labels).tolist())
    found = [part for part in parts if there & set(part[1])] or list(parts[:1])
    code = hd.sr.CodedConcept
    version = hd.AlgorithmIdentificationSequence(
        name="medseg", version=medseg.__version__, family=code("123109", "DCM", "Artificial Intelligence")
    )
    segments = [
        hd.seg.SegmentDescription(
            number, name, *(code(*said) for said in _coded(name)),
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm_identification=version,
        )
        for number, (name, _) in enumerate(found, 1)
    ]  # fmt: skip
    try:
        made = hd.seg.Segmentation(
            source_images=slices,
            pixel_array=_pixels(labels, [values for _, values in found]),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=int(slices[0].get("SeriesNumber") or 0) + 1000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="medseg",
            manufacturer_model_name="medseg",
            software_versions=medseg.__version__,
            device_serial_number="0",
            series_description="medseg segmentation",
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{series}: a DICOM segmentation cannot refer to this series ({said}); export it again"
        ) from error
    with writing(path) as temporary:
        made.save_as(temporary)


def _pixels(labels: NDArray[Any], parts: Sequence[tuple[int, ...]]) -> NDArray[np.uint8 | np.uint16]:
    """(planes, rows, columns) segment numbers; where segments may overlap, one more axis with a mask of each."""
    if any(len(values) > 1 for values in parts):
        return np.stack([np.isin(labels, values).transpose(2, 1, 0) for values in parts], -1).astype(np.uint8)
    table = np.zeros(
        max(int(labels.max()), *(value for (value,) in parts)) + 1, np.uint8 if len(parts) < 2**8 else np.uint16
    )
    for number, (value,) in enumerate(parts, 1):
        table[value] = number
    return table[labels].transpose(2, 1, 0)


def _coded(name: str) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """Category and type of a class: SNOMED CT where its name is known, else a code of medseg's own scheme."""
    words = re.sub(r"[^a-z ]+", " ", name.lower()).strip()
    words = _PLURALS.get(words, words)
    lesion = next((code for word, code in _LESIONS.items() if word in words.split()), None)
    if lesion:
        return _ABNORMAL, (lesion, "SCT", "Lesion" if lesion == _LESIONS["lesion"] else "Neoplasm")
    if words in _CODES:
        return _STRUCTURE, (_CODES[words], "SCT", words.capitalize())
    return _STRUCTURE, (re.sub(r"\W+", "_", name)[:16] or "class", "99MEDSEG", name[:64])
