"""A real MLflow server that is killed in mid-run and started again."""

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
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from medseg.tracking import Tracker, sync_run

pytestmark = pytest.mark.slow


class _Server:
    """`mlflow server` on a free port of this machine, with SQLite."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            # without the runners of jobs, which are seven more processes
            environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        end = time.monotonic() + 240
        while time.monotonic() < end:
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (URLError, OSError):
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with its workers
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    (tmp_path / "server").mkdir()
    found = _Server(tmp_path / "server")
    found.start()
    yield found
    found.kill()


def _log(run: Path, step: int) -> None:
    row = {"step": step, "kind": "train", "seconds": 1.0, "time": time.time(), "loss": step / 2, "more": 1.0}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _steps(client: Any, run_id: str, name: str = "loss") -> list[int]:
    return sorted(point.step for point in client.get_metric_history(run_id, name))


def test_what_a_killed_server_missed_is_sent_once(server: _Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = tmp_path / "run"
    run.mkdir()
    client = MlflowClient(server.uri)
    tracker = Tracker(run, "first", server.uri)
    run_id = tracker.start({"seed": 1})
    for step in range(5):
        _log(run, step)
        tracker()
    end = time.monotonic() + 60
    while _steps(client, run_id) != list(range(5)):
        assert time.monotonic() < end
        time.sleep(0.1)

    server.kill()
    longest = 0.0
    for step in range(5, 40):
        begin = time.monotonic()
        _log(run, step)
        tracker()
        longest = max(longest, time.monotonic() - begin)
        time.sleep(0.05)
    assert longest < 0.5  # no step waits for it
    tracker.params({"frozen_steps": 40})
    (run / "plan.yaml").write_text("plan")
    tracker.artifacts([run / "plan.yaml"])
    begin = time.monotonic()
    assert tracker.finish("FINISHED")
    assert time.monotonic() - begin < 30

    server.start()
    found = sync_run(run)
    assert (found.run_id, found.sent.metrics, found.sent.params, found.sent.artifacts) == (run_id, 70, 1, 1)
    for name in ("loss", "more"):
        assert _steps(client, run_id, name) == list(range(40))
    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"seed": "1", "frozen_steps": "40"}
    assert [file.path for file in client.list_artifacts(run_id)] == ["plan.yaml"]
    again = sync_run(run).sent
    assert (again.metrics, again.params, again.artifacts) == (0, 0, 0)


def test_a_server_that_comes_back_in_mid_run_gets_everything(server: _Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = tmp_path / "run"
    run.mkdir()
    tracker = Tracker(run, "first", server.uri)
    run_id = tracker.start({})
    server.kill()
    for step in range(3):
        _log(run, step)
        tracker()
    time.sleep(3)
    server.start()
    for step in range(3, 6):
        _log(run, step)
        tracker()
    assert tracker.finish("FINISHED") == ""
    assert _steps(MlflowClient(server.uri), run_id) == list(range(6))
