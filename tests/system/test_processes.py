"""`medseg train --processes 2` is one run: equal to that of one process, stopped, ended and resumed as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medseg.engine import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("elsewhere")]

COMMAND = [sys.executable, "-m", "medseg", "train"]
SMALL = ("--network", "small", "--set", "val_interval=3", "--set", "precision=fp32", "--set", "round_batches=true")
EVERY = ("--set", "handlers#steps#every=1")


def _train(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def _rows(run: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def _status(folder: Path) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlruns.db'}")
    return [run.info.status for run in client.search_runs([e.experiment_id for e in client.search_experiments()])]


def test_two_processes_are_one_run(tiny_cohort: Path, tmp_path: Path) -> None:
    options = ("--data", tiny_cohort, *SMALL, *EVERY, "--steps", 6)
    _train(*options, "--output", "one")
    done = _train(*options, "--processes", 2, "--output", "two")
    assert done.stdout.count("Model: ") == 1
    one, two = (_rows(tmp_path / run, "train") for run in ("one", "two"))
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-6)
    ours, theirs = (_rows(tmp_path / run, "validation") for run in ("one", "two"))
    assert [row["step"] for row in theirs] == [3, 6]
    for a, b in zip(ours, theirs, strict=True):
        assert b["validation/dice"] == pytest.approx(a["validation/dice"], abs=1e-3)
    assert _status(tmp_path) == ["FINISHED", "FINISHED"]


def _started(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    """Two processes that have logged some steps."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--processes", "2", "--output", "run"], stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "run" / "metrics.jsonl"
    for _ in range(3000):
        if log.exists() and log.read_text().count("\n") >= 4:
            return process
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("no steps after minutes")


def _children(process: subprocess.Popen[str]) -> dict[str, int]:
    """Process ids by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            environment = status.with_name("environ").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        ranks = [line.removeprefix("RANK=") for line in environment if line.startswith("RANK=")]
        if parent == process.pid and ranks:
            found[ranks[0]] = int(status.parent.name)
    return found


def test_a_signal_stops_all_after_the_same_step_and_they_go_on(tiny_cohort: Path, tmp_path: Path) -> None:
    rows_of_seven = ("--set", "handlers#steps#every=7")  # so that the signal mostly comes amidst a row
    options = ("--data", tiny_cohort, *SMALL, *rows_of_seven, "--method", "supervised", "--steps", 40)
    process = _started(tmp_path, *options)
    process.terminate()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 143, err
    assert "go on with: medseg train --resume run" in err.strip().splitlines()[-1]
    step = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"]
    assert 4 <= step < 40
    assert _status(tmp_path) == ["KILLED"]
    _train("--resume", "run", "--processes", 2)
    _train(*options, "--processes", 2, "--output", "unbroken")
    ours, theirs = (_rows(tmp_path / run, "train") for run in ("run", "unbroken"))
    assert [row["step"] for row in ours] == [7, 14, 21, 28, 35, 40]
    for name in ("loss", "loss/labelled", "gradient_norm"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_is_killed_ends_the_run(rank: str, tiny_cohort: Path, tmp_path: Path) -> None:
    process = _started(tmp_path, "--data", tiny_cohort, *SMALL, *EVERY, "--method", "supervised", "--steps", 100000)
    children = _children(process)
    os.kill(children[rank], signal.SIGKILL)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 137, err
    assert f"process {rank}: ended by SIGKILL" in err
    assert all(not Path(f"/proc/{child}").exists() for child in children.values())
    if rank == "1":
        assert _status(tmp_path) == ["FAILED"]


def test_an_error_of_one_process_is_said_and_ends_all(tiny_cohort: Path, tmp_path: Path) -> None:
    """A loss that only the second process cannot compute."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import medseg.methods.supervised as module\n"
        "    from medseg.errors import InputError\n"
        "    def losses(*_):\n"
        "        raise InputError('case_3: torn on the second process')\n"
        "    module.Supervised.losses = losses\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    arguments = ["--data", tiny_cohort, *SMALL, "--method", "supervised", "--steps", 5, "--processes", 2]
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--output", "run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "case_3: torn on the second process" in done.stderr
    assert "RUNNING" not in _status(tmp_path)


def test_torchrun_runs_the_bundle(tiny_cohort: Path, tmp_path: Path) -> None:
    from medseg.share import bundle_folder, overlay_folder

    files = [bundle_folder() / "configs" / "train.yaml", overlay_folder() / "method" / "supervised.yaml"]
    files += [overlay_folder() / "network" / "small.yaml", overlay_folder() / "runtime" / "distributed.yaml"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "monai.bundle", "run", "training", "--config_file", str([str(file) for file in files])]
    command += ["--dataset_dir", str(tiny_cohort), "--steps", "2", "--output_dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model: ") == 1
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 2
    assert _status(tmp_path) == ["FINISHED"]
