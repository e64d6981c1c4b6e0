from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from typer.testing import CliRunner

from medseg.cli.cache import cache
from medseg.cli.plan import plan
from medseg.data import CaseCache, load_cohort
from medseg.engine import Autocast
from medseg.errors import InputError, last_words
from medseg.plan import load_plan
from medseg.planning import plan_cohort

app = typer.Typer()
app.command()(plan)
app.command()(cache)


def run(*words: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


def test_the_plan_is_shown_with_its_reasons_and_written(tiny_cohort: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    result = run("plan", tiny_cohort, "--labelled", 1, "--memory", "2GB", "--output", file, "--seed", 3)
    assert result.exit_code == 0, result.output
    made = load_plan(file)
    cohort = load_cohort(tiny_cohort, 1, 3)
    precision = Autocast("cpu").precision
    assert made == plan_cohort(cohort, seed=3, memory="2GB", precision=precision)
    assert made != plan_cohort(cohort, seed=3)
    for line in ("patch_size", "32 x 32 x 16", "CT has a unit", "liver lies in an asymmetric part of the body", "2 GB"):
        assert line in result.output
    assert plan_cohort(cohort, plan_file=file) == made  # as `medseg train --plan` does
    shown = run("plan", tiny_cohort, "--labelled", 1, "--memory", "2GB", "--seed", 3, "--set", "precision=fp32").output
    assert "(float32)" in shown


def test_the_plan_is_that_of_the_training(tiny_cohort: Path, tiny_run: Path, tmp_path: Path) -> None:
    run("plan", tiny_cohort, "--network", "small", "--output", tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == load_plan(tiny_run / "plan.yaml")


def test_folds_corrected_labels_and_the_device_count(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, corrected = tmp_path / "data", tmp_path / "corrected"
    shutil.copytree(tiny_cohort, data)
    splits = json.loads((data / "splits.json").read_text())
    names = [*splits["labelled"]["2"], *splits["validation"]]
    splits["folds"] = [{"train": names[:2], "validation": names[2:]}, {"train": names[1:], "validation": names[:1]}]
    (data / "splits.json").write_text(json.dumps(splits))
    corrected.mkdir()
    (other,) = set(names[:2]) - {load_cohort(data, 1).labelled[0].name}
    shutil.copy(data / "labelsTr" / f"{other}.nii.gz", corrected)
    monkeypatch.setattr("medseg.engine.pick_device", lambda name: torch.device("cuda" if name == "auto" else name))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=2e9))
    found = {}
    for i, options in enumerate(
        (["--fold", 0], ["--fold", 1], ["--labelled", 1], ["--labelled", 1, "--corrected", corrected], [])
    ):
        device = ["--device", "cpu"] if options else ["--set", "precision=bf16"]
        result = run("plan", data, *options, *device, "--output", tmp_path / f"{i}.yaml")
        assert result.exit_code == 0, result.exception
        found[i] = load_plan(tmp_path / f"{i}.yaml")
    assert found[0].channels != found[1].channels
    assert found[2].channels != found[3].channels
    assert found[4].network.filters[0] == 32  # a GPU's
    assert all(found[i].network.filters[0] == 16 for i in range(4))


def test_what_is_wrong_is_said_before_anything_is_written(tiny_cohort: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    for options, text in (
        (["--labelled", "0"], "--labelled 0: expected"),
        (["--memory", "much"], "--memory much: exp"),
    ):
        result = run("plan", tiny_cohort, "--output", file, *options)
        line, code = last_words(result.exception)
        assert code == 2
        assert line.removeprefix("Error: ").startswith(text)
    assert not file.exists()


def test_the_cache_is_shown_and_cleared(tiny_cohort: Path, tmp_path: Path, small_plan) -> None:
    cohort = load_cohort(tiny_cohort, modality="MRI")
    made = small_plan(classes=cohort.classes, spacing=(4.0, 4.0, 4.0))
    CaseCache(tmp_path / "cache", made, cohort.classes).prepare(cohort.labelled)
    shown = run("cache", "--folder", tmp_path / "cache").output
    assert shown.startswith(f"{tmp_path / 'cache'}: 4 entries, ")
    assert "last used within the hour" in shown
    old = min((tmp_path / "cache").glob("*.record"))
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    for entries in (1, 0):
        said = run("cache", "--folder", tmp_path / "cache", "--clear", "--older-than", 1).output
        assert f": {entries} entries not used for 1 days, " in said
    assert not old.exists()
    assert ": 3 entries, " in run("cache", "--folder", tmp_path / "cache", "--clear").output
    assert not list((tmp_path / "cache").iterdir())
    assert isinstance(run("cache", "--older-than", -1).exception, InputError)
