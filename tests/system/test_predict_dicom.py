"""DICOM series in, by trees as a PACS or an archive makes them, and DICOM segmentations out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.volume import read_geometry, read_labels

PATIENT = {"PatientID": "p", "PatientName": "A", "PatientBirthDate": "", "PatientSex": "", "StudyID": "",
           "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": "",
           "FrameOfReferenceUID": "1.2.3.7", "PositionReferenceIndicator": "", "SeriesNumber": 3,
           "SliceThickness": 2}  # fmt: skip

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_tree_of_dicom_series(medseg: Any, model: Path, save_dicom: Any) -> None:
    array = np.random.default_rng(0).integers(0, 2000, (9, 8, 10)).astype(np.int16)
    save_dicom(Path("pacs/patient 1/ct"), array)
    save_dicom(Path("pacs/flat"), array, SeriesInstanceUID="1.2.9", SeriesDescription="thin, axial")
    for file in list(Path("pacs/flat").iterdir()):
        file.rename(file.with_name(f"x{file.name}"))
    save_dicom(Path("pacs/flat"), array[..., :7], SeriesInstanceUID="1.2.8", SeriesDescription="thick")
    save_dicom(Path("pacs/broken"), array, slices=[0, 1, 4])
    code, _, err = medseg("predict", model, "pacs", "--output", "out")
    assert code == 1
    assert "pacs/broken" in err
    assert sorted(p.name for p in Path("out").glob("*.nii.gz")) == [
        "flat_thick.nii.gz", "flat_thin_axial.nii.gz", "patient_1_ct.nii.gz",
    ]  # fmt: skip
    for name, folder in (("flat_thick", "pacs/flat"), ("patient_1_ct", "pacs/patient 1/ct")):
        assert json.loads(Path(f"out/{name}.json").read_text())["images"] == [folder]
    result = read_labels("out/patient_1_ct.nii.gz")
    assert result.geometry.difference(read_geometry("pacs/patient 1/ct")) is None


@pytest.mark.filterwarnings("ignore::UserWarning:highdicom")
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_dicom_segmentation_is_read_back(medseg: Any, model: Path, save_dicom: Any) -> None:
    highdicom = pytest.importorskip("highdicom")
    array = np.random.default_rng(0).integers(0, 2000, (9, 8, 10)).astype(np.int16)
    save_dicom(Path("ct"), array, **PATIENT)
    code, _, err = medseg("predict", model, "ct", "--output", "out", "--dicom-seg")
    assert code == 0, err
    labels = read_labels("out/ct.nii.gz").array
    made = highdicom.seg.segread("out/ct.dcm")
    assert [s.SegmentLabel for s in made.SegmentSequence] == ["liver", "liver tumour"]
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in made.SegmentSequence]
    assert [(t.CodeValue, t.CodingSchemeDesignator) for t in types] == [("10200004", "SCT"), ("108369006", "SCT")]
    referred = made.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == "1.2.3.4"
    uids = [f"1.2.3.4.{z + 1}" for z in range(10)]
    frames = made.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    assert np.array_equal(frames.transpose(2, 1, 0), labels)

    nib.save(nib.Nifti1Image(array, np.eye(4)), "plain.nii.gz")
    code, _, err = medseg("predict", model, "plain.nii.gz", "--output", "out2", "--dicom-seg")
    assert code == 2
    assert "plain.nii.gz: no DICOM series" in err


@pytest.mark.filterwarnings("ignore::UserWarning:highdicom")
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_overlapping_regions_are_overlapping_segments(save_dicom: Any) -> None:
    highdicom = pytest.importorskip("highdicom")
    from medseg.inference.dicom_seg import write_dicom_seg

    array = np.zeros((9, 8, 10), np.int16)
    save_dicom(Path("ct"), array, **PATIENT)
    labels = array.astype(np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[3:6, 3:6, 3:6] = 2
    parts = [("whole tumour", (1, 2)), ("cyst", (3,)), ("core", (2,))]
    write_dicom_seg(Path("a.dcm"), labels, Path("ct"), parts)
    made = highdicom.seg.segread("a.dcm")
    assert [s.SegmentLabel for s in made.SegmentSequence] == ["whole tumour", "core"]
    frames = made.get_pixels_by_source_instance([f"1.2.3.4.{z + 1}" for z in range(10)], ignore_spatial_locations=True)
    assert np.array_equal(frames[..., 0].transpose(2, 1, 0), labels > 0)
    assert np.array_equal(frames[..., 1].transpose(2, 1, 0), labels == 2)
    write_dicom_seg(Path("empty.dcm"), labels * 0, Path("ct"), parts)
    empty = highdicom.seg.segread("empty.dcm")
    assert [s.SegmentLabel for s in empty.SegmentSequence] == ["whole tumour"]
    assert not empty.pixel_array.any()


def test_codes_are_those_of_the_standard() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    from medseg.inference.dicom_seg import _CODES, _LESIONS

    known = {value: meaning.lower() for entry in concepts.values() for value, (meaning, _) in entry.items()}
    for name, code in _CODES.items():
        assert name[:4] in known[code], name
    assert {known[code] for code in _LESIONS.values()} == {"tumor", "lesion"}
