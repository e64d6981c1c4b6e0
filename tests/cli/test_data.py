from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from medseg.cli.data import app
from medseg.errors import InputError

PHANTOMS = ["--labelled", "2", "--unlabelled", "1", "--validation", "1", "--test", "0"]


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_phantoms_are_written_once_and_sound(tmp_path: Path) -> None:
    folder = tmp_path / "phantoms"
    first = run("phantoms", folder, *PHANTOMS, "--seed", 3)
    assert first.exit_code == 0, first.output
    assert first.output == f"{folder}: 2 labelled, 1 unlabelled, 1 validation, 0 test phantoms written\n"
    assert run("phantoms", folder, *PHANTOMS, "--seed", 3).output.endswith("there already\n")
    checked = run("check", folder)
    assert checked.exit_code == 0, checked.output
    for text in ("phantoms", "1 liver, 2 kidneys, 3 aorta", "CT", "0 errors, 0 warnings in 4 cases"):
        assert text in checked.output


def test_names_in_brackets_are_shown(tmp_path: Path) -> None:
    """Rich takes `[left]` for markup, and ends with an error at `[/left]`."""
    run("phantoms", tmp_path, *PHANTOMS)
    listing = json.loads((tmp_path / "dataset.json").read_text())
    listing["name"] = "study [/left]"
    listing["labels"]["1"] = "liver [left]"
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    checked = run("check", tmp_path)
    assert checked.exit_code == 0, checked.exception
    for text in ("study [/left]", "1 liver [left]"):
        assert text in checked.output


def test_json_and_exit_code(tmp_path: Path) -> None:
    run("phantoms", tmp_path, *PHANTOMS)
    sound = run("check", tmp_path, "--json", "--modality", "MRI")
    assert sound.exit_code == 0, sound.output
    assert json.loads(sound.stdout)["channels"] == ["MRI"]
    image = tmp_path / "imagesTr/phantom_001.nii.gz"
    image.write_bytes(b"no volume")
    broken = run("check", tmp_path, "--json")
    assert broken.exit_code == 1
    content = json.loads(broken.stdout)
    assert content["errors"] == 1
    assert content["findings"][0]["case"] == "phantom_001"
    listed = run("check", tmp_path)
    assert listed.exit_code == 1
    assert f"error: {image}: not readable as NIfTI" in listed.output


def test_bad_input_is_one_line_for_main(tmp_path: Path) -> None:
    for words in (("check", tmp_path / "absent"), ("phantoms", tmp_path / "a", "--labelled", 0)):
        result = run(*words)
        assert isinstance(result.exception, InputError)
        assert "\n" not in str(result.exception)


def test_the_json_of_a_check_goes_into_a_file(tmp_path: Path) -> None:
    run("phantoms", tmp_path / "data", *PHANTOMS)
    result = run("check", tmp_path / "data", "--output", tmp_path / "check.json")
    assert result.exit_code == 0
    assert "0 errors" in result.output
    assert json.loads((tmp_path / "check.json").read_text())["counts"]["labelled"] == 2


def test_a_split_is_written_once_and_read_back(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"images/{name}.nii.gz").touch()
        (tmp_path / f"labels/{name}.nii.gz").touch()
    (tmp_path / "images/z.nii.gz").touch()
    first = run("split", tmp_path, "--validation", 2, "--test", "0.125", "--folds", 2, "--budgets", "1,3", "--seed", 5)
    assert first.exit_code == 0, first.output
    assert first.output.endswith(
        "splits.json: 6 train (5 labelled), 2 validation, 1 test, 2 folds (train on 3, 4 labelled), budgets 1, 3\n"
    )
    text = (tmp_path / "splits.json").read_text()
    again = run("split", tmp_path, "--seed", 6)
    assert isinstance(again.exception, InputError)
    assert "is there already; give --overwrite" in str(again.exception)
    assert (tmp_path / "splits.json").read_text() == text
    assert run("split", tmp_path, "--seed", 6, "--overwrite").exit_code == 0
    assert list(json.loads((tmp_path / "splits.json").read_text())) == ["train", "validation", "test"]
    for options, said in (
        (("--validation", "many"), "--validation many: expected a share such as 0.2"),
        (("--test", "1.5"), "--test 1.5"),
        (("--test", "nan"), "--test nan"),
        (("--validation", "inf"), "--validation inf: expected a share"),
        (("--validation", "1e999"), "--validation 1e999: expected a share"),
        (("--budgets", "3,x"), "'x' is no number of cases"),
        (("--folds", "9"), "9 folds asked for, expected 2 to 8"),
    ):
        failed = run("split", tmp_path, "--output", tmp_path / "other.json", *options)
        assert isinstance(failed.exception, InputError)
        assert said in str(failed.exception)
        assert not (tmp_path / "other.json").exists()
