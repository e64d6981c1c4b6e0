from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medseg.errors import InputError
from medseg.report.evaluation import (
    Pair,
    check_grids,
    class_names,
    evaluate_pairs,
    pair_files,
    parse_classes,
    write_csv,
    write_json,
)

SPACING = (0.7, 1.0, 3.0)


def _write(path: Path, labels: np.ndarray, shift_mm: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    affine[0, 3] = shift_mm
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), path)
    return path


def _box(label: int = 1, start: int = 2) -> np.ndarray:
    labels = np.zeros((12, 10, 8), dtype=np.uint8)
    labels[start : start + 4, 2:6, 2:6] = label
    return labels


def test_folders_are_paired_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii"):
        _write(tmp_path / "ref" / name, _box())
    for name in ("a.nii.gz", "b.nii", "c.nii", ".hidden.nii"):
        _write(tmp_path / "pred" / name, _box())
    (tmp_path / "ref" / "notes.txt").write_text("x")
    pairs, extra = pair_files(tmp_path / "pred", tmp_path / "ref")
    assert pairs == [
        Pair("a", tmp_path / "pred" / "a.nii.gz", tmp_path / "ref" / "a.nii"),
        Pair("b", tmp_path / "pred" / "b.nii", tmp_path / "ref" / "b.nii.gz"),
    ]
    assert extra == ["c"]


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    prediction, reference = _write(tmp_path / "x.nii", _box()), _write(tmp_path / "case_7.nii.gz", _box())
    assert pair_files(prediction, reference) == ([Pair("case_7", prediction, reference)], [])


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    for i in range(14):
        _write(tmp_path / "ref" / f"case_{i:02}.nii", _box())
    _write(tmp_path / "pred" / "case_03.nii", _box())
    with pytest.raises(InputError, match="no prediction for 13 of the 14 references") as error:
        pair_files(tmp_path / "pred", tmp_path / "ref")
    assert "case_00, case_01, case_02, case_04" in str(error.value)
    assert "case_10 and 3 more" in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_places(tmp_path: Path) -> None:
    file = _write(tmp_path / "a" / "x.nii", _box())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        pair_files(tmp_path / "nowhere", file)
    with pytest.raises(InputError, match=r"a: a folder, while .*x\.nii is a file"):
        pair_files(file, tmp_path / "a")
    with pytest.raises(InputError, match="empty: no volumes"):
        pair_files(tmp_path / "a", empty)
    _write(tmp_path / "a" / "x.nii.gz", _box())
    with pytest.raises(InputError, match=r"x\.nii\.gz: the same case as x\.nii"):
        pair_files(tmp_path / "a", tmp_path / "a")


def test_grids_must_be_equal_and_the_message_has_the_numbers(tmp_path: Path) -> None:
    reference = _write(tmp_path / "ref.nii", _box())
    other_shape = _write(tmp_path / "p1.nii", _box()[:-1])
    shifted = _write(tmp_path / "p2.nii", _box(), shift_mm=0.35)
    check_grids([Pair("x", reference, reference)])
    with pytest.raises(InputError, match=r"p1.nii: another grid.*\(11, 10, 8\) against \(12, 10, 8\)"):
        check_grids([Pair("x", other_shape, reference)])
    with pytest.raises(InputError, match=r"p2.nii: another grid.*0\.35 mm"):
        check_grids([Pair("x", shifted, reference)])


def test_judged_in_mm_of_the_reference_across_formats(tmp_path: Path) -> None:
    reference = _write(tmp_path / "ref.nii.gz", _box())
    image = SimpleITK.ReadImage(str(_write(tmp_path / "pred.nii", _box(start=4))))
    SimpleITK.WriteImage(image, str(tmp_path / "pred.nrrd"))
    pairs, _ = pair_files(tmp_path / "pred.nrrd", reference)
    check_grids(pairs)
    (result,) = evaluate_pairs(pairs, {1: "box"}).results["ref"]
    assert result.dice == pytest.approx(0.5)
    assert result.hd95_mm == pytest.approx(2 * 0.7)
    assert result.reference_ml == pytest.approx(64 * 2.1 / 1000)


def _folders(tmp_path: Path) -> tuple[Path, Path]:
    """Case a: 1 half right. Case b: 1 right, 2 missed. 3 is only in a prediction."""
    _write(tmp_path / "ref" / "a.nii", _box())
    _write(tmp_path / "pred" / "a.nii", _box(start=4))
    reference = _box()
    reference[9, 9, 7] = 2
    prediction = _box()
    prediction[0, 0, 0] = 3
    _write(tmp_path / "ref" / "b.nii", reference)
    _write(tmp_path / "pred" / "b.nii", prediction)
    return tmp_path / "pred", tmp_path / "ref"


