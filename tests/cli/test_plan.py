from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medseg.cli.cache import cache
from medseg.cli.plan import plan
from medseg.data import CaseCache, load_cohort
from medseg.errors import InputError
from medseg.plan import load_plan
from medseg.planning import plan_cohort

app = typer.Typer()
app.command()(plan)
app.command()(cache)


def run(*words: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(("command", "shown"), [("plan", "medseg plan "), ("cache", "medseg data cache ")])
def test_help_shows_an_example(command: str, shown: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert shown in result.output


def test_the_plan_is_shown_with_its_reasons_and_written(tiny_cohort: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    result = run("plan", tiny_cohort, "--labelled", 1, "--memory", "2GB", "--output", file, "--seed", 3)
    assert result.exit_code == 0, result.output
    made = load_plan(file)
    cohort = load_cohort(tiny_cohort, 1, 3)
    assert made == plan_cohort(cohort, seed=3, memory="2GB")
    assert made != plan_cohort(cohort, seed=3)
    for line in ("patch_size", "32 x 32 x 16", "CT has a unit", "liver lies in an asymmetric part of the body", "2 GB"):
        assert line in result.output
    assert plan_cohort(cohort, plan_file=file) == made  # as `medseg train --plan` does


def test_what_is_wrong_is_said_before_anything_is_written(tiny_cohort: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    for options, text in (
        (["--labelled", "0"], "--labelled 0: expected"),
        (["--memory", "much"], "--memory much: exp"),
    ):
        result = run("plan", tiny_cohort, "--output", file, *options)
        assert isinstance(result.exception, InputError)
        assert str(result.exception).startswith(text)
    assert not file.exists()


def test_the_cache_is_shown_and_cleared(tiny_cohort: Path, tmp_path: Path, small_plan) -> None:
    cohort = load_cohort(tiny_cohort, modality="MRI")
    made = small_plan(classes=cohort.classes, spacing=(4.0, 4.0, 4.0))
    CaseCache(tmp_path / "cache", made, cohort.classes).prepare(cohort.labelled)
    shown = run("cache", "--folder", tmp_path / "cache").output
    assert shown.startswith(f"{tmp_path / 'cache'}: 4 entries, ")
    assert "last used within the hour" in shown
    assert ": 0 entries not used for 1 days" in run("cache", "--folder", tmp_path / "cache", "--older-than", 1).output
    assert ": 4 entries, " in run("cache", "--folder", tmp_path / "cache", "--clear").output
    assert not list((tmp_path / "cache").iterdir())
    assert isinstance(run("cache", "--older-than", -1).exception, InputError)
