"""The folder of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medseg.engine import run_folder


@pytest.mark.parametrize(
    ("before", "during", "left"),
    [
        ([], [], []),
        (["x/run"], [], ["x", "x/run"]),
        (["x"], [], ["x"]),
        ([], ["x/mine.txt"], ["x", "x/mine.txt"]),
        ([], ["x/run/config.yaml"], ["x", "x/run", "x/run/config.yaml"]),
    ],
)
def test_a_refused_run_leaves_what_was_there(
    before: list[str], during: list[str], left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit = []
    monkeypatch.setattr("medseg.engine.output.atexit.register", lambda *call: at_exit.append(call))
    monkeypatch.chdir(tmp_path)
    for folder in before:
        (tmp_path / folder).mkdir(parents=True)
    assert run_folder("x/run").is_dir()
    for file in during:
        (tmp_path / file).touch()
    monkeypatch.chdir("/")
    for function, *arguments in at_exit:
        function(*arguments)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == left


def test_a_command_that_is_refused_leaves_no_folder(tiny_cohort: Path, tmp_path: Path) -> None:
    options = ("--data", tiny_cohort, "--steps", "1", "--labelled", "50", "--output", "x/run")
    command = [sys.executable, "-m", "medseg", "train", *map(str, options)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "50" in done.stderr
    assert not (tmp_path / "x").exists()