def test_without_classes_every_value_of_any_file_is_judged_in_every_case(tmp_path: Path) -> None:
    pairs, _ = pair_files(*_folders(tmp_path))
    evaluation = evaluate_pairs(pairs)
    assert dict(evaluation.classes) == {1: "1", 2: "2", 3: "3"}
    assert [[r.class_name for r in case] for case in evaluation.results.values()] == [["1", "2", "3"]] * 2
    assert [math.isnan(r.dice) for r in evaluation.results["a"]] == [False, True, True]
    assert [r.missed for r in evaluation.results["b"]] == [False, True, True]
    assert evaluation.summary.dice.mean == pytest.approx((0.75 + 0 + 0) / 3)
    assert evaluation.not_judged == ()
    # the same as when the classes are said
    assert repr(evaluate_pairs(pairs, {1: "1", 2: "2", 3: "3"}).results) == repr(evaluation.results)


def test_classes_are_called_as_predictions_say(tmp_path: Path) -> None:
    predictions, references = _folders(tmp_path)

    def said(case: str, **classes: tuple[int, list[int]]) -> None:
        found = {name: {"value": value, "values": values} for name, (value, values) in classes.items()}
        (predictions / f"{case}.json").write_text(json.dumps({"classes": found}))

    def named() -> list[str]:
        pairs, _ = pair_files(predictions, references)
        return list(evaluate_pairs(pairs, names=class_names(pair.prediction for pair in pairs)).classes.values())

    said("a", liver=(1, [1]), kidney=(2, [2]))
    assert named() == ["liver", "kidney", "3"]
    (predictions / "b.json").write_text('{"RepetitionTime": 2}')  # what BIDS keeps beside an image
    assert named() == ["liver", "kidney", "3"]
    said("b", liver=(1, [1]), spleen=(2, [2]), stone=(3, [3]))
    assert named() == ["liver", "2", "stone"]
    said("b", liver=(3, [3]))
    assert named() == ["1", "kidney", "3"]
    said("b", tumour=(3, [2, 3]))
    assert named() == ["liver", "kidney", "3"]


def test_with_classes_other_values_are_not_judged_but_named(tmp_path: Path) -> None:
    evaluation = evaluate_pairs(pair_files(*_folders(tmp_path))[0], {1: "liver"})
    assert evaluation.not_judged == (2, 3)
    assert [r.class_name for r in evaluation.results["b"]] == ["liver"]


def test_only_background_is_an_input_error(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.nii", _box(0))
    with pytest.raises(InputError, match=r"x\.nii: only background"):
        evaluate_pairs(pair_files(path, path)[0])
    assert math.isnan(evaluate_pairs(pair_files(path, path)[0], {1: "liver"}).summary.dice.mean)


def test_json_and_csv_hold_every_case_and_class(tmp_path: Path) -> None:
    pred, ref = _folders(tmp_path)
    evaluation = evaluate_pairs(pair_files(pred, ref)[0], {1: "liver, left", 2: "cyst"})
    write_json(tmp_path / "x.json", evaluation)
    write_csv(tmp_path / "x.csv", evaluation)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["classes"] == {"1": "liver, left", "2": "cyst"}
    assert record["cases"]["a"]["reference"] == str(ref / "a.nii")
    assert record["cases"]["a"]["classes"][1]["dice"] is None
    assert record["cases"]["b"]["classes"][1]["missed"] is True
    assert record["summary"]["dice"]["mean"] == pytest.approx(0.375)
    assert record["not_judged"] == [3]
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class_name"]) for row in rows] == [
        ("a", "liver, left"),
        ("a", "cyst"),
        ("b", "liver, left"),
        ("b", "cyst"),
    ]
    assert (rows[0]["dice"], rows[1]["dice"], rows[3]["dice"]) == ("0.5", "", "0.0")
    assert rows[3]["missed"] == "True"


def test_classes_are_parsed() -> None:
    assert parse_classes("2=left atrium, 1 = a=b,7") == {2: "left atrium", 1: "a=b", 7: "7"}


@pytest.mark.parametrize("text", ["", "liver", "liver=1", "0=background", "1=a,1=b", "1=a,2=a", "1=a,", "-1=x"])
def test_classes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--classes"):
        parse_classes(text)
