from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.data.cohort import load_cohort
from medseg.data.layouts import list_cases
from medseg.errors import InputError


def write(folder: Path, *lines: str, name: str = "cases.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder


@pytest.fixture
def data(tmp_path: Path, save) -> Path:
    """Patients p1 to p4, each with an image and a mask of the same names."""
    for i in range(1, 5):
        save(tmp_path / f"p{i}/image.nii.gz")
        save(tmp_path / f"p{i}/mask.nii.gz", [0, 1, 2], np.uint8)
    return tmp_path


def test_every_column(data: Path) -> None:
    write(
        data,
        "Image,Label,Split,Group,Annotated,age",
        "p1/image.nii.gz,p1/mask.nii.gz,train,A,1,50",
        "",
        'p2/image.nii.gz,p2/mask.nii.gz,val,"B, junior",spleen; liver,60',
        "p3/image.nii.gz,p3/mask.nii.gz,test,C,,",
        "p4/image.nii.gz,,,,,",
    )
    labels = {"background": 0, "liver": 1, "spleen": 2}
    (data / "dataset.json").write_text(json.dumps({"name": "abdomen", "labels": labels, "modality": {"0": "CT"}}))
    cohort = load_cohort(data)
    assert (cohort.name, cohort.channels) == ("abdomen", ("CT",))
    assert cohort.classes == {0: "background", 1: "liver", 2: "spleen"}
    parts = (cohort.labelled, cohort.validation, cohort.test, cohort.unlabelled)
    assert [[case.name for case in part] for part in parts] == [["p1_image"], ["p2_image"], ["p3_image"], ["p4_image"]]
    assert [part[0].group for part in parts] == ["A", "B, junior", "C", None]
    assert [part[0].annotated for part in parts] == [(1,), (1, 2), None, None]


def test_a_csv_file_itself_is_the_data(data: Path) -> None:
    rows = [f"p{i}/image.nii.gz\tp{i}/mask.nii.gz\tpatient {i}" for i in (1, 2)]
    write(data, "image\tlabel\tname", *rows, name="pilot.csv")
    write(data, "nothing", name="cases.csv")
    cohort = load_cohort(data / "pilot.csv")
    assert cohort.name == "pilot"
    assert cohort.classes == {0: "background", 1: "class 1", 2: "class 2"}
    assert sorted(case.name for case in (*cohort.labelled, *cohort.validation)) == ["patient 1", "patient 2"]


@pytest.mark.parametrize(
    ("header", "cell", "channels"),
    [
        ("image_1,image_0", "{b},{a}", ("unknown", "unknown")),
        ("image_ct,image_pet", "{a},{b}", ("ct", "pet")),
        ("image", "{a}; {b}", ("unknown", "unknown")),
    ],
)
def test_several_channels(tmp_path: Path, header: str, cell: str, channels: tuple[str, ...]) -> None:
    write(tmp_path, header, *(cell.format(a=f"{name}_0000.mha", b=f"{name}_0001.mha") for name in "xy"))
    listing = list_cases(tmp_path)
    assert listing.channels == channels
    assert [case.name for case in listing.cases] == ["x", "y"]
    assert [path.name for path in listing.cases[0].images] == ["x_0000.mha", "x_0001.mha"]
    assert list_cases(tmp_path, "CT,PET").channels == ("CT", "PET")


def test_a_number_that_channels_share_is_the_cases(tmp_path: Path) -> None:
    write(tmp_path, "", "image_CT\timage_PET", *(f"ct/p_{i}.nii\tpet/p_{i}.nii" for i in (1001, 1002)))
    assert [case.name for case in list_cases(tmp_path).cases] == ["p_1001", "p_1002"]


def test_an_image_may_be_a_dicom_series(data: Path, save_dicom, save) -> None:
    series = save_dicom(data / "dicom", np.ones((4, 3, 2), int))
    save(data / "dicom.nii.gz", [0, 1], affine=np.diag([1, 1, 3, 1.0]))
    write(
        data, "image,label,split", "dicom,,train", "p1/image.nii.gz,p1/mask.nii.gz,", "p2/image.nii.gz,p2/mask.nii.gz,"
    )
    cohort = load_cohort(data)
    assert cohort.unlabelled[0].images == (series,)
    (data / "images").mkdir()
    series.rename(data / "images/dicom")
    (data / "cases.csv").unlink()
    assert [case.name for case in list_cases(data).cases] == ["dicom"]


def test_a_patient_is_not_torn_apart(data: Path) -> None:
    rows = [f"p{i}/image.nii.gz,p{i}/mask.nii.gz,{group}" for i, group in enumerate("AAAB", 1)]
    write(data, "image,label,group", *rows)
    for seed in range(5):
        cohort = load_cohort(data, seed=seed)
        assert {case.group for case in cohort.labelled} == {"A"}
        assert {case.group for case in cohort.validation} == {"B"}
    with pytest.raises(InputError, match="2 labelled cases asked for, which would tear group A apart; ask for 3 cases"):
        load_cohort(data, labelled=2)
    splits = {"train": ["p1_image", "p4_image"], "validation": ["p2_image"]}
    (data / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(InputError, match=r"splits\.json: group A is in train and in validation"):
        load_cohort(data)


def test_an_image_of_a_patient_who_validates_does_not_train(data: Path) -> None:
    rows = [f"p{i}/image.nii.gz,{label},{group}" for i, label, group in ((1, "p1/mask.nii.gz", "A"), (2, "", "A"))]
    write(
        data,
        "image,label,group,split",
        f"{rows[0]},test",
        f"{rows[1]},",
        *(f"p{i}/image.nii.gz,p{i}/mask.nii.gz,," for i in (3, 4)),
    )
    cohort = load_cohort(data)
    assert cohort.unlabelled == ()
    assert [case.name for case in cohort.test] == ["p1_image"]


def test_splits_json_may_not_contradict_the_table(data: Path) -> None:
    write(
        data,
        "image,label,split",
        *(f"p{i}/image.nii.gz,p{i}/mask.nii.gz,{'test' if i == 1 else ''}" for i in (1, 2, 3)),
    )
    (data / "splits.json").write_text(json.dumps({"train": ["p1_image", "p2_image"], "validation": ["p3_image"]}))
    with pytest.raises(InputError, match=r"case p1_image is in train, but .*cases\.csv puts it into test"):
        load_cohort(data)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["image,lable", "a,b"], "unknown column 'lable'; did you mean 'label'"),
        (["image;label", "a;b"], "separated by semicolons"),
        (["image,image", "a,b"], "two columns named image"),
        (["label", "a"], "columns label; expected either image or image_0"),
        (["image,image_0", "a,b"], "expected either image or image_0"),
        (["image,label", "a"], "line 2 has 1 cells, expected 2"),
        (["image,label", "a,b", ",c"], "line 3: image is empty"),
        (["image_0,image_1", "a,"], "line 2: image_1 is empty"),
        (["image,split", "a,trian"], "line 2: split is 'trian'"),
        (["image,split", "a,test"], "case a is in test, but has no label"),
        (["image,annotated", "a,kidney"], "line 2: annotated is 'kidney', but 'kidney' is no class"),
        (["image,name", "a,x", "b,"], "some cases have a name and some have none"),
        (["image,name", "a,x", "b,x"], "two cases named x"),
        (["image", "a", "b;c"], r"case a has 1 image file\(s\), but there are 2"),
        (["image"], "column names but no cases"),
        ([""], "empty; expected a row of column names"),
        (["image,label", '"a,b'], "not readable as CSV"),
    ],
)
def test_tables_that_are_broken(tmp_path: Path, lines: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text) as error:
        list_cases(write(tmp_path, *lines))
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


def test_two_lists_of_cases_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "image", "a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "b", "1": "c"}, "training": ["a.nii.gz"]}))
    with pytest.raises(InputError, match=r"cases\.csv and dataset\.json both list cases"):
        list_cases(tmp_path)
    assert list_cases(tmp_path / "cases.csv").classes == {0: "b", 1: "c"}
