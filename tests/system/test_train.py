"""The main job on phantoms: what a run leaves behind, and that both ways to start it are one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from medseg.engine import load_checkpoint
from medseg.inference import load_model
from medseg.share import bundle_folder, overlay_folder

MODEL = {"model.safetensors", "plan.yaml", "model_card.md"}
SMALL = ("--network", "small", "--set", "val_interval=2")

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_run_leaves_what_the_readme_says(tiny_run: Path) -> None:
    expected = {"config.yaml", "plan.yaml", "metrics.json", "metrics.jsonl", "checkpoints", "model", "pictures"}
    expected |= {"run.json", "mlflow.json", "predictions"}
    assert {path.name for path in tiny_run.iterdir() if not path.name.startswith(".")} == expected
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {"best.pt", "last.pt"}
    assert {path.name for path in (tiny_run / "model").iterdir()} == MODEL
    assert list((tiny_run / "pictures").glob("*.png"))

    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert "test" not in metrics
    for checkpoint in ("best", "last"):
        summary = metrics["validation"][checkpoint]["summary"]
        assert [row["class_name"] for row in summary["classes"]] == ["liver", "kidneys", "aorta"]
        assert metrics["validation"][checkpoint]["cases"]
        assert all(0 < row["ece"]["mean"] < 1 for row in summary["classes"])
    rows = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    assert {"loss", "loss/labelled", "labelled/dice", "labelled/ce", "learning_rate", "ramp"} <= set(train[-1])
    assert {"kept_share", "images_per_second"} <= set(train[-1])
    validations = [row for row in rows if row["kind"] == "validation"]
    assert [row["step"] for row in validations] == [2, 4]
    for row in validations:
        assert row["validation/dice"] == max(row["validation/dice_student"], row["validation/dice_teacher"])
    assert 0 <= validations[-1]["validation/pseudo_label_kept_share"] <= 1
    assert 0 <= validations[-1]["validation/pseudo_label_kept_foreground"] <= 1


def test_the_model_is_the_checkpoint_that_validated_best(tiny_run: Path) -> None:
    best = load_checkpoint(tiny_run / "checkpoints" / "best.pt")
    rows = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    dice = {row["step"]: row.get("validation/dice", -1) for row in rows if row["kind"] == "validation"}
    assert best["step"] == max(dice, key=lambda step: (dice[step], -step))
    model = load_file(tiny_run / "model" / "model.safetensors")
    for name, tensor in best[best["chosen"]].items():
        assert torch.equal(model[name], tensor), name
    assert load_model(tiny_run / "model").plan.name == "phantoms"


def test_bundle_and_command_line_end_with_equal_weights(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    code, _, err = medseg(
        "train", "--data", tiny_cohort, "--method", "pseudo_label", "--loss", "tversky", *SMALL,
        "--steps", 3, "--seed", 5, "--output", tmp_path / "a",
    )  # fmt: skip
    assert code == 0, err
    files = [
        bundle_folder() / "configs" / "train.yaml",
        overlay_folder() / "method" / "pseudo_label.yaml",
        overlay_folder() / "loss" / "tversky.yaml",
        overlay_folder() / "network" / "small.yaml",
    ]
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str([str(f) for f in files])]
    command += ["--dataset_dir", f"$str({str(tiny_cohort)!r})", "--steps", "3", "--seed", "5", "--val_interval", "2"]
    command += ["--output_dir", str(tmp_path / "b")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    a, b = (load_checkpoint(tmp_path / run / "checkpoints" / "last.pt") for run in "ab")
    for key in ("student_0", "teacher"):
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key])
    ours, theirs = (yaml.safe_load((tmp_path / run / "config.yaml").read_text()) for run in "ab")
    assert {k for k in ours if ours[k] != theirs[k]} == {"dataset_dir", "output_dir"}
    # what the data says of itself is found also where its folder is an expression, as in overlays of tasks
    assert "made by a computer" in (tmp_path / "b" / "model" / "model_card.md").read_text()


def test_labels_of_unlabelled_cases_change_nothing(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_cohort, tmp_path / "data")
    split = json.loads((tmp_path / "data" / "splits.json").read_text())
    labelled = next(iter(split["labelled"].values()))[0]
    other = next(name for name in split["train"] if name != labelled)
    split["labelled"] = {"1": [labelled]}
    (tmp_path / "data" / "splits.json").write_text(json.dumps(split))
    listing = json.loads((tmp_path / "data" / "dataset.json").read_text())
    for row in listing["training"]:
        row.setdefault("label", row["image"].replace("images", "labels"))
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(listing))
    weights = []
    for name, content in (("without", None), ("garbage", b"no label at all")):
        path = next((tmp_path / "data" / "imagesTr").glob(f"{other}.*"))
        label = tmp_path / "data" / "labelsTr" / path.name
        label.unlink(missing_ok=True)
        if content:
            label.write_bytes(content)
        code, _, err = medseg(
            "train", "--data", tmp_path / "data", "--labelled", 1, *SMALL, "--steps", 2, "--output", tmp_path / name
        )
        assert code == 0, err
        weights.append(load_file(tmp_path / name / "model" / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_minutes_are_frozen_into_steps(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    code, _, err = medseg(
        "train", "--data", tiny_cohort, "--method", "supervised", *SMALL, "--max-minutes", 0.15,
        "--set", "val_interval=1000", "--output", tmp_path / "a",
    )  # fmt: skip
    assert code == 0, err
    last = load_checkpoint(tmp_path / "a" / "checkpoints" / "last.pt")
    assert last["step"] == last["steps"] >= 1
    run = _runs(tmp_path)[0]
    assert run.data.params["frozen_steps"] == str(last["steps"])
    assert run.info.run_name == "a"


def _runs(folder: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlruns.db'}")
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def test_a_run_that_raises_ends_failed(
    medseg: Any, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.engine import Iteration

    monkeypatch.setattr(Iteration, "__call__", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError):
        medseg("train", "--data", tiny_cohort, *SMALL, "--steps", 2, "--output", tmp_path / "a")
    (run,) = _runs(tmp_path)
    assert run.info.status == "FAILED"
    from mlflow import MlflowClient

    kept = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlruns.db'}").list_artifacts(run.info.run_id)
    assert {"config.yaml", "plan.yaml", "run.json"} <= {file.path for file in kept}


@pytest.mark.gpu
def test_a_gpu_trains(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    code, _, err = medseg(
        "train", "--data", tiny_cohort, "--runtime", "cuda", *SMALL, "--steps", 4, "--output", tmp_path / "a"
    )
    assert code == 0, err
    assert load_checkpoint(tmp_path / "a" / "checkpoints" / "last.pt")["step"] == 4


def test_plain_folders_train(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "labels").mkdir()
    for path in sorted((tiny_cohort / "imagesTr").iterdir())[:4]:
        shutil.copy(path, tmp_path / "data" / "images")
    for path in sorted((tiny_cohort / "labelsTr").iterdir()):
        if (tmp_path / "data" / "images" / path.name).exists():
            shutil.copy(path, tmp_path / "data" / "labels")
    code, out, err = medseg(
        "train", "--data", tmp_path / "data", "--method", "supervised", "--modality", "CT", *SMALL,
        "--steps", 2, "--output", tmp_path / "a",
    )  # fmt: skip
    assert code == 0, err
    assert "judging the checkpoints best and last by the validation cases: 1\n" in out
    assert "validation: 1 case" in out
    run = tmp_path / "a"
    assert out.endswith(f"Next: medseg report {run}\n      medseg predict {run}/model IMAGES --output DIR\n")
    said = [line.partition(";")[0] for line in err.splitlines()]
    assert said[:3] == [
        "planning by the cases: 1 labelled, 2 unlabelled, 1 validation", "preparing cases: 1 labelled",
        "preparing cases: 1 validation",
    ]  # fmt: skip
    assert load_model(tmp_path / "a" / "model").plan.channels[0].normalisation == "clip_zscore"
    assert torch.isfinite(
        load_file(tmp_path / "a" / "model" / "model.safetensors")["classifier.conv.conv.weight"]
    ).all()
