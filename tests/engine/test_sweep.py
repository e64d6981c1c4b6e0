"""Experiments are read, expanded, run to their end, taken up again and shared."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.cli.sweep import _command
from medseg.engine.experiment import Experiment, Trial, grid_trials, load_experiment
from medseg.engine.sweep import open_study, run_sweep, trial_value
from medseg.errors import InputError
from medseg.share import overlay_folder

GRID = {
    "experiment": "x",
    "parts": [
        {"base": {"steps": 2}, "grid": {"loss": ["dice", "tversky"], "seed": [1, 2]}},
        {"grid": {"loss": ["dice"]}},
    ],
}


def _ignored(_: str) -> None:
    pass


def test_grids_are_expanded_and_named_by_their_settings() -> None:
    trials = grid_trials(Experiment.model_validate(GRID))
    assert [t.settings for t in trials][:2] == [
        {"steps": 2, "loss": "dice", "seed": 1},
        {"steps": 2, "loss": "dice", "seed": 2},
    ]
    assert len({t.name for t in trials}) == 5
    assert trials[3].name.startswith("tversky-2-")
    other = Experiment.model_validate(
        {**GRID, "parts": [{"base": {"steps": 3}, "grid": {"loss": ["dice"], "seed": [1]}}]}
    )
    assert grid_trials(other)[0].name not in {t.name for t in trials}


def test_equal_settings_are_one_trial_whichever_part_they_stand_in() -> None:
    parts = [
        {"base": {"loss": "dice"}, "grid": {"seed": [0]}},
        {"grid": {"loss": ["dice", "tversky"], "seed": [0]}},
    ]
    found = grid_trials(Experiment.model_validate({"experiment": "x", "parts": parts}))
    assert [trial.settings["loss"] for trial in found] == ["dice", "tversky"]


@pytest.mark.parametrize("file", sorted((overlay_folder() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_one_that_its_first_lines_explain(file: Path) -> None:
    trials = grid_trials(load_experiment(file))
    assert len({trial.name for trial in trials}) == len(trials) > 1
    assert f"medseg sweep configs/experiment/{file.name}" in file.read_text().splitlines()[1]
    for trial in trials:
        words = _command(trial, Path("run"), "x")
        for key, value in trial.settings.items():
            if "#" in key:
                assert f"{key}={'null' if value is None else value}" in words


def test_the_loss_study_has_every_loss() -> None:
    study = load_experiment(overlay_folder() / "experiment" / "loss_study.yaml")
    losses = {path.stem for path in (overlay_folder() / "loss").glob("*.yaml")}
    assert set(study.parts[0].grid["loss"]) == losses
    assert {"dice_ce"} < set(study.parts[1].grid["loss"]) <= losses
    assert len(grid_trials(study)) == 2 * len(losses) + 2 * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("experiment: x", "either parts"),
        ("experiment: x\nparts: [{grid: {loss: []}}]", "parts.0.grid.loss"),
        ("experiment: x\nparts: [{grd: {loss: [dice]}}]", "parts.0.grd"),
        ("experiment: a/b\nparts: [{}]", "experiment: "),
        ("experiment: ..\nparts: [{}]", "experiment: "),
        ("experiment: x\nsearch: {trials: 2, space: {learning_rate: {low: 1, high: 0}}}", "low must be below high"),
        ("- 1", "file"),
        ("a: [", "not a readable experiment"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        load_experiment(tmp_path / "x.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_trial_does_not_end_a_grid_and_is_tried_again(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(GRID)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    calls: list[str] = []
    lines: list[str] = []
    broken = grid_trials(experiment)[1].name

    def train(trial: Trial) -> float:
        calls.append(trial.name)
        if trial.name == broken and not any("failed" in line for line in lines):
            raise InputError("no space left")
        return 0.5

    assert run_sweep(experiment, open_study(experiment, storage), train, lines.append) == [broken]
    assert sorted(calls) == sorted(t.name for t in grid_trials(experiment))
    assert f"{broken}: failed: no space left" in lines
    calls.clear()
    run_sweep(experiment, open_study(experiment, storage), train, lines.append)
    assert calls == [broken]
    calls.clear()
    run_sweep(experiment, open_study(experiment, storage), train, lines.append)
    assert calls == []
    assert lines[-1] == "5 trials, 5 of them done or under way"


def test_two_processes_share_a_grid(tmp_path: Path) -> None:
    """The second begins while the first is in the middle of a trial, and takes what is left."""
    experiment = Experiment.model_validate(GRID)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    calls: list[tuple[int, str]] = []

    def other(trial: Trial) -> float:
        calls.append((2, trial.name))
        return 0.5

    def train(trial: Trial) -> float:
        calls.append((1, trial.name))
        if len(calls) == 1:
            run_sweep(experiment, open_study(experiment, storage), other, _ignored)
        return 0.5

    run_sweep(experiment, open_study(experiment, storage), train, _ignored)
    assert sorted(name for _, name in calls) == sorted(t.name for t in grid_trials(experiment))
    assert [worker for worker, _ in calls].count(1) == 1


def test_a_search_finds_its_way_and_goes_on(tmp_path: Path) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}, "loss": ["dice", "tversky"]}
    wanted: Any = {"experiment": "s", "search": {"trials": 12, "space": space, "base": {"steps": 2}}}
    experiment = Experiment.model_validate(wanted)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    seen: list[dict[str, Any]] = []
    names: list[str] = []

    def train(trial: Trial) -> float:
        seen.append(dict(trial.settings))
        names.append(trial.name)
        if len(seen) == 3:
            raise RuntimeError("diverged")
        if len(seen) == 6:
            raise KeyboardInterrupt
        return -abs(float(trial.settings["learning_rate"] or 0) - 0.01)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(experiment, open_study(experiment, storage), train, _ignored)
    assert len(seen) == 6
    assert run_sweep(experiment, open_study(experiment, storage), train, _ignored) == []
    assert len(seen) == 12 + 2
    assert [seen[2], seen[5]] == seen[6:8]  # what failed and what was stopped is tried again, in its own folder
    assert names[6:8] == [names[2], names[5]]
    assert all(settings["steps"] == 2 and 1e-4 <= settings["learning_rate"] <= 1 for settings in seen)
    assert len({settings["learning_rate"] for settings in seen}) == 12
    wanted["search"]["space"]["loss"].append("focal")
    with pytest.raises(InputError, match="the choices of loss are not those"):
        run_sweep(Experiment.model_validate(wanted), open_study(experiment, storage), train, _ignored)
    wanted["search"]["metric"] = "hd95_mm"
    with pytest.raises(InputError, match="begun with another metric"):
        open_study(Experiment.model_validate(wanted), storage)


def test_a_grid_that_has_grown_trains_what_is_new(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    calls: list[str] = []

    def train(trial: Trial) -> float:
        calls.append(trial.name)
        return 0.5

    for seeds, new in (([1, 2], 2), ([1, 2, 3], 1), ([2], 0)):
        part = {"grid": {"loss": ["dice"], "seed": seeds}}
        experiment = Experiment.model_validate({"experiment": "x", "parts": [part]})
        calls.clear()
        assert run_sweep(experiment, open_study(experiment, storage), train, _ignored) == []
        assert len(calls) == new


def test_a_killed_trial_is_taken_up_where_nothing_else_is_left(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(GRID)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    calls: list[str] = []
    lines: list[str] = []

    def train(trial: Trial) -> float:
        calls.append(trial.name)
        return 0.5

    killed = grid_trials(experiment)[0].name
    study = open_study(experiment, storage)
    study.enqueue_trial({}, user_attrs={"trial": killed})
    with pytest.warns(UserWarning, match="supposed to be used with Study.optimize"):
        study._storage.record_heartbeat(study.ask()._trial_id)
    assert run_sweep(experiment, study, train, lines.append) == []
    assert killed not in calls
    assert f"under way elsewhere, or were killed a short while ago: {killed};" in lines[-1]
    calls.clear()
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.db")) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    assert run_sweep(experiment, open_study(experiment, storage), train, lines.append) == []
    assert calls == [killed]
    assert "elsewhere" not in lines[-1]


def test_a_sweep_that_is_ended_ends_its_training(medseg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training is a script that says what it is told."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ntrap 'touch told; exit 143' TERM\ntouch begun\nwhile :; do sleep 0.02; done\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr("medseg.tracking.parent_run", lambda _: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(GRID))

    def end() -> None:
        while not Path("begun").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    def unheard(*_: object) -> None:
        raise AssertionError("the signal would have ended this process alone")

    before = signal.signal(signal.SIGTERM, unheard)
    try:
        threading.Thread(target=end, daemon=True).start()
        assert medseg("sweep", "x.yaml")[0] != 0
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Path("told").exists()
    trials = open_study(Experiment.model_validate(GRID), f"sqlite:///{tmp_path}/runs/x/sweep.db").trials
    assert [trial.state.name for trial in trials] == ["FAIL"] + ["WAITING"] * 4


def test_values_come_from_finished_runs(tiny_run: Path, tmp_path: Path) -> None:
    assert 0 <= trial_value(tiny_run) <= 1
    assert trial_value(tiny_run, "hd95_mm") > 1
    with pytest.raises(InputError, match="no dice of a finished run"):
        trial_value(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        open_study(Experiment.model_validate(GRID), "nonsense://x")
