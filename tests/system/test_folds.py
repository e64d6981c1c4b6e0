"""Folds are trained, skipped where they are done, and collected."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import yaml

from medseg.cli.folds import launch_fold, train_folds
from medseg.engine.folds import collect_folds
from medseg.errors import InputError
from medseg.metrics.report import summarise
from medseg.tracking import default_uri, list_runs

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def data(tiny_cohort: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_cohort, tmp_path / "data"))
    splits = json.loads((folder / "splits.json").read_text())
    one, two = [name for names in splits["labelled"].values() for name in names][:2]
    splits["folds"] = [{"train": [one], "validation": [two]}, {"train": [two], "validation": [one]}]
    del splits["labelled"]
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def test_folds_are_trained_and_collected(medseg: Any, data: Path, tmp_path: Path) -> None:
    small = ("--method", "supervised", "--network", "small", "--set", "val_interval=2")
    command = ("train", "--data", data, *small, "--steps", 2, "--output", tmp_path / "cv")
    code, out, err = medseg(*command, "--folds", 2)
    assert code == 0, err
    assert "cross-validation, 2 folds: 2 cases" in out
    record = json.loads((tmp_path / "cv" / "cross_validation.json").read_text())
    assert sorted(record["last"]["folds"].values()) == [0, 1]
    for number in range(2):
        own = json.loads((tmp_path / "cv" / f"fold_{number}" / "metrics.json").read_text())["validation"]["last"]
        for case, results in own["cases"].items():
            assert record["last"]["cases"][case] == results
            assert record["last"]["folds"][case] == number
        assert json.loads((tmp_path / "cv" / f"fold_{number}" / "run.json").read_text())["params"]["fold"] == number
    assert sorted(run.tags["fold"] for run in list_runs(default_uri())) == ["0", "1"]
    members = yaml.safe_load((tmp_path / "cv" / "model" / "ensemble.yaml").read_text())["members"]
    assert members == ["fold_0", "fold_1"]
    for member in members:
        weights = tmp_path / "cv" / "model" / member / "model.safetensors"
        assert weights.read_bytes() == (tmp_path / "cv" / member / "model" / "model.safetensors").read_bytes()
    # predict takes them as one network
    image = next((data / "imagesTr").glob("*.nii.gz"))
    code, _, err = medseg("predict", tmp_path / "cv" / "model", image, "--output", tmp_path / "out")
    assert code == 0, err
    assert nib.load(tmp_path / "out" / image.name).shape == nib.load(image).shape
    _judge_ensemble(medseg, tmp_path / "cv")
    # what is done is not done again
    before = (tmp_path / "cv" / "fold_0" / "metrics.json").stat().st_mtime_ns
    code, out, err = medseg(*command, "--folds", 2)
    assert code == 0, err
    assert "fold 0: done already" in out
    assert (tmp_path / "cv" / "fold_0" / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="folds must not overlap"):
        collect_folds(tmp_path / "x", [tmp_path / "cv" / "fold_0"] * 2)


@pytest.mark.slow
def test_folds_are_trained_by_several_processes_each(data: Path, tmp_path: Path) -> None:
    small = ("--method", "supervised", "--network", "small", "--set", "val_interval=2", "--device", "cpu")
    words = ("train", "--data", data, *small, "--steps", 2, "--output", "cv", "--processes", 2, "--folds", 2)
    command = [sys.executable, "-m", "medseg", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cross-validation, 2 folds: 2 cases") == 1
    for number in range(2):
        params = json.loads((tmp_path / "cv" / f"fold_{number}" / "run.json").read_text())["params"]
        assert (params["fold"], params["processes"]) == (number, 2)
    assert (tmp_path / "cv" / "fold_0" / "plan.yaml").read_text() == (
        tmp_path / "cv" / "fold_1" / "plan.yaml"
    ).read_text()


def test_a_command_for_all_folds_becomes_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    def launch(arguments: list[str], processes: int) -> int:
        launched.append((arguments, processes))
        return 0

    monkeypatch.setattr("medseg.cli.folds.launch", launch)
    for option in (["--folds", "2"], ["--folds=2"]):
        fold = {"fold": 1, "output_dir": "cv/fold_1", "run_name": "a: b", "plan_file": "cv/fold_0/plan.yaml"}
        launch_fold(["train", *option, "--seed", "3"], fold, 4)
    words = ["train", "--seed", "3", "--fold", "1", "--output", "cv/fold_1", "--set", 'run_name="a: b"']
    assert launched == [([*words, "--plan", "cv/fold_0/plan.yaml"], 4)] * 2
    monkeypatch.setattr("medseg.cli.folds.launch", lambda *_: 143)
    with pytest.raises(SystemExit) as end:
        launch_fold(["train"], {"resume": "cv/fold_1"}, 4)
    assert end.value.code == 143


def test_a_fold_that_was_killed_before_its_first_checkpoint_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, asked = tmp_path / "cv" / "fold_0", []
    killed.mkdir(parents=True)
    (killed / "config.yaml").touch()
    monkeypatch.setattr("medseg.engine.folds.collect_folds", lambda *_: {"best": summarise({})})
    train_folds(2, tmp_path / "cv", data, asked.append)
    assert [changes.get("resume", changes.get("fold")) for changes in asked] == [str(killed), 1]


def _judge_ensemble(medseg: Any, folder: Path) -> None:
    """The test cases, which the folds share, are judged once by all of them together."""
    code, _, err = medseg("evaluate", folder, "--split", "test", "--device", "cpu")
    assert code == 0, err
    assert "judged for the first time" in err
    found = json.loads((folder / "test.json").read_text())
    runs = [json.loads((folder / f"fold_{number}" / "run.json").read_text()) for number in range(2)]
    assert list(found["cases"]) == [case["name"] for case in runs[0]["cases"]["test"]]
    assert len(found["data_digest"]) == 16
    for run in runs:
        (tracked,) = list_runs(run["tracking"]["uri"], ids=[run["tracking"]["run_id"]])
        assert tracked.tags["test_judged"] == "1"
    code, _, err = medseg("evaluate", folder, "--split", "validation")
    assert code == 2
    assert "cross_validation.json" in err
    (folder / "cross_validation.json").rename(folder / "away.json")
    code, _, err = medseg("evaluate", folder, "--split", "test", "--again")
    assert code == 2
    assert "a folder of several runs" in err
    (folder / "away.json").rename(folder / "cross_validation.json")


def test_folds_of_an_overlay_are_counted(
    medseg: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path))
    data.rename(tmp_path / "hippocampus")
    for given in (("--task", "hippocampus"), ("--set", f"dataset_dir={tmp_path / 'hippocampus'}")):
        code, _, err = medseg("train", *given, "--steps", 2, "--folds", 3, "--output", tmp_path / "a")
        assert code == 2
        assert "--folds 3 asked for, but there are 2" in err


def test_folds_that_are_not_there(medseg: Any, data: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--folds", 3, "--output", tmp_path / "a"), "but there are 2; draw them with"),
        (("--folds", 1, "--output", tmp_path / "a"), "at least 2"),
        (("--folds", 2), "give --output"),
        (("--fold", 7, "--output", tmp_path / "a"), "no fold 7"),
    ):
        code, _, err = medseg("train", "--data", data, "--steps", 2, *arguments)
        assert code == 2, arguments
        assert said in err
