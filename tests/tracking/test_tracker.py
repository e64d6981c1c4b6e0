"""One MLflow run for one training run, whatever the store does meanwhile; nothing is sent twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.tracking import Tracker, sync_run
from medseg.tracking.delivery import Delivery
from medseg.tracking.store import make_local


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'deep' / 'mlruns.db'}"


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., None]:
    """Appends a row to metrics.jsonl, as training does before it calls the tracker."""

    def log(step: int, **metrics: float | None) -> None:
        row = {"step": step, "kind": "train", "seconds": 1.0, "time": 1000.0 + step, **metrics}
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    return log


def _run(uri: str, run_id: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri).get_run(run_id)


def _history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run_id, name)]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_params_metrics_artifacts_and_end(uri: str, tmp_path: Path, log: Any) -> None:
    tracker = Tracker(tmp_path, "first", uri, run_name="a")
    run_id = tracker.start(
        {"method": "supervised", "config": {"loss": {"alpha": 0.3}, "steps": None}, "long": "x" * 9000}
    )
    log(3, **{"validation/dice/left atrium (LA)": 0.5, "undefined": None})
    tracker()
    log(4, loss=1.0)
    tracker()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "plan.yaml").write_text("plan")
    (tmp_path / "config.yaml").write_text("config")
    tracker.artifacts([tmp_path / "model", tmp_path / "config.yaml"])
    assert tracker.finish("FINISHED") == ""
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


def test_every_run_has_its_own_id_beside_unfinished_ones(uri: str, tmp_path: Path) -> None:
    trackers = [Tracker(tmp_path / name, "first", uri) for name in "ab"]
    for tracker in trackers:
        tracker.folder.mkdir()
    ids = [tracker.start({}) for tracker in trackers]
    assert ids[0] != ids[1]
    trackers[0].finish("FAILED")
    trackers[1].finish("KILLED")
    assert [_run(uri, i).info.status for i in ids] == ["FAILED", "KILLED"]


def _stopped(_: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_stopped_when_it_begins_is_remembered(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Tracker(tmp_path, "first", uri)
    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "send", _stopped)
        with pytest.raises(KeyboardInterrupt):
            first.start({})
    second = Tracker(tmp_path, "first", uri)
    (remembered,) = json.loads((tmp_path / "mlflow.json").read_text())["stores"].values()
    assert second.start({}) == remembered["run_id"]
    second.finish("KILLED")


def test_a_resumed_run_goes_on_and_repeats_nothing(uri: str, tmp_path: Path, log: Any) -> None:
    first = Tracker(tmp_path, "first", uri)
    run_id = first.start({"steps": 4})
    for step in (1, 2, 3):
        log(step, loss=step)
    first()
    assert first.finish("KILLED") == ""
    # training goes on from step 2: row 3 was cut and is written anew
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(lines[:2]))
    second = Tracker(tmp_path, "another", "sqlite:///elsewhere.db")
    assert second.start({"steps": 5}) == run_id
    assert _run(uri, run_id).info.status == "RUNNING"
    log(3, loss=3.5, more=1.0)
    log(4, loss=4.0)
    second()
    second.finish("FINISHED")
    assert _history(uri, run_id, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert _history(uri, run_id, "more") == [(3, 1.0)]
    run = _run(uri, run_id)
    assert (run.data.params["steps"], run.data.tags["changed.steps"]) == ("4", "5")
    assert run.info.status == "FINISHED"


def test_a_store_that_goes_away_holds_up_no_step_and_gets_everything_later(
    uri: str, tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    tracker = Tracker(tmp_path, "first", uri)
    run_id = tracker.start({})
    log(1, loss=1.0)
    tracker()
    _until(lambda: _history(uri, run_id, "loss") == [(1, 1.0)])

    def gone(self: Delivery) -> int:
        calls.append(time.monotonic())
        time.sleep(0.3)
        raise ConnectionError("refused\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "_send_metrics", gone)
        begin = time.monotonic()
        for step in range(2, 200):
            log(step, loss=float(step))
            tracker()
        assert time.monotonic() - begin < 0.3
        _until(lambda: bool(calls))
        assert tracker.finish("FINISHED") == "refused"
    assert 1 <= len(calls) <= 3  # it was not asked at every row
    assert len(_history(uri, run_id, "loss")) == 1
    found = sync_run(tmp_path)
    assert (found.run_id, found.sent.metrics) == (run_id, 198)
    assert _history(uri, run_id, "loss") == [(step, float(step)) for step in range(1, 200)]
    assert _run(uri, run_id).info.status == "FINISHED"
    assert sync_run(tmp_path).sent.metrics == 0


def test_a_call_that_failed_may_have_arrived(uri: str, tmp_path: Path, log: Any) -> None:
    tracker = Tracker(tmp_path, "first", uri)
    run_id = tracker.start({})
    delivery: Any = tracker._delivery
    send = delivery._client.log_batch

    def send_and_time_out(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        raise TimeoutError("no answer")

    delivery._client.log_batch = send_and_time_out
    log(1, loss=1.0)
    with pytest.raises(TimeoutError):
        delivery.send()
    delivery._client.log_batch = send
    assert delivery.send().metrics == 0
    assert _history(uri, run_id, "loss") == [(1, 1.0)]


def test_a_run_that_was_trained_offline_is_sent_to_another_store(
    uri: str, tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "runs").mkdir()  # to make an empty store takes seconds
    shutil.copy(uri.removeprefix("sqlite:///"), tmp_path / "runs" / "mlruns.db")
    tracker = Tracker(tmp_path, "first", offline=True)
    assert tracker.uri == f"sqlite:///{tmp_path / 'runs' / 'mlruns.db'}"
    local_id = tracker.start({"seed": 1})
    log(1, loss=1.0)
    tracker()
    (tmp_path / "plan.yaml").write_text("plan")
    tracker.artifacts([tmp_path / "plan.yaml"])
    tracker.finish("FINISHED")
    found = sync_run(tmp_path)
    assert (found.uri, found.sent.metrics, found.sent.params, found.sent.artifacts) == (uri, 1, 1, 1)
    assert found.run_id != local_id
    again = sync_run(tmp_path)
    assert (again.run_id, again.sent.metrics, again.sent.params, again.sent.artifacts) == (found.run_id, 0, 0, 0)
    assert _history(uri, found.run_id, "loss") == [(1, 1.0)]


def test_an_experiment_that_was_deleted_is_named(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    make_local(uri)
    client = MlflowClient(uri)
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    with pytest.raises(InputError, match=f"experiment gone was deleted there; .* --experiment-id {number}"):
        Tracker(tmp_path, "gone", uri).start({})
    client.restore_experiment(number)
    assert Tracker(tmp_path, "gone", uri).start({})


def test_a_run_that_nobody_could_end_is_ended(uri: str, tmp_path: Path) -> None:
    run_id = Tracker(tmp_path, "first", uri).start({})
    sync_run(tmp_path)
    assert _run(uri, run_id).info.status == "KILLED"


def test_without_a_run_nothing_is_sent(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, uri="http://127.0.0.1:9")
    tracker()
    assert tracker.finish("FAILED") == ""


def test_a_store_that_does_not_answer_is_one_line_with_the_choice(tmp_path: Path) -> None:
    begin = time.monotonic()
    for call in (Tracker.check, lambda tracker: tracker.start({})):
        with pytest.raises(InputError, match=r"store http://127.0.0.1:9: cannot be used.*start its server.*--offline"):
            call(Tracker(tmp_path, uri="http://127.0.0.1:9"))
    assert time.monotonic() - begin < 20
    with pytest.raises(InputError, match="no tracked run"):
        sync_run(tmp_path)
