from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.data.cohort import load_cohort
from medseg.data.layouts import list_cases
from medseg.errors import InputError

REGIONS = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def describe(folder: Path, **more: Any) -> Path:
    content = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **more,
    }
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


@pytest.fixture
def raw(tmp_path: Path, save) -> Path:
    """Two channels; a and b are labelled, c is not, t is to test."""
    for part, names in (("Tr", "abc"), ("Ts", "t")):
        for name in names:
            for channel in (1, 0):
                save(tmp_path / f"images{part}/{name}_000{channel}.nii.gz")
    for name in ("Tr/a", "Tr/b", "Ts/t"):
        save(tmp_path / f"labels{name}.nii.gz", [0, 1], np.uint8)
    (tmp_path / "imagesTr/._a_0000.nii.gz").touch()
    return describe(tmp_path)


def test_cases_channels_and_test_cases(raw: Path) -> None:
    listing = list_cases(raw)
    assert listing.name == raw.name
    assert listing.channels == ("T1", "FLAIR")
    assert listing.classes == {0: "background", 1: "tumour"}
    assert [(case.name, case.label is not None) for case in listing.cases] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("t", True),
    ]
    assert [path.name for path in listing.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert listing.remarks == ()
    cohort = load_cohort(raw)
    assert [case.name for case in cohort.test] == ["t"]
    assert {case.name for case in (*cohort.labelled, *cohort.validation)} == {"a", "b"}
    assert [case.name for case in cohort.unlabelled] == ["c"]


def test_a_label_that_is_a_link_to_nowhere_is_missing(raw: Path) -> None:
    (raw / "labelsTr/c.nii.gz").symlink_to("absent")
    assert list_cases(raw).cases[2].label == raw / "labelsTr/c.nii.gz"
    with pytest.raises(InputError, match=r"labelsTr/c\.nii\.gz: no such file, but"):
        load_cohort(raw)


def test_regions_and_the_ignored_value(raw: Path) -> None:
    cohort = load_cohort(describe(raw, labels=REGIONS, regions_class_order=[1, 2, 3]))
    assert cohort.classes == {0: "background", 1: "label 1", 2: "label 2", 3: "enhancing", 4: "ignore"}
    assert [(region.name, region.values, region.painted) for region in cohort.regions] == [
        ("whole tumour", (1, 2, 3), 1),
        ("core", (2, 3), 2),
        ("enhancing", (3,), 3),
    ]
    # what each region has that no later one has is what it is painted with
    assert load_cohort(describe(raw, labels=REGIONS)).regions == cohort.regions


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"file_ending": ".png"}, "\"file_ending\" is '.png', expected one of .nii.gz"),
        ({"file_ending": ".mha"}, r"no files CASE_0000\.mha"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2, 3]}}, "'ignore'.* is neither form"),
        ({"labels": {"background": 0, "a": [0, 1], "b": [1, 2]}}, "region a holds 0, which is no class"),
        ({"labels": {"background": 0, "a": [1, 2, 4], "b": 2}}, "without gaps"),
        ({"labels": {"background": 0, "a": [1, 2], "b": [2, 1]}}, 'no "regions_class_order"; expected 2 different'),
        ({"labels": REGIONS, "regions_class_order": [1, 2]}, r"\[1, 2\], expected 3 different label values"),
        ({"labels": REGIONS, "regions_class_order": [1, 2, 2]}, "expected 3 different label values"),
        ({"labels": REGIONS, "regions_class_order": [2, 1, 3]}, "whole tumour .1, 2, 3. with 2, which is of core, too"),
        ({"labels": REGIONS, "regions_class_order": [3, 2, 1]}, "whole tumour .* with 3, which is of core, too"),
        ({"labels": REGIONS, "regions_class_order": [1, 3, 2]}, "core .* with 3, which is of enhancing, too"),
        (
            {"labels": {"background": 0, "a": [1, 2], "b": 3}, "regions_class_order": [1, 2]},
            "b .3. with 2, which is none",
        ),
        ({"labels": REGIONS, "label_type": "soft"}, "is soft, but there are regions"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}, "label_type": "soft"}, "soft, but there is a class ignore"),
        ({"label_type": "fuzzy"}, "\"label_type\" is 'fuzzy'"),
    ],
)
def test_descriptions_that_are_broken(raw: Path, more: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text) as error:
        load_cohort(describe(raw, **more))
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit(raw: Path, save) -> None:
    save(raw / "labelsTr/x.nii.gz")
    with pytest.raises(InputError, match=r"labelsTr/x\.nii\.gz: no image x_0000"):
        list_cases(raw)
    (raw / "labelsTr/x.nii.gz").unlink()
    (raw / "imagesTr/b_0001.nii.gz").unlink()
    with pytest.raises(InputError, match="case b has channels 0000, expected 2 from 0000"):
        list_cases(raw)
    save(raw / "imagesTr/b.nii.gz")
    with pytest.raises(InputError, match=r"b\.nii\.gz: not named as nnU-Net's"):
        list_cases(raw)


def test_what_is_remarked(raw: Path) -> None:
    (raw / "labelsTs/t.nii.gz").unlink()
    remarks = list_cases(describe(raw, numTraining=5)).remarks
    assert "numTraining is 5, but there are 3 cases, 2 with a label" in remarks[0]
    assert "1 of 1 cases have no label in labelsTs" in remarks[1]
    assert load_cohort(raw).test == ()


def test_folds_of_splits_final(raw: Path) -> None:
    folds = [{"train": ["a", "c"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    (raw / "splits_final.json").write_text(json.dumps(folds))
    cohort = load_cohort(raw, fold=1)
    assert [[case.name for case in part] for part in (cohort.labelled, cohort.validation, cohort.test)] == [
        ["b"],
        ["a"],
        ["t"],
    ]
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["t"], "val": ["a"]}]))
    with pytest.raises(InputError, match=r"splits_final\.json: case t is in test and again in fold 0 train"):
        load_cohort(raw, fold=0)
    (raw / "splits_final.json").write_text("{}x")
    with pytest.raises(InputError, match="not the folds of nnU-Net"):
        load_cohort(raw)


def test_cases_that_dataset_json_names_itself(raw: Path) -> None:
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    listing = list_cases(describe(raw, dataset={"one": entry}, file_ending=None, numTraining=1))
    assert [(case.name, case.label) for case in listing.cases] == [("one", raw / "labelsTr/a.nii.gz")]
    with pytest.raises(InputError, match='"dataset" has one'):
        list_cases(describe(raw, dataset={"one": {"images": []}}))
