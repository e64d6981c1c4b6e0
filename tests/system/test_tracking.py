"""Runs that MLflow has are listed, found and brought here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.tracking import fetch_run, list_runs


@pytest.fixture(scope="module")
def tracking(tiny_run: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((tiny_run / "run.json").read_text())["tracking"]
    return found


def test_a_run_is_found_by_experiment_tag_and_id(tracking: dict[str, str]) -> None:
    uri, run_id = tracking["uri"], tracking["run_id"]
    (run,) = list_runs(uri)
    assert run.id == run_id
    assert (run.status, run.experiment, run.name) == ("FINISHED", "default", "run")
    assert {"method": "pseudo_label", "loss": "dice_ce", "budget": "all", "seed": "0"}.items() <= run.tags.items()
    assert run.seconds > 0
    assert [r.id for r in list_runs(uri, experiment="default", tags={"method": "pseudo_label"})] == [run_id]
    assert list_runs(uri, tags={"method": "supervised"}) == []
    assert [r.id for r in list_runs(uri, ids=[run_id[:6]])] == [run_id]
    for options, said in (({"experiment": "none"}, "no experiment none"), ({"ids": ["zz"]}, "no run with")):
        with pytest.raises(InputError, match=said):
            list_runs(uri, **options)
    with pytest.raises(InputError, match="no such file"):
        list_runs("sqlite:////nowhere/x.db")


def test_files_come_along(tracking: dict[str, str], tiny_run: Path, tmp_path: Path) -> None:
    (run,) = list_runs(tracking["uri"])
    folder = fetch_run(tracking["uri"], run, tmp_path)
    assert folder.name == run.name
    for name in ("../../../away", "/away", ".."):  # others may write to a store
        assert fetch_run(tracking["uri"], replace(run, name=name), tmp_path).resolve().parent == tmp_path / run.id
    for name in ("metrics.json", "config.yaml", "metrics.jsonl", "run.json"):
        assert (folder / name).read_text() == (tiny_run / name).read_text(), name


def test_system_and_datasets_are_tracked(tracking: dict[str, str]) -> None:
    from mlflow import MlflowClient

    run = MlflowClient(tracking["uri"]).get_run(tracking["run_id"])
    assert run.data.metrics["system/process_memory_megabytes"] > 100
    inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "training without labels", "validation"}
    assert len({dataset.digest for dataset in inputs.values()}) == 3
    assert json.loads(inputs["training"].profile)["cases"] == 2


def test_the_command_line(medseg: Any, tracking: dict[str, str], tiny_run: Path, tmp_path: Path) -> None:
    uri, run_id = tracking["uri"], tracking["run_id"]
    code, out, err = medseg("runs", "--store", uri)
    assert code == 0, err
    assert run_id[:7] in out
    code, out, err = medseg("runs", "show", run_id[:8], "--store", uri)
    assert code == 0, err
    assert "validation_last/dice" in out
    code, out, err = medseg("ui", "--store", uri, "--dry-run")
    assert f"--backend-store-uri {uri}" in out
    code, _, err = medseg("ui", "--store", "sqlite:////nowhere/x.db")
    assert code == 2
    # one run is nothing to compare, but it is found: by its folder and by its id
    for name in (tiny_run, run_id):
        code, _, err = medseg("compare", name, "--store", uri)
        assert code == 2
        assert "one kind (pseudo_label)" in err
    target = tmp_path / "report.html"
    code, out, err = medseg("report", shutil.copytree(tiny_run, tmp_path / "run"), "--output", target, "--no-viewer")
    assert code == 0, err
    assert target.stat().st_size < 1e6


def test_a_model_is_registered_on_request(tracking: dict[str, str], tiny_run: Path) -> None:
    from mlflow import MlflowClient

    from medseg.tracking import register_model

    assert register_model(tiny_run, None) is None
    assert [register_model(tiny_run, "organs") for _ in range(2)] == ["1", "2"]
    version = MlflowClient(tracking["uri"]).get_model_version("organs", "2")
    assert version.run_id == tracking["run_id"]
    assert (Path(version.source.removeprefix("file://")) / "model.safetensors").is_file()
