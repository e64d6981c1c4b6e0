"""Options of `medseg train` that change what it begins with, reads and writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.engine import load_checkpoint

SMALL = ("--network", "small", "--method", "supervised", "--set", "val_interval=2")

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_fine_tuning_of_other_classes_offline_goes_on_without_its_source(
    medseg: Any, tiny_cohort: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(tiny_cohort, tmp_path / "data"))
    listing = json.loads((data / "dataset.json").read_text())
    listing["labels"][str(len(listing["labels"]))] = "spleen"
    (data / "dataset.json").write_text(json.dumps(listing))
    source, run = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_run / "model", source)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    options = ("--data", data, *SMALL, "--steps", 2, "--init-from", source, "--output", run)
    code, _, err = medseg("train", *options)
    assert code == 2
    assert "or train with --offline" in err
    code, out, err = medseg("train", *options, "--offline")
    assert code == 0, err
    assert f"Starts from {source}; fresh because of another number of classes: classifier.conv.conv" in out
    assert json.loads((run / "mlflow.json").read_text())["offline"] is True
    shutil.rmtree(source)
    code, out, err = medseg("train", "--resume", run, "--steps", 3)
    assert code == 0, err
    assert "Starts from" not in out
    assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == 3


def test_a_run_goes_on_without_cases_that_cannot_be_read(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_cohort, tmp_path / "data"))
    splits = json.loads((data / "splits.json").read_text())
    labelled = [name for names in splits["labelled"].values() for name in names][:2]
    gone = next(name for name in splits["train"] if name not in labelled)
    files = {name: next((data / "imagesTr").glob(f"{name}.*")) for name in (*labelled, *splits["train"])}
    files[gone].unlink()
    torn = files[labelled[0]]
    torn.write_bytes(torn.read_bytes()[:-2000])
    options = ("--data", data, "--network", "small", "--set", "val_interval=2", "--steps", 2)
    code, _, err = medseg("train", *options, "--output", tmp_path / "a")
    assert code == 2
    assert f"{files[gone]}: no such file" in err
    code, out, err = medseg("train", *options, "--skip-bad", "--output", tmp_path / "b")
    assert code == 0, err
    assert f"case {gone} is left out: {files[gone]}: no such file" in err
    assert f"Cases left out that could not be read: 1 ({labelled[0]})" in out
    validation = next((data / "imagesTr").glob(f"{splits['validation'][0]}.*"))
    validation.unlink()
    code, _, err = medseg("train", *options, "--skip-bad", "--output", tmp_path / "c")
    assert code == 2
    assert f"{validation}: no such file" in err


def test_null_is_a_value_that_can_be_set(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    flagship = ("--method", "consistent_copy_paste", "--network", "small", "--steps", 1, "--set", "method#ramp#start=0")
    nulls = ("--set", "method#box=null", "--set", "handlers#checkpoints#every_minutes=null")
    code, _, err = medseg("train", "--data", tiny_cohort, *flagship, *nulls, "--output", tmp_path / "run")
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["method"]["box"] is None
    assert config["handlers"]["checkpoints"]["every_minutes"] is None
    assert config["method"]["ramp"]["start"] == 0


def test_the_demo_trains_on_phantoms_that_it_writes(medseg: Any, tiny_cohort: Path) -> None:
    code, _, err = medseg("train", "--demo", "--data", tiny_cohort)
    assert (code, err.count("\n")) == (2, 1)
    assert "--demo trains on phantoms" in err
    code, out, err = medseg("train", "--demo", "--network", "small", "--dry-run")
    assert code == 0, err
    assert Path("runs/phantoms/dataset.json").is_file()
    assert "4 labelled, 12 unlabelled" in out
