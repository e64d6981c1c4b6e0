from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.check import check_data
from medseg.data.cohort import load_cohort
from medseg.data.findings import Finding, Findings
from medseg.errors import InputError


@pytest.fixture
def decathlon(tmp_path: Path, save) -> Path:
    """Two labelled cases, one to validate, one without a label."""
    entries = []
    for name in "abcd":
        save(tmp_path / f"images/{name}.nii.gz", [0, ord(name)])
        entries.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})
        save(tmp_path / f"labels/{name}.nii.gz", [0, 1, 2], np.uint8)
    del entries[-1]["label"]
    content = {"labels": {"background": 0, "liver": 1, "aorta": 2}, "modality": {"0": "CT"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a", "b", "d"], "validation": ["c"]}))
    return tmp_path


def texts(found: Findings, severity: str) -> list[str]:
    return [finding.text for finding in found.findings if finding.severity == severity]


def test_sound_data(decathlon: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = check_data(decathlon, on_case=lambda *counts: seen.append(counts))
    assert found.findings == ()
    assert found.errors == 0
    assert found.counts == {"labelled": 2, "unlabelled": 1, "validation": 1, "test": 0}
    assert found.range_of("shape") == ([4, 3, 2], [4, 3, 2])
    assert found.range_of("spacing") == ([1, 1, 3], [1, 1, 3])
    assert seen == [(i, 4) for i in range(5)]
    assert json.loads(json.dumps(found.as_json()))["cases"][0]["label_values"] == [0, 1, 2]


def test_every_error_of_every_case_is_found(decathlon: Path, save) -> None:
    images, labels = decathlon / "images", decathlon / "labels"
    save(images / "a.nii.gz", [0, float("nan")])
    save(labels / "a.nii.gz", [0, 1, 2, 9], np.uint8)
    save(labels / "b.nii.gz", [0, 1, 2], np.uint8, shape=(4, 3, 3))
    save(images / "c.nii.gz", shape=(4, 3, 2, 5))
    whole = save(images / "d.nii.gz", range(1000), shape=(10, 10, 10)).read_bytes()
    (images / "d.nii.gz").write_bytes(whole[:-10])
    found = check_data(decathlon)
    errors = [(finding.case, finding.text) for finding in found.findings if finding.severity == "error"]
    expected = [
        ("a", "12 of 24 voxels are NaN"),
        ("a", "label value 9 (6 voxels) is not of the task"),
        ("b", "shape (4, 3, 3) against (4, 3, 2)"),
        ("d", "truncated or damaged"),
        ("c", "4-D image of shape (4, 3, 2, 5)"),
    ]
    assert [case for case, _ in errors] == [case for case, _ in expected]
    for (_, text), (_, part) in zip(errors, expected, strict=True):
        assert part in text
    shapes = {case.name: case.shape for case in found.cases}
    assert shapes == {"a": None, "b": (4, 3, 2), "c": None, "d": None}


def test_warnings(decathlon: Path, save) -> None:
    for name, values in {"a": [0], "b": [0, 1], "c": [0, 2]}.items():
        save(decathlon / f"labels/{name}.nii.gz", values, np.uint8)
    (decathlon / "splits.json").write_text(json.dumps({"train": ["a", "b"], "validation": ["c"]}))
    found = check_data(decathlon)
    assert found.errors == 0
    warnings = texts(found, "warning")
    assert len(warnings) == 4
    assert "a.nii.gz: empty" in warnings[0]
    assert warnings[1].startswith("no training label has class 2 (aorta); it cannot be learnt")
    assert warnings[2].startswith("no validation label has class 1 (liver); it cannot be judged")
    assert "1 cases are in no part of the split (d, ...)" in warnings[3]


def test_plain_folders_find_their_classes(decathlon: Path, save) -> None:
    (decathlon / "dataset.json").unlink()
    (decathlon / "labels/d.nii.gz").unlink()
    assert check_data(decathlon).classes == {0: "background", 1: "class 1", 2: "class 2"}
    save(decathlon / "labels/b.nii.gz", [0, 255], np.uint8)
    found = check_data(decathlon)
    assert found.classes is None
    assert "label values 0, 1, 2, 255 found" in texts(found, "error")[0]


def test_a_label_that_is_listed_but_missing(decathlon: Path) -> None:
    (decathlon / "labels/a.nii.gz").unlink()
    assert "no such file" in texts(check_data(decathlon), "error")[0]


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cases found"):
        check_data(tmp_path)


def test_real_data_is_sound(real_data: Path) -> None:
    found = check_data(real_data / "sarcoma_ct_pet")
    assert found.findings == ()
    assert found.counts == {"labelled": 34, "unlabelled": 0, "validation": 6, "test": 0}


def entries(folder: Path, **more: Any) -> None:
    """Rewrites dataset.json with a field for each case by name, such as group={"a": "p1"}."""
    content = json.loads((folder / "dataset.json").read_text())
    for key, values in more.items():
        for entry in content["training"]:
            if (name := Path(entry["image"]).name[0]) in values:
                entry[key] = values[name]
    (folder / "dataset.json").write_text(json.dumps(content))


def only(found: Findings, severity: str) -> Finding:
    assert [finding.severity for finding in found.findings] == [severity], [f.text for f in found.findings]
    return found.findings[0]


def test_a_finding_says_where_what_and_what_to_do(decathlon: Path, save) -> None:
    save(decathlon / "labels/a.nii.gz", [0, 1, 2, 0.5])
    finding = only(check_data(decathlon), "error")
    assert finding.case == "a"
    assert finding.file == str(decathlon / "labels/a.nii.gz")
    assert finding.what == "label value 0.5 is not a whole number (6 voxels are not)"
    assert finding.todo == "resample labels with nearest neighbours"
    assert finding.text == f"{finding.file}: {finding.what}; {finding.todo}"


def test_one_image_under_two_names_is_found_by_its_content(decathlon: Path, save) -> None:
    whole = nib.load(save(decathlon / "images/a.nii.gz", range(24)))
    # the same voxels uncompressed, as whole numbers and with another axis order
    array = np.asarray(whole.dataobj).astype(np.int16)[::-1].transpose(1, 0, 2)
    turned = np.array([[0, -1.0, 0, 3], [1, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array, turned), decathlon / "images/d.nii.gz")
    finding = next(f for f in check_data(decathlon).findings if "same image" in f.what)
    assert finding.severity == "warning"
    assert "cases a, d" in finding.what
    (decathlon / "splits.json").write_text(json.dumps({"train": ["b", "d"], "validation": ["a"], "test": ["c"]}))
    leak = next(f for f in check_data(decathlon).findings if "same image" in f.what)
    assert leak.severity == "error"
    assert "are in train and validation of the split" in leak.what


def test_a_copy_that_a_drawn_split_may_part(decathlon: Path, save) -> None:
    """Whatever part the copies have with this seed, `medseg train --seed N` may have another."""
    (decathlon / "splits.json").unlink()
    for name in "ab":
        save(decathlon / f"images/{name}.nii.gz", range(24))
    whats = set()
    for seed in range(20):
        findings = [f for f in check_data(decathlon, seed=seed).findings if "same image" in f.what]
        assert [finding.severity for finding in findings] == ["error"]
        whats.add(findings[0].what.partition(": cases ")[2][len("a, b") :])
        if len(whats) == 2:
            break
    assert len(whats) == 2  # parted by this seed, and by another one
    assert any("another --seed" in what for what in whats)
    entries(decathlon, group={"a": "p1", "b": "p1"})
    assert [f.severity for f in check_data(decathlon).findings if "same image" in f.what] == ["warning"]
    (decathlon / "labels/c.nii.gz").unlink()
    content = json.loads((decathlon / "dataset.json").read_text())
    del content["training"][2]["label"], content["training"][0]["group"]
    (decathlon / "dataset.json").write_text(json.dumps(content))
    for name, values in {"a": [1, 2], "c": range(24), "d": range(24)}.items():  # two that only train
        save(decathlon / f"images/{name}.nii.gz", values)
    save(decathlon / "images/b.nii.gz", [3, 4])
    assert [f.severity for f in check_data(decathlon).findings if "same image" in f.what] == ["warning"]


def test_a_leak_within_a_fold_names_the_fold(decathlon: Path, save) -> None:
    for name in "ab":
        save(decathlon / f"images/{name}.nii.gz", range(24))
    folds = [{"train": ["c", "d"], "validation": ["a", "b"]}, {"train": ["b", "c"], "validation": ["a"]}]
    split = {"train": ["a", "b", "d"], "validation": ["c"]}
    (decathlon / "splits.json").write_text(json.dumps({**split, "folds": folds}))
    finding = only(check_data(decathlon), "error")
    assert "train and validation of fold 1: what is judged" in finding.what
    assert "fold 0" not in finding.what


def test_a_group_on_both_sides_of_the_split(decathlon: Path) -> None:
    entries(decathlon, group={"a": "p1", "c": "p1", "b": "p2", "d": "p2"})
    finding = only(check_data(decathlon), "error")
    assert finding.what.startswith("group p1 with cases a, c are in train and validation of the split")


def test_constant_images(decathlon: Path, save) -> None:
    save(decathlon / "images/a.nii.gz", [7])
    save(decathlon / "images/d.nii.gz", [7])  # no copy of a: there is nothing in them
    found = check_data(decathlon)
    assert [(f.severity, f.case, f.what) for f in found.findings] == [
        ("error", "a", "constant, all voxels are 7"),
        ("error", "d", "constant, all voxels are 7"),
    ]


def test_channels(tmp_path: Path, save) -> None:
    for name in "ab":
        save(tmp_path / f"{name}_0000.nii.gz", [0, ord(name)])
        save(tmp_path / f"{name}_0001.nii.gz", [1, 1, ord(name)])
        save(tmp_path / f"{name}.nii.gz", [0, 1], np.uint8)
    save(tmp_path / "a_0001.nii.gz", [7])
    save(tmp_path / "b_0001.nii.gz", [1, 2, 3], shape=(4, 3, 3))
    rows = [f"{name}_0000.nii.gz;{name}_0001.nii.gz,{name}.nii.gz" for name in "ab"]
    (tmp_path / "cases.csv").write_text("\n".join(["image,label", *rows]))
    found = check_data(tmp_path)
    constant, resampled = sorted((f for f in found.findings if f.case), key=lambda f: f.case or "")
    assert (constant.severity, constant.what) == ("warning", "constant, all voxels are 7")
    assert resampled.severity == "warning"
    assert "resampled linearly onto the grid of" in resampled.what
    assert "shape (4, 3, 3) against (4, 3, 2)" in resampled.what
    (tmp_path / "a_0001.nii.gz").write_bytes((tmp_path / "a_0000.nii.gz").read_bytes())
    assert "another channel of the case" in check_data(tmp_path).findings[-1].what


def test_orientations_and_spacings(decathlon: Path, save) -> None:
    save(decathlon / "images/d.nii.gz", [0, 100], affine=np.diag([-1, 1, 3, 1.0]))
    finding = only(check_data(decathlon), "warning")
    assert "RAS in 3 cases, LAS in 1 cases (d)" in finding.what
    save(decathlon / "images/d.nii.gz", [0, 100], affine=np.diag([1, 1, 18, 1.0]))
    assert "spacing 1 x 1 x 18 mm, expected 0.05 to 15 mm" in only(check_data(decathlon), "warning").what
    # the long axis lies elsewhere in the file, but not in the patient
    turned = np.array([[0, 1.0, 0, 0], [0, 0, 1, 0], [6, 0, 0, 0], [0, 0, 0, 1]])
    save(decathlon / "images/d.nii.gz", [0, 100], affine=turned)
    assert "spacing" not in only(check_data(decathlon), "warning").what
    save(decathlon / "images/d.nii.gz", [0, 100], affine=np.diag([6, 1, 3, 1.0]))
    assert "the median of the dataset is 1 x 1 x 3 mm" in only(check_data(decathlon), "warning").what


def test_values_that_a_case_is_not_annotated_for(decathlon: Path) -> None:
    entries(decathlon, annotated={"a": ["liver"], "b": ["liver", "aorta"]})
    finding = only(check_data(decathlon), "warning")
    assert (finding.case, "label value 2, which is not among those" in finding.what) == ("a", True)


def test_soft_labels(decathlon: Path, save) -> None:
    content = json.loads((decathlon / "dataset.json").read_text())
    (decathlon / "dataset.json").write_text(json.dumps({**content, "label_type": "soft"}))
    for name in "abc":
        save(decathlon / f"labels/{name}.nii.gz", [1, 0, 0, 1, 0, 0.3], shape=(4, 3, 2, 2))
    found = check_data(decathlon)
    assert found.findings == ()
    assert found.cases[0].label_values == (0, 1, 2)
    save(decathlon / "labels/a.nii.gz", [1, 0.5], shape=(4, 3, 2, 2))
    assert "add up to 1.5" in only(check_data(decathlon), "error").what


def test_a_split_that_cannot_be_used_does_not_end_the_check(decathlon: Path, save) -> None:
    save(decathlon / "images/b.nii.gz", [0, float("inf")])
    (decathlon / "splits.json").write_text(json.dumps({"train": ["a"], "validation": ["x"]}))
    errors = texts(check_data(decathlon), "error")
    assert "12 of 24 voxels are NaN or infinite" in errors[0]
    assert "names 'x', which is no case there" in errors[1]


def test_a_missing_image_is_a_finding(decathlon: Path) -> None:
    (decathlon / "images/b.nii.gz").unlink()
    finding = only(check_data(decathlon), "error")
    assert (finding.case, finding.what) == ("b", "no such file")


def test_labels_without_an_image_are_all_listed_with_the_nearest(tmp_path: Path, save) -> None:
    for name in ("case_1", "case_2", "case_3", "case_4"):
        save(tmp_path / f"images/{name}.nii.gz", [0, ord(name[-1])])
    for name in ("case_1", "case_2", "Case_3", "case_4_seg", "xyz"):
        save(tmp_path / f"labels/{name}.nii.gz", [0, 1], np.uint8)
    found = check_data(tmp_path)
    assert found.counts["unlabelled"] == 2
    assert [(f.file, f.what.rpartition(" (")[2]) for f in found.findings if f.severity == "error"] == [
        (f"{tmp_path}/labels/Case_3.nii.gz", "the nearest is case_3.nii.gz)"),
        (f"{tmp_path}/labels/case_4_seg.nii.gz", "the nearest is case_4.nii.gz)"),
        (f"{tmp_path}/labels/xyz.nii.gz", "there is case_1.nii.gz)"),
    ]
    with pytest.raises(InputError) as error:
        load_cohort(tmp_path)
    assert "labels/Case_3.nii.gz: no image Case_3" in str(error.value)
    assert "and so for 2 more; rename or remove it" in str(error.value)
    assert f"`medseg data check {tmp_path}` lists all" in str(error.value)


def test_channels_are_still_found_beside_such_a_label(tmp_path: Path, save) -> None:
    for name in "abc":
        save(tmp_path / f"images/{name}_0000.nii.gz", [0, ord(name)])
        save(tmp_path / f"images/{name}_0001.nii.gz", [1, ord(name)])
    for name in ("a", "b", "C_0000"):
        save(tmp_path / f"labels/{name}.nii.gz", [0, 1], np.uint8)
    found = check_data(tmp_path)
    assert len(found.channels) == 2
    (line,) = texts(found, "error")
    assert "no image C_0000 in" in line
    assert "the nearest is c_0000.nii.gz" in line
