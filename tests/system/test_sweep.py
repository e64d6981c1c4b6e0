"""`medseg sweep` from the file to the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.tracking import default_uri, list_runs
from medseg.tracking.search import SWEEP_TAG


@pytest.mark.usefixtures("elsewhere")
def test_a_sweep_is_trained_nested_and_compared(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    base = {"data": str(tiny_cohort), "method": "supervised", "network": "small", "steps": 2, "val_interval": 2}
    study = {"experiment": "tiny", "parts": [{"base": base, "grid": {"loss": ["dice_ce", "adaptive"]}}]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study))
    code, out, err = medseg("sweep", tmp_path / "tiny.yaml")
    assert code == 0, out + err
    folders = sorted(path.parent.name for path in Path("runs/tiny").glob("*/metrics.json"))
    assert [name.rpartition("-")[0] for name in folders] == ["adaptive", "dice_ce"]

    from mlflow import MlflowClient

    (parent,) = list_runs(default_uri(), experiment="tiny", tags={SWEEP_TAG: "tiny"})
    runs = list_runs(default_uri(), experiment="tiny")
    assert sorted(run.params["loss"] for run in runs) == ["adaptive", "dice_ce"]
    assert sorted(run.tags["loss"] for run in runs) == ["adaptive", "dice_ce"]
    for run in runs:
        tags = MlflowClient(default_uri()).get_run(run.id).data.tags
        assert tags["mlflow.parentRunId"] == parent.id
    code, out, err = medseg("runs", "--experiment", "tiny")
    assert code == 0, err
    assert parent.id[:7] not in out
    assert runs[0].id[:7] in out

    code, out, err = medseg("compare", "--experiment", "tiny", "--baseline", "dice_ce")
    assert code == 0, err
    assert "adaptive - dice_ce (liver)" in out
    # what is done is not done again
    code, out, err = medseg("sweep", tmp_path / "tiny.yaml")
    assert code == 0, err
    assert "2 trials, 2 of them done or under way" in out
    assert "begins" not in out
    # another machine, which knows the shared storage and finds the trials' folders as they are
    finished = {path: path.stat().st_mtime_ns for path in Path("runs/tiny").glob("*/metrics.json")}
    code, out, err = medseg("sweep", tmp_path / "tiny.yaml", "--storage", f"sqlite:///{tmp_path}/shared.db")
    assert code == 0, err
    assert "2 trials, 0 of them done or under way" in out
    assert {path: path.stat().st_mtime_ns for path in Path("runs/tiny").glob("*/metrics.json")} == finished
    code, out, err = medseg("sweep", tmp_path / "tiny.yaml", "--storage", f"sqlite:///{tmp_path}/shared.db")
    assert "2 trials, 2 of them done or under way" in out
