"""Training against a real MLflow server over HTTP, two runs at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "medseg"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the server and its workers, which are a session of their own
        process.wait(30)


@pytest.mark.slow
def test_two_runs_at_once_are_not_mixed(server: str, tiny_cohort: Path, tmp_path: Path) -> None:
    small = ["--network", "small", "--set", "val_interval=2", "--set", "handlers#steps#every=1", "--steps", "4"]
    runs = {"a": ["--method", "supervised", "--seed", "1"], "b": ["--loss", "tversky", "--seed", "2"]}
    where = {"env": {**os.environ, "MLFLOW_TRACKING_URI": server}, "cwd": tmp_path, "text": True}
    common = ["--data", str(tiny_cohort), *small, "--register", "organs", "--experiment", "both"]
    processes = {
        name: subprocess.Popen(
            [*COMMAND, "train", *common, *options, "--output", str(tmp_path / name)], stderr=subprocess.PIPE, **where
        )
        for name, options in runs.items()
    }
    for process in processes.values():
        _, err = process.communicate(timeout=500)
        assert process.returncode == 0, err

    from mlflow import MlflowClient

    client = MlflowClient(server)
    ids = {name: json.loads((tmp_path / name / "run.json").read_text())["tracking"]["run_id"] for name in runs}
    assert len(set(ids.values())) == 2
    for name, run_id in ids.items():
        run = client.get_run(run_id)
        assert (run.info.status, run.info.run_name) == ("FINISHED", name)
        assert run.data.params["seed"] == run.data.tags["seed"] == ("1" if name == "a" else "2")
        assert run.data.tags["method"] == ("supervised" if name == "a" else "pseudo_label")
        assert run.data.tags["loss"] == ("dice_ce" if name == "a" else "tversky")
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        logged = {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
        tracked = {metric.step: metric.value for metric in client.get_metric_history(run_id, "loss")}
        assert tracked == pytest.approx(logged)
        assert len(tracked) == 4
        assert {i.tags[0].value for i in run.inputs.dataset_inputs} >= {"training", "validation"}
        kept = client.download_artifacts(run_id, "metrics.json", str(tmp_path))
        assert json.loads(Path(kept).read_text()) == json.loads((tmp_path / name / "metrics.json").read_text())
    versions = client.search_model_versions("name = 'organs'")
    assert {version.run_id for version in versions} == set(ids.values())
    # and they are found and compared from there
    command = [*COMMAND, "compare", *ids.values(), "--store", server]
    done = subprocess.run(command, capture_output=True, **where)
    assert done.returncode == 0, done.stderr
    assert "1 case" in done.stdout
