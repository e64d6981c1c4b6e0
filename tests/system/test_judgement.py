"""Test cases are judged once, and on the record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_training_says_nothing_of_test_cases(run: Path) -> None:
    test = [case["name"] for case in json.loads((run / "run.json").read_text())["cases"]["test"]]
    assert len(test) == 1
    for path in run.rglob("*"):
        if path.is_file() and path.name != "run.json" and path.suffix in (".json", ".jsonl", ".yaml"):
            assert test[0] not in path.read_text(), path
        assert test[0] not in path.name


def test_test_cases_are_judged_once(medseg: Any, run: Path) -> None:
    code, out, err = medseg("evaluate", run, "--split", "test", "--device", "cpu")
    assert code == 0, err
    assert "judged for the first time" in err
    record = json.loads((run / "test.json").read_text())
    assert list(record["cases"]) == [c["name"] for c in json.loads((run / "run.json").read_text())["cases"]["test"]]
    assert len(record["judged"]) == 1
    assert "surface_dice" in record["summary"]["classes"][0]

    from mlflow import MlflowClient

    tracking = json.loads((run / "run.json").read_text())["tracking"]
    tracked = MlflowClient(tracking["uri"]).get_run(tracking["run_id"])
    assert tracked.data.tags["test_judged"] == "1"
    assert "test/dice" in tracked.data.metrics

    # a second call shows what is recorded: it does not even need the data
    record["cases"][next(iter(record["cases"]))][0]["dice"] = 7.777
    (run / "test.json").write_text(json.dumps(record))
    code, out, err = medseg("evaluate", run, "--split", "test")
    assert code == 0, err
    assert "7.777" in out
    assert "(judged once in all); --again" in err
    assert "not the one that was judged" not in err
    plan = run / "model" / "plan.yaml"
    plan.write_text(plan.read_text().replace("postprocessing: {}", "postprocessing: {1: {largest: true}}"))
    assert "not the one that was judged" in medseg("evaluate", run, "--split", "test")[2]
    code, out, err = medseg("evaluate", run, "--split", "test", "--again")
    assert code == 0, err
    assert "7.777" not in out
    assert len(json.loads((run / "test.json").read_text())["judged"]) == 2


def test_validation_cases_give_what_training_found(medseg: Any, run: Path, tmp_path: Path) -> None:
    code, _, err = medseg("evaluate", run, "--split", "validation", "--json", tmp_path / "found.json")
    assert code == 0, err
    found = json.loads((tmp_path / "found.json").read_text())["cases"]
    trained = json.loads((run / "metrics.json").read_text())["validation"]["best"]["cases"]
    assert {case: of_case["classes"] for case, of_case in found.items()} == trained
    assert not (run / "test.json").exists()


def test_data_that_moved(medseg: Any, run: Path, tmp_path: Path) -> None:
    text = (run / "run.json").read_text()
    data = Path(json.loads(text)["cases"]["test"][0]["images"][0]).parents[1]
    (run / "run.json").write_text(text.replace(str(data), "/nowhere"))
    code, _, err = medseg("evaluate", run, "--split", "test")
    assert code == 2
    assert "--data" in err
    code, _, err = medseg("evaluate", run, "--split", "test", "--data", data)
    assert code == 0, err


def test_wrong_input_is_one_line(medseg: Any, run: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ((run, "--split", "train"), "validation or test"),
        ((tmp_path / "x", "--split", "test"), "no such file; expected the folder of a run"),
        ((tmp_path, "--split", "test"), "a folder of several runs"),
        ((run,), "give REF"),
        ((run, run, "--split", "test"), "leave out REF"),
        ((run, "--split", "test", "--classes", "1=liver"), "--classes 1=liver: --split judges the run's own"),
        ((run, "--split", "test", "--output", run / "run.json"), "not a writable folder"),
        ((run, run, "--again"), "--split test"),
    ):
        code, _, err = medseg("evaluate", *arguments)
        assert code == 2, arguments
        assert said in err
        assert len(err.strip().splitlines()) == 1
    assert not (run / "test.json").exists()
