from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from medseg.data.check import Findings, check_data
from medseg.errors import InputError

DATA = Path(os.environ.get("MEDSEG_DATA", "../shared/data"))


@pytest.fixture
def decathlon(tmp_path: Path, save) -> Path:
    """Two labelled cases, one to validate, one without a label."""
    entries = []
    for name in "abcd":
        save(tmp_path / f"images/{name}.nii.gz")
        entries.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})
        save(tmp_path / f"labels/{name}.nii.gz", [0, 1, 2], np.uint8)
    del entries[-1]["label"]
    content = {"labels": {"background": 0, "liver": 1, "aorta": 2}, "modality": {"0": "CT"}, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a", "b", "d"], "validation": ["c"]}))
    return tmp_path


def texts(found: Findings, level: str) -> list[str]:
    return [finding.text for finding in found.findings if finding.level == level]


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
    errors = [(finding.case, finding.text) for finding in found.findings if finding.level == "error"]
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
    assert warnings[1:3] == ["no training label has class 2 (aorta)", "no validation label has class 1 (liver)"]
    assert "1 cases are in no part of the split" in warnings[3]


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


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes in {DATA} (set MEDSEG_DATA)")
def test_real_data_is_sound() -> None:
    found = check_data(DATA / "sarcoma_ct_pet")
    assert found.findings == ()
    assert found.counts == {"labelled": 34, "unlabelled": 0, "validation": 6, "test": 0}
