"""What a sweep says at its end."""

from __future__ import annotations

from pathlib import Path

from medseg.cli.sweep import _comparable
from medseg.engine.experiment import Experiment, grid_trials


def test_runs_on_different_data_are_compared_apart() -> None:
    parts = [{"base": {"task": task}, "grid": {"seed": [1, 2]}} for task in ("left_atrium", "hippocampus")]
    trials = grid_trials(Experiment.model_validate({"experiment": "study", "parts": parts}))
    assert _comparable(trials, Path("runs/study")) == ["runs/study/hippocampus-*", "runs/study/left_atrium-*"]
    assert all(trial.name.startswith("left_atrium-") for trial in trials[:2])
    assert _comparable(trials[:2], Path("runs/study")) == ["runs/study"]
