"""Which runs are repeats of one another: runs composed as `medseg train` composes them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

import medseg.losses
from medseg.cli.composition import assignment, composed
from medseg.engine.experiment import Trial, grid_trials, load_experiment
from medseg.report.configs import OTHER_THAN_DEFAULTS, as_text, is_wiring, loss_name, overlays, short_name
from medseg.report.grouping import Group, group_runs
from medseg.report.runs import RunRecord, read_run
from medseg.share import overlay_folder

MakeRun = Callable[..., Path]
DICE = {"a": 0.5, "b": 0.6}


def _run(make_run: MakeRun, name: str, concerns: dict[str, str], *, commit: str = "abc", **overrides: Any) -> RunRecord:
    """A run whose config is that of `medseg train`; `_plan` is its plan.yaml."""
    plan = overrides.pop("_plan", None)
    folder = make_run(name, DICE)
    parser = ConfigParser(ConfigParser.load_config_files(composed({"method": "pseudo_label", **concerns})))
    parser.update({"steps": 9, **overrides})
    (folder / "config.yaml").write_text(yaml.safe_dump(parser.get(), sort_keys=False))
    method = short_name(parser.get()["method"]["_target_"])
    known = {key: parser.get()[key] for key in ("labelled", "seed", "fold", "max_minutes")}
    params = {"method": method, "data": "d", "git_commit": commit, **known}
    (folder / "run.json").write_text(json.dumps({"params": params}))
    if plan is not None:
        (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return read_run(folder)


def _of_trial(make_run: MakeRun, trial: Trial) -> RunRecord:
    concerns = {key: str(v) for key, v in trial.settings.items() if key in ("task", "method", "loss")}
    others = {
        key.replace("-", "_"): assignment(f"x={'null' if v is None else v}")[1]
        for key, v in trial.settings.items()
        if key not in concerns
    }
    return _run(make_run, trial.name, concerns, **others)


def _labels(*runs: RunRecord) -> list[str]:
    return [group.label for group in group_runs(runs)[0]]


def test_every_trial_of_the_ablation_is_a_group_that_says_what_is_off(make_run: MakeRun) -> None:
    trials = grid_trials(load_experiment(overlay_folder() / "experiment" / "ablation.yaml"))
    groups, remarks = group_runs([_of_trial(make_run, trial) for trial in trials])
    assert [len(group.runs) for group in groups] == [1] * len(trials)
    assert [group.label for group in groups] == [
        "consistent_copy_paste",
        *(
            f"consistent_copy_paste, {off}"
            for off in (
                "components=false",
                "agreement=false",
                "feature_weight=0.0",
                "entropy_weight=0.0",
                "twins=null, feature_weight=0.0",
                "agreement=false, box=null",
            )
        ),
    ]
    assert remarks == []


def test_every_loss_of_the_loss_study_is_a_group_of_its_name(make_run: MakeRun) -> None:
    trials = grid_trials(load_experiment(overlay_folder() / "experiment" / "loss_study.yaml"))
    trials = [trial for trial in trials if trial.settings["task"] == "hippocampus"]
    groups, remarks = group_runs([_of_trial(make_run, trial) for trial in trials])
    assert [group.label for group in groups] == list(dict.fromkeys(trial.settings["loss"] for trial in trials))
    assert len(groups) == 15
    assert all(group.n_seeds == 2 for group in groups)
    assert remarks == []


def test_methods_are_groups_without_what_their_overlays_say(make_run: MakeRun) -> None:
    runs = [_run(make_run, method, {"method": method}) for method in overlays("method")]
    groups, remarks = group_runs(runs)
    assert [group.label for group in groups] == list(overlays("method"))
    assert remarks == []
    rest = _run(make_run, "rest", {"method": "supervised"}, learning_rate=0.5)
    assert group_runs([runs[0], rest])[1] == ["learning_rate differs along with the method or loss"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iteration#schedule#_target_": "my.Schedule"}, "iteration#schedule=Schedule"),
        ({"method#loss": "$my.Loss(0.5)"}, "loss=Loss(0.5)"),
        ({"train#dataset#foreground": 0.9}, "train#dataset#foreground=0.9"),
        ({"handlers#early_stopping#patience": 3}, "early_stopping#patience=3"),
        ({"learning_rate": None}, "learning_rate=null"),
        ({"unlabelled_batch": "$@plan.batch_size"}, "unlabelled_batch=plan.batch_size"),
    ],
)
def test_what_somebody_has_set_is_told_apart(make_run: MakeRun, changes: dict[str, Any], said: str) -> None:
    one, two = _run(make_run, "one", {}), _run(make_run, "two", {}, **changes)
    labels = _labels(one, two)
    assert len(labels) == 2
    assert labels[1].endswith(said)


def test_what_only_says_where_and_how_a_run_is_kept_is_not(make_run: MakeRun) -> None:
    places = {"output_dir": "x", "cache_dir": "c", "experiment": "e", "workers": 4, "seed": 5, "device_name": "cpu"}
    places |= {"handlers#mlflow#uri": "http://x", "handlers#checkpoints#every_minutes": 1}
    assert len(_labels(_run(make_run, "one", {}), _run(make_run, "two", {}, **places))) == 1


def test_another_wiring_of_another_version_is_a_remark(make_run: MakeRun) -> None:
    wired = {"train#dataset#batch_size": "$@plan.batch_size"}
    old = [_run(make_run, f"old{i}", {}, seed=i, commit="old", **wired) for i in (1, 2)]
    new = [_run(make_run, f"new{i}", {}, seed=i, commit="new", learning_rate=0.1 * i) for i in (1, 2)]
    groups, remarks = group_runs([*old, new[0]])
    assert [group.label for group in groups] == ["pseudo_label, learning_rate=0.002", "pseudo_label, learning_rate=0.1"]
    assert remarks == ["train#dataset#batch_size: another with another version of medseg, and not told apart"]
    assert len(_labels(old[0], *new)) == 3
    # the same, set by somebody who has one version
    here = _run(make_run, "here", {}, commit="new", **wired)
    there = _run(make_run, "there", {}, commit="new")
    assert len(_labels(here, there)) == 2


def test_plans_count_by_their_content(make_run: MakeRun) -> None:
    def run(name: str, plan: dict[str, Any], **overrides: Any) -> RunRecord:
        content = {"name": name, "reasons": {"x": name}, "patch_size": [8, 8, 8], "channels": [{"mean": 1.0}], **plan}
        return _run(make_run, name, {}, _plan=content, **overrides)

    first = run("first", {})
    assert len(_labels(first, run("named", {}, plan_file="first/plan.yaml", seed=2))) == 1
    assert _labels(first, run("other", {"patch_size": [16, 8, 8]}, plan_file="b.yaml"))[1].startswith(
        "pseudo_label, plan=16x8x8-"
    )
    # statistics follow from the cases that a seed draws, unless somebody gives them
    drawn = run("drawn", {"channels": [{"mean": 2.0}]}, seed=2)
    given = run("given", {"channels": [{"mean": 3.0}]}, plan_file="c.yaml", seed=3)
    assert [len(group.runs) for group in group_runs([first, drawn, given])[0]] == [2, 1]


def test_losses_are_named_after_overlays() -> None:
    for name, found in overlays("loss").items():
        config = yaml.safe_load((overlay_folder() / "loss" / f"{name}.yaml").read_text())["loss"]
        assert loss_name(config) == name
        plain = found["loss#_target_"]
        if short_name(str(plain)) == name:  # then the bare class is the same loss, or known not to be
            defaults = inspect.signature(getattr(medseg.losses, plain.rpartition(".")[2])).parameters
            values = {key.removeprefix("loss#"): value for key, value in found.items() if key != "loss#_target_"}
            as_class = all(defaults[key].default == v for key, v in values.items() if not is_wiring(as_text(v)))
            assert as_class is (name not in OTHER_THAN_DEFAULTS)
            assert (loss_name({"_target_": plain}) == name) is as_class
    tversky = {"_target_": "medseg.losses.TverskyLoss", "alpha": 0.4, "beta": 0.7}
    assert loss_name(tversky) == "tversky(alpha=0.4)"
    adaptive = yaml.safe_load((overlay_folder() / "loss" / "adaptive.yaml").read_text())["loss"]
    adaptive["weights"]["ce"]["start"] = 0.5
    assert loss_name(adaptive) == "adaptive(weights#ce#start=0.5)"
    assert loss_name({"_target_": "mine.SpecialLoss", "power": [1, 2]}) == "special(power=[1,2])"
    compound = {"_target_": "medseg.losses.CompoundLoss", "losses": {"a": {"_target_": "mine.ALoss"}}}
    assert loss_name(compound) == "compound(losses#a=ALoss)"
    assert loss_name("$mine.make(0.3)") == "mine.make(0.3)"


def test_volumes_too_large_and_too_small_are_not_right_together() -> None:
    from medseg.metrics.report import ClassResult

    def record(difference: float) -> RunRecord:
        result = ClassResult("organ", 0.5, 1.0, 1.0, 1.0, False, {"volume_difference_ml": difference})
        return RunRecord("r", Path(), {}, {}, {}, "", None, {"case": [result]}, (), 0.0, 0)

    group = Group(("a",), "all labels", (record(10.0), record(-10.0)))
    assert group.values("organ", "volume_difference_ml") == {"case": 0.0}
    assert group.errors("organ", "volume_difference_ml") == {"case": 10.0}
    assert group.mean("volume_difference_ml") == 10.0
    assert "volume_difference_ml" in group.measures("organ")
    assert not [name for name in group.measures("organ") if "|" in name]
