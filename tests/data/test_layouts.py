from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.data.layouts import list_cases
from medseg.data.splits import list_folds, split_cases
from medseg.errors import InputError


def decathlon(folder: Path, training: Any, **more: Any) -> Path:
    content = {"name": "d", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, **more}
    (folder / "dataset.json").write_text(json.dumps({**content, "training": training}))
    return folder


def touch(folder: Path, *names: str) -> None:
    """Empty files do: a listing opens no volume."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_decathlon(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTr/c.nii.gz")
    listing = list_cases(
        decathlon(
            tmp_path,
            [
                {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
                {"image": "imagesTr/b.nii.gz"},
                "imagesTr/c.nii.gz",
            ],
        )
    )
    assert (listing.name, listing.channels) == ("d", ("CT",))
    assert listing.classes == {0: "background", 1: "liver"}
    assert [case.name for case in listing.cases] == ["a", "b", "c"]
    assert listing.cases[0].label == tmp_path / "labelsTr/a.nii.gz"
    assert listing.cases[1].label is listing.cases[2].label is None


def test_validation_and_folds_of_a_monai_datalist(tmp_path: Path) -> None:
    def entry(name: str, **more: Any) -> dict[str, Any]:
        return {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz", **more}

    training = [entry("a", fold=0), entry("b", fold=1), entry("c", fold=1), {"image": "d.nii.gz", "fold": 1}, "e.nii"]
    data = decathlon(tmp_path, training)
    folds = [(" ".join(fold.train), " ".join(fold.validation)) for fold in list_folds(list_cases(data))]
    assert folds == [("b c d e", "a"), ("a e", "b c")]
    split = split_cases(list_cases(data), 0, fold=1)
    assert [case.name for case in split.validation] == ["b", "c"]
    split = split_cases(list_cases(decathlon(tmp_path, training, validation=[entry("v")])), 0)
    assert [case.name for case in split.validation] == ["v"]
    assert [case.name for case in split.train] == list("abcde")
    for training, more, said in (
        ([entry("a", fold="1")], {}, "case a has \"fold\" '1', expected 0, 1, 2"),
        ([entry("a", fold=10**9)], {}, 'case a has "fold" 1000000000, expected'),
        ([entry("a")], {"validation": ["v.nii.gz"]}, 'case v under "validation" has no label'),
        ([entry("a")], {"validation": "v"}, "\"validation\" is 'v', expected a list"),
    ):
        with pytest.raises(InputError, match=said):
            list_cases(decathlon(tmp_path, training, **more))
    with pytest.raises(InputError, match=r'dataset.json: "fold 0 validation" is empty'):
        list_folds(list_cases(decathlon(tmp_path, [entry("a", fold=1), entry("b", fold=2), entry("c")])))


def test_channels_of_a_case_are_a_list(tmp_path: Path) -> None:
    files = ["imagesTr/STS_001_0000.nii.gz", "imagesTr/STS_001_0001.nii.gz"]
    touch(tmp_path, *files)
    listing = list_cases(decathlon(tmp_path, [{"image": files}], modality={"1": "PET", "0": "CT"}))
    assert listing.channels == ("CT", "PET")
    assert listing.cases[0].name == "STS_001"
    assert listing.cases[0].images == tuple(tmp_path / name for name in files)
    with pytest.raises(InputError, match=r"STS_001 has 2 image file\(s\), but there are 1 modalities"):
        list_cases(decathlon(tmp_path, [{"image": files}]))


def test_a_number_that_channels_share_is_the_cases(tmp_path: Path) -> None:
    training = [{"image": [f"{folder}/p_{i}.nii.gz" for folder in ("ct", "pet")]} for i in (1001, 1002)]
    listing = list_cases(decathlon(tmp_path, training, modality={"0": "CT", "1": "PET"}))
    assert [case.name for case in listing.cases] == ["p_1001", "p_1002"]


def test_a_single_channel_that_is_numbered(tmp_path: Path) -> None:
    listing = list_cases(decathlon(tmp_path, ["a_0000.nii.gz", "b_0000.nii.gz"]))
    assert [case.name for case in listing.cases] == ["a", "b"]
    listing = list_cases(decathlon(tmp_path, ["a_0000.nii.gz", "a_0001.nii.gz"]))
    assert [case.name for case in listing.cases] == ["a_0000", "a_0001"]


@pytest.mark.parametrize("labels", [{"background": 0, "b": "2", "a": 1}, {"2": "b", "0": "background", "1": "a"}])
def test_both_forms_of_labels(tmp_path: Path, labels: dict[str, Any]) -> None:
    touch(tmp_path, "a.nii.gz")
    listing = list_cases(decathlon(tmp_path, ["a.nii.gz"], labels=labels))
    assert listing.classes == {0: "background", 1: "a", 2: "b"}
    assert list(listing.classes) == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"0": "background", "2": "a"}, "without gaps"),
        ({"1": "a"}, "without gaps"),
        ({"0": "background"}, "without gaps"),
        ({"0": "background", "1": [1, 2]}, "neither form"),
        ({"0": "background", "-1": "a"}, "neither form"),
        ({"0": "background", "1": "a", "4294967295": "ignore"}, "value 4294967295 is too large"),
        ({"0": "background", "1" * 5000: "a"}, "is too large, expected below 32768"),
        (["background", "a"], "expected"),
        ({}, "expected"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, labels: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        list_cases(decathlon(tmp_path, ["a.nii.gz"], labels=labels))


@pytest.mark.parametrize(
    ("training", "text"),
    [
        (None, "no list of cases"),
        ([], "no list of cases"),
        ([{"label": "a.nii.gz"}], "case {'label'"),
        ([{"image": [], "label": "a.nii.gz"}], "case {'image'"),
        ([{"image": "a.nii.gz"}, {"image": "x/a.nii.gz"}], "two cases named a"),
    ],
)
def test_case_lists_that_are_broken(tmp_path: Path, training: Any, text: str) -> None:
    touch(tmp_path, "a.nii.gz", "x/a.nii.gz")
    with pytest.raises(InputError, match=text) as error:
        list_cases(decathlon(tmp_path, training))
    assert "\n" not in str(error.value)


def test_what_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list_cases(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no cases found, expected a dataset\.json .* or the folders images/"):
        list_cases(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"images: no volumes, expected files ending in \.nii\.gz"):
        list_cases(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        list_cases(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="a list, expected a mapping"):
        list_cases(tmp_path)


def test_plain_folders_match_by_stem(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.mha", "images/a.nii.gz", "images/._a.nii.gz", "images/notes.txt", "labels/a.nrrd")
    listing = list_cases(tmp_path)
    assert [(case.name, case.label) for case in listing.cases] == [
        ("a", tmp_path / "labels/a.nrrd"),
        ("b", None),
    ]
    assert listing.channels == ("unknown",)
    assert listing.classes is None
    assert list_cases(tmp_path, "CT").channels == ("CT",)


def test_links_to_nowhere_are_missing_files(tmp_path: Path) -> None:
    """As git-annex leaves them of what was not fetched: the case does not become an unlabelled one, or none."""
    touch(tmp_path, "images/a.nii.gz")
    (tmp_path / "labels").mkdir()
    for link in ("labels/a.nii.gz", "images/b.nii.gz", "labels/b.nii.gz"):
        (tmp_path / link).symlink_to("absent")
    assert [(case.name, case.label) for case in list_cases(tmp_path).cases] == [
        (name, tmp_path / f"labels/{name}.nii.gz") for name in "ab"
    ]


def test_what_may_not_be_looked_at_is_one_line(tmp_path: Path) -> None:
    """A name that is too long stands for a folder that is closed, which is open to root."""
    for path in (tmp_path / ("x" * 300), decathlon(tmp_path, [f"{'x' * 300}.nii.gz"])):
        with pytest.raises(InputError, match=r"name too long|no such|case name"):
            list_cases(path)


def test_numbered_channels_match_labels_without_the_number(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{case}_{i:04}.nii.gz" for case in ("a", "b") for i in (1, 0)), "labels/a.nii.gz")
    listing = list_cases(tmp_path, "CT, PET")
    assert listing.channels == ("CT", "PET")
    assert [case.name for case in listing.cases] == ["a", "b"]
    assert [path.name for path in listing.cases[1].images] == ["b_0000.nii.gz", "b_0001.nii.gz"]
    assert list_cases(tmp_path, "MRI").channels == ("MRI", "MRI")
    (tmp_path / "images/b_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="case b has channels 0001, expected 0000"):
        list_cases(tmp_path)


def test_cases_that_are_numbered_themselves_stay_cases(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/case_{i:04}.nii.gz" for i in range(3)), "labels/case_0001.nii.gz")
    assert [case.name for case in list_cases(tmp_path).cases] == ["case_0000", "case_0001", "case_0002"]


def test_files_that_contradict_each_other(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "labels/A.nii.gz")
    with pytest.raises(InputError, match=r"labels/A\.nii\.gz: no image A in .*nearest is a\.nii\.gz\); rename"):
        list_cases(tmp_path)
    touch(tmp_path, "images/a.nrrd")
    with pytest.raises(InputError, match="two volumes named a"):
        list_cases(tmp_path)
    (tmp_path / "images/a.nrrd").unlink()
    (tmp_path / "labels/A.nii.gz").unlink()
    touch(tmp_path, "images/b/ct.nii.gz")
    (case, _) = list_cases(tmp_path, "CT,PET").cases
    assert case.stacked  # one file for two channels: it is looked into when it is read


def test_what_a_case_says_of_itself(tmp_path: Path) -> None:
    entries = [
        {"image": "a.nii.gz", "annotated": ["liver", 2], "group": 7},
        {"image": "b.nii.gz", "annotated": "2"},
        {"image": "c.nii.gz"},
    ]
    labels = {"0": "background", "1": "liver", "2": "tumour", "255": "ignore"}
    regions = {"organ": [1, 2], "tumour": [2]}
    listing = list_cases(decathlon(tmp_path, entries, labels=labels, regions=regions))
    assert [(case.annotated, case.group) for case in listing.cases] == [((1, 2), "7"), ((2,), None), (None, None)]
    assert [(region.name, region.values, region.painted) for region in listing.regions] == [
        ("organ", (1, 2), 1),
        ("tumour", (2,), 2),
    ]
    assert listing.classes is not None
    assert listing.classes[255] == "ignore"
    assert not listing.soft
    assert list_cases(decathlon(tmp_path, entries[2:], label_type="soft")).soft
    for wrong, text in (
        ({"annotated": ["kidney"]}, r"case a: annotated is \['kidney'\], but 'kidney' is no class"),
        ({"annotated": [3]}, "'3' is no class"),
        ({"group": ["x"]}, "expected the name or number of a patient"),
    ):
        with pytest.raises(InputError, match=text):
            list_cases(decathlon(tmp_path, [{"image": "a.nii.gz", **wrong}], labels=labels))


def test_a_dataset_json_without_cases_describes_plain_folders(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")
    content = {"name": "mine", "labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    listing = list_cases(tmp_path)
    assert (listing.name, listing.channels, listing.classes) == ("mine", ("CT",), {0: "background", 1: "liver"})


def test_files_that_nnunet_v1_numbers_but_does_not_list_so(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/{name}_000{i}.nii.gz" for name in "ab" for i in (0, 1)))
    entries = [{"image": f"imagesTr/{name}.nii.gz"} for name in "abc"]
    listing = list_cases(decathlon(tmp_path, entries[:2], modality={"0": "T1", "1": "T2"}))
    assert [(case.name, [path.name for path in case.images]) for case in listing.cases] == [
        (name, [f"{name}_0000.nii.gz", f"{name}_0001.nii.gz"]) for name in "ab"
    ]
    with pytest.raises(InputError, match=r"case c has 1 image file\(s\), but there are 2"):
        list_cases(decathlon(tmp_path, entries, modality={"0": "T1", "1": "T2"}))


@pytest.mark.parametrize("name", ["p1/ct", "../x", "/abs/x", "a\\b", ".hidden", "..", "a\nb", "a\0b", "", "x" * 201])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    """Before a run of hours that ends where its first prediction is written, or outside of its folder."""
    listed = {"images": ["a.nii.gz"], "label": "b.nii.gz"}
    content = {"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz", "dataset": {name: listed, "b": listed}}
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"channel_names": {"0": "CT"}}))
    with pytest.raises(InputError, match=r"case name .*: files are named after it") as error:
        list_cases(tmp_path)
    assert "\n" not in str(error.value)
    if name and name.isprintable():  # what a cell of a table can hold
        (tmp_path / "cases.csv").write_text(f"image,name\na.nii.gz,{name}\nb.nii.gz,b\n")
        with pytest.raises(InputError, match=r"cases\.csv: case name .*: files are named after it"):
            list_cases(tmp_path / "cases.csv")


def test_images_outside_the_folder_of_the_table_get_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("image\n../x/ct.nii.gz\n/data/y/ct.nii.gz\nz/ct.nii.gz\n")
    assert [case.name for case in list_cases(tmp_path).cases] == ["x_ct", "data_y_ct", "z_ct"]
