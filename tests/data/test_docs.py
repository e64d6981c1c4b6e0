"""What docs/data.md shows is read as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.cohort import load_cohort
from medseg.data.layouts import list_cases
from medseg.data.listing import Listing
from medseg.data.splits import list_folds, split_cases
from medseg.errors import InputError

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def block(heading: str, language: str = "json") -> str:
    section = TEXT.split(f"\n## {heading}\n")[1]
    return re.search(rf"```{language}\n(.*?)```", section, re.S)[1]


def test_decathlon(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(block("Decathlon"))
    listing = list_cases(tmp_path)
    assert listing.channels == ("CT",)
    assert listing.classes == {0: "background", 1: "liver", 2: "spleen", 255: "ignore"}
    assert [case.label is None for case in listing.cases] == [False, False, True, True]
    assert [case.group for case in listing.cases] == ["patient 1", None, None, None]
    assert [case.annotated for case in listing.cases] == [None, (1,), None, None]


def test_nnunet(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(block("nnU-Net v2"))
    (tmp_path / "imagesTr").mkdir()
    for name in ("a_0000.nii.gz", "a_0001.nii.gz"):
        (tmp_path / "imagesTr" / name).touch()
    listing = list_cases(tmp_path)
    assert [(region.name, region.values, region.painted) for region in listing.regions] == [
        ("tumour", (1, 2), 1),
        ("core", (2,), 2),
    ]
    assert listing.cases[0].label is None


def test_table(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(block("A table", ""))
    (tmp_path / "cases.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    listing = list_cases(tmp_path)
    assert listing.channels == ("ct", "pet")
    assert [case.name for case in listing.cases] == ["a_ct", "b_ct", "c_dicom_ct"]
    assert listing.cases[1].annotated == (1, 2)
    assert listing.parts == {"b_ct": "test"}


def test_splits_json(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(block("splits.json"))
    entries = [{"image": f"{name}.nii.gz", "label": f"{name}_seg.nii.gz"} for name in "abcdef"]
    content: dict[str, Any] = {"labels": {"0": "background", "1": "liver"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    listing: Listing = list_cases(tmp_path)
    split = split_cases(listing, 0)
    assert ([case.name for case in split.test], split.budgets[2]) == (["f"], ("b", "d"))
    assert len(list_folds(listing)) == 2
    assert [case.name for case in split_cases(listing, 0, fold=1).validation] == ["a", "b"]


def test_soft_labels_need_names_in_a_sidecar(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("image\na.nii.gz\n")
    (tmp_path / "cases.json").write_text('{"label_type": "soft"}')
    with pytest.raises(InputError, match='soft labels and regions need "labels"'):
        list_cases(tmp_path)


def test_any_other_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BIDS: one subject with two sessions of which one is drawn, one without sessions or labels."""
    monkeypatch.chdir(tmp_path)
    root = Path("my_bids")
    sessions = [root / "sub-1/ses-1/anat/sub-1_ses-1", root / "sub-1/ses-2/anat/sub-1_ses-2", root / "sub-2/anat/sub-2"]
    drawn = root / "derivatives/manual/sub-1/ses-2/anat/sub-1_ses-2_label-lesion_dseg.nii.gz"
    for file in [drawn, *(session.with_name(f"{session.name}_T1w.nii.gz") for session in sessions)]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    exec(block("A table", "python"))
    (root / "cases.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}}))
    cases = list_cases(root).cases
    assert [(case.name, case.group) for case in cases] == [
        ("sub-1_ses-1", "sub-1"),
        ("sub-1_ses-2", "sub-1"),
        ("sub-2", "sub-2"),
    ]
    assert [case.label for case in cases] == [None, drawn, None]


def test_label_values_with_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / "my_cohort" / part).mkdir(parents=True)
    values = np.zeros((8, 8, 8), np.uint8)
    values[2:4] = 255
    for name in ("a", "b", "c"):
        nib.save(nib.Nifti1Image(values.astype(np.int16), np.eye(4)), tmp_path / "my_cohort/images" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "my_cohort/labels" / f"{name}.nii.gz")
    with pytest.raises(InputError, match=r"label values 0, 255 found \(255 in .*labels/.*nii.gz\)"):
        load_cohort("my_cohort")
    exec(block("Label values with gaps", "python"))
    assert load_cohort("my_cohort").classes == {0: "background", 1: "class 1"}
