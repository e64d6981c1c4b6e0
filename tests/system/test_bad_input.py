"""Bad input ends in one line that says what to do, with exit code 2, and leaves nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("elsewhere")


def _first(folder: Path) -> Path:
    return sorted(folder.glob("*.nii.gz"))[0]


def _changed(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine if affine is None else affine), path)


def _nan(a: np.ndarray) -> np.ndarray:
    a = a.astype(np.float32)
    a[0, 0, 0] = np.nan
    return a


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "label value outside the task": (
        lambda d: _changed(_first(d / "labelsTr"), lambda a: np.where(a == 1, 9, a).astype(np.uint8)),
        "label value 9",
    ),
    "label of another shape": (
        lambda d: _changed(_first(d / "labelsTr"), lambda a: a[:-1]),
        "not on the grid",
    ),
    "label of another affine": (
        lambda d: _changed(_first(d / "labelsTr"), lambda a: a, np.diag([1.0, 1, 1, 1])),
        "not on the grid",
    ),
    "NaN voxels": (lambda d: _changed(_first(d / "imagesTr"), _nan), "NaN"),
    "4-D image": (
        lambda d: _changed(_first(d / "imagesTr"), lambda a: np.stack([a, a], axis=-1)),
        "expected 3",
    ),
    "missing image": (lambda d: _first(d / "imagesTr").unlink(), "no such file"),
    "broken dataset.json": (lambda d: (d / "dataset.json").write_text("{"), "dataset.json"),
    "empty folder": (lambda d: [shutil.rmtree(d), d.mkdir()], "dataset.json"),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_broken_data(what: str, medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_cohort, data)
    breakage, said = BREAKAGES[what]
    breakage(data)
    code, out, err = medseg(
        "train", "--data", data, "--method", "supervised", "--network", "small", "--steps", 1, "--output", "a"
    )
    assert code == 2
    assert out == ""
    *before, line = err.strip().splitlines()
    assert all(one.startswith(("planning by the cases: ", "preparing cases: ")) for one in before), err
    assert line.startswith("Error: ")
    assert said in line
    assert str(data) in line
    assert list((tmp_path / "a").iterdir()) == []  # which is removed when the process ends


def test_a_broken_validation_case_is_found_before_the_first_step(
    medseg: Any, tiny_cohort: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_cohort, data)
    name = json.loads((data / "splits.json").read_text())["validation"][0]
    label = data / "labelsTr" / f"{name}.nii.gz"
    _changed(label, lambda a: np.where(a == 1, 9, a).astype(np.uint8))
    code, _, err = medseg(
        "train", "--data", data, "--method", "supervised", "--network", "small", "--steps", 9, "--output", "a"
    )
    assert code == 2
    assert f"Error: {label}" in err.splitlines()[-1]
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--method", "psuedo_label"), "did you mean 'pseudo_label'"),
        (("--loss", "dice_cee"), "did you mean 'dice_ce'"),
        (("--task", "hipocampus"), "did you mean 'hippocampus'"),
        (("--set", "stepz=3"), "did you mean 'steps'"),
        (("--set", "handlers#steps"), "KEY=VALUE"),
        (("--set", "train#trainr#budget=3"), "did you mean 'train#trainer'"),
        (("--labelled", "many"), "--labelled many"),
        (("--labelled", "50"), "50"),
        (("--steps", "0"), "steps is 0"),
        (("--steps", "1", "--max-minutes", "1"), "one of them"),
        (("--device", "cpuu"), "did you mean 'cpu'"),
        (("--set", "precision=bf61"), "did you mean 'bf16'"),
        (("--set", "seed=2001-99-99"), "the value is not readable"),
        (("--plan", "plan.yaml"), "plan.yaml: no such plan"),
        (("--config", "mine.yaml"), "mine.yaml"),
        (("--output", "/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_wrong_options(options: tuple[str, ...], said: str, medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    given = options if "--data" in options else ("--data", tiny_cohort, *options)
    rest = () if "--steps" in options else ("--steps", 1)
    code, out, err = medseg("train", "--network", "small", *given, *rest)
    assert code == 2
    assert (out, len(err.strip().splitlines())) == ("", 1), err
    assert said in err


def test_a_folder_with_a_run_is_left_alone(medseg: Any, tiny_cohort: Path, tiny_run: Path) -> None:
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    code, _, err = medseg("train", "--data", tiny_cohort, "--steps", 1, "--output", tiny_run)
    assert code == 2
    assert "holds a run already" in err
    assert before == {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}


def test_a_method_that_needs_unlabelled_cases_says_so(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_cohort, tmp_path / "data")
    split = json.loads((tmp_path / "data" / "splits.json").read_text())
    split["train"] = next(iter(split["labelled"].values()))
    (tmp_path / "data" / "splits.json").write_text(json.dumps(split))
    code, _, err = medseg("train", "--data", "data", "--method", "pseudo_label", "--steps", 1, "--output", "a")
    assert code == 2
    assert "needs unlabelled cases" in err
