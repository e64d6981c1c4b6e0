"""One MLflow run for one training run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.tracking import Tracker, default_uri, store_problem


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'deep' / 'mlruns.db'}"


def _run(uri: str, run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri).get_run(run_id)


def test_params_metrics_artifacts_and_end(uri: str, tmp_path: Path) -> None:
    tracker = Tracker("first", uri, run_name="a")
    run_id = tracker.start(
        {"method": "supervised", "config": {"loss": {"alpha": 0.3}, "steps": None}, "long": "x" * 9000}
    )
    tracker.metrics({"validation/dice/left atrium (LA)": 0.5}, step=3)
    tracker(SimpleNamespace(state=SimpleNamespace(logged=SimpleNamespace(metrics={"loss": 1.0}, step=4))))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "plan.yaml").write_text("plan")
    (tmp_path / "config.yaml").write_text("config")
    tracker.artifacts([tmp_path / "model", tmp_path / "config.yaml"])
    tracker.finish("FINISHED")
    run = _run(uri, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["config.loss.alpha"] == "0.3"
    assert run.data.params["config.steps"] == "None"
    assert len(run.data.params["long"]) == 500
    assert run.data.metrics == {"validation/dice/left atrium _LA_": 0.5, "loss": 1.0}
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert {p.relative_to(artifacts).as_posix() for p in artifacts.rglob("*") if p.is_file()} == {
        "model/plan.yaml", "config.yaml",
    }  # fmt: skip


def test_every_run_has_its_own_id_beside_unfinished_ones(uri: str) -> None:
    trackers = [Tracker("first", uri) for _ in range(2)]
    ids = [tracker.start({}) for tracker in trackers]
    assert ids[0] != ids[1]
    for tracker, value in zip(trackers, (0.1, 0.2), strict=True):
        tracker.metrics({"dice": value}, step=1)
    trackers[0].finish("FAILED")
    trackers[1].finish("KILLED")
    assert [_run(uri, i).data.metrics["dice"] for i in ids] == [0.1, 0.2]
    assert [_run(uri, i).info.status for i in ids] == ["FAILED", "KILLED"]


def test_without_a_run_nothing_is_sent() -> None:
    tracker = Tracker(uri="http://127.0.0.1:9")
    tracker(SimpleNamespace(state=SimpleNamespace(logged=SimpleNamespace(metrics={"loss": 1.0}, step=4))))
    tracker.finish("FAILED")


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"MLflow store http://127.0.0.1:9: cannot be used"):
        Tracker(uri="http://127.0.0.1:9").start({})


def test_the_default_store_is_one_for_all_runs_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == f"sqlite:///{tmp_path / 'runs' / 'mlruns.db'}"
    assert store_problem() == (default_uri(), "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert default_uri() == "http://tracking"
