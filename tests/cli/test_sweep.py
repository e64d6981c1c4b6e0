"""What a sweep says at its end, and what ends with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medseg.cli.sweep import _comparable
from medseg.engine.experiment import Experiment, grid_trials


def test_runs_on_different_data_are_compared_apart() -> None:
    parts = [{"base": {"task": task}, "grid": {"seed": [1, 2]}} for task in ("left_atrium", "hippocampus")]
    trials = grid_trials(Experiment.model_validate({"experiment": "study", "parts": parts}))
    assert _comparable(trials, Path("runs/study")) == ["runs/study/hippocampus-*", "runs/study/left_atrium-*"]
    assert all(trial.name.startswith("left_atrium-") for trial in trials[:2])
    assert _comparable(trials[:2], Path("runs/study")) == ["runs/study"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux) on this machine")
def test_a_training_ends_with_the_sweep_that_is_killed() -> None:
    child = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True) or exit()); "
    child += "print('begun', flush=True); time.sleep(60)"
    parent = "import subprocess, sys; from medseg.cli.processes import ending_with_us; "
    parent += f"subprocess.run(ending_with_us([sys.executable, '-c', {child!r}]))"
    begin = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()
        assert process.stdout.read() == "told\n"  # to its end, when the last that holds it is gone
    assert time.monotonic() - begin < 50
