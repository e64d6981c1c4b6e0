"""Predictions lie on their inputs' own grids, and the model folder is all that they need."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.data.volume import read_labels, read_volume
from medseg.inference.postprocess import clean
from medseg.plan import Cleaning, load_plan, save_plan

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def model(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, away from its run."""
    return Path(shutil.copytree(tiny_run / "model", tmp_path / "model"))


def _image(cohort: Path) -> Path:
    return sorted((cohort / "imagesTr").glob("*.nii.gz"))[0]


def test_folder_to_folder(medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    code, out, err = medseg("predict", model, tiny_cohort / "imagesTr", "--output", "out")
    assert code == 0, err
    images = sorted((tiny_cohort / "imagesTr").glob("*.nii.gz"))
    assert [path.name for path in sorted(Path("out").glob("*.nii.gz"))] == [path.name for path in images]
    for image in images:
        result, source = nib.load(Path("out") / image.name), nib.load(image)
        assert np.array_equal(result.affine, source.affine)
        assert result.shape == source.shape
        assert set(np.unique(result.dataobj)) <= {0, 1, 2, 3}
    assert f"{len(images)} segmentations" in out


@pytest.mark.parametrize("case", ["phantom", "hippocampus"])
def test_a_rotated_flipped_anisotropic_copy_keeps_its_affine(
    case: str, medseg: Any, model: Path, tiny_cohort: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = nib.load(_image(tiny_cohort if case == "phantom" else request.getfixturevalue("real_data") / case))
    array = np.asarray(source.dataobj)
    turned = np.flip(np.transpose(array, (2, 0, 1)), axis=1)[:, ::2]
    change = np.zeros((4, 4))  # new voxel -> old voxel
    change[2, 0], change[0, 1], change[1, 2], change[3, 3] = 1, -2, 1, 1
    change[0, 3] = array.shape[0] - 1
    angle = np.deg2rad(7)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = tilt @ source.affine @ change
    nib.save(nib.Nifti1Image(turned, affine), "turned.nii.gz")
    code, _, err = medseg("predict", model, "turned.nii.gz", "--output", "out")
    assert code == 0, err
    result = nib.load("out/turned.nii.gz")
    assert np.array_equal(result.affine, nib.load("turned.nii.gz").affine)
    assert result.shape == turned.shape


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_in_and_out(suffix: str, medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(_image(tiny_cohort))), f"case{suffix}")
    shutil.copy(_image(tiny_cohort), "same.nii.gz")
    code, _, err = medseg("predict", model, f"case{suffix}", "same.nii.gz", "--output", "out", "--keep-format")
    assert code == 0, err
    result = read_labels(f"out/case{suffix}")
    assert np.allclose(result.geometry.affine, read_volume(f"case{suffix}").geometry.affine)
    assert np.array_equal(result.array, read_labels("out/same.nii.gz").array)


def test_the_bundle_predicts_the_same(model: Path, medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    from medseg.share import bundle_folder

    config = str(bundle_folder() / "configs" / "inference.yaml")
    workflow = ConfigWorkflow(
        config, workflow_type="infer", logging_file=False,
        model_dir=str(model), dataset_dir=str(_image(tiny_cohort)), output_dir="bundle",
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    code, _, err = medseg("predict", model, _image(tiny_cohort), "--output", "ours")
    assert code == 0, err
    name = _image(tiny_cohort).name
    assert np.array_equal(read_labels(f"bundle/{name}").array, read_labels(f"ours/{name}").array)


def test_the_bundle_evaluates(tiny_run: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    from medseg.share import bundle_folder

    config = str(bundle_folder() / "configs" / "evaluate.yaml")
    workflow = ConfigWorkflow(
        config, workflow_type="infer", logging_file=False, model_dir=str(tiny_run / "model"),
        dataset_dir=str(tiny_cohort), output_file="validation.json",
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    ours = json.loads((tiny_run / "metrics.json").read_text())["validation"]["best"]
    assert json.loads(Path("validation.json").read_text())["cases"] == ours["cases"]


def test_outputs_that_are_there_are_not_replaced(medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    image = _image(tiny_cohort)
    Path("out").mkdir()
    (Path("out") / image.name).write_bytes(b"precious")
    code, _, err = medseg("predict", model, image, "--output", "out")
    assert code == 1
    assert "--overwrite" in err
    assert (Path("out") / image.name).read_bytes() == b"precious"
    assert medseg("predict", model, image, "--output", "out", "--overwrite")[0] == 0
    assert (Path("out") / image.name).read_bytes() != b"precious"


def test_inputs_are_never_overwritten(medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    shutil.copy(_image(tiny_cohort), "case.nii.gz")
    before = Path("case.nii.gz").read_bytes()
    code, _, err = medseg("predict", model, "case.nii.gz", "--output", ".", "--overwrite")
    assert code == 2
    assert "is an input" in err
    assert Path("case.nii.gz").read_bytes() == before


def test_room_for_probabilities_is_set_aside(
    medseg: Any, model: Path, tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.inference.batch import _reserve

    def refused(number: int) -> Any:
        def allocate(*arguments: Any) -> None:
            raise OSError(number, os.strerror(number))

        return allocate

    size = (1 << 22) + 5
    for allocate in (getattr(os, "posix_fallocate", None), refused(errno.EOPNOTSUPP), None):
        with monkeypatch.context() as patch, tempfile.TemporaryFile(dir=".") as file:
            if allocate:
                patch.setattr(os, "posix_fallocate", allocate, raising=False)
            else:
                patch.delattr(os, "posix_fallocate", raising=False)
            _reserve(file, size)
            found = os.fstat(file.fileno())
            assert (found.st_size, found.st_blocks * 512 >= size) == (size, True)
    monkeypatch.setattr(os, "posix_fallocate", refused(errno.ENOSPC), raising=False)
    code, _, err = medseg("predict", model, _image(tiny_cohort), "--output", "out", "--probabilities")
    assert code == 1
    assert "out: no room for probabilities (No space left on device)" in err


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_a_hostile_model_runs_nothing(medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").write_bytes(pickle.dumps(_Bomb()))
    code, _, err = medseg("predict", model, _image(tiny_cohort), "--output", "out")
    assert code == 2
    assert "not a readable safetensors file" in err
    plan = (model / "plan.yaml").read_text()
    for text in ("$__import__('pathlib').Path('exploded').touch()", "{_target_: pathlib.Path.touch, self: exploded}"):
        (model / "plan.yaml").write_text(plan.replace("spacing:", f"spacing: {text}\nunused:", 1))
        code, _, err = medseg("predict", model, _image(tiny_cohort), "--output", "out")
        assert code == 2
        assert "plan.yaml" in err
    assert not Path("exploded").exists()


def test_missing_parts_are_named(medseg: Any, model: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("nowhere", _image(tiny_cohort)), "no model there"),
        ((model, "nowhere.nii.gz"), "nowhere.nii.gz: no such file"),
        ((model, model / "plan.yaml"), "not a volume"),
        ((model, tmp_path / "model"), "no volumes in this folder"),
    ):
        code, _, err = medseg("predict", *arguments, "--output", "out")
        assert code == 2
        assert said in err
        assert len(err.strip().splitlines()) == 1


def test_post_processing_is_tuned_on_what_was_looked_for(medseg: Any, tiny_run: Path, tmp_path: Path) -> None:
    """Eight cases without any label, of which only class 1 was looked for: what is found of it is noise, and nothing is
    known of class 2."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    (case,) = record["cases"]["validation"]
    image = nib.load(case["label"])
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), "nothing.nii.gz")
    looked_for = {**case, "label": str(tmp_path / "nothing.nii.gz"), "annotated": [1]}
    record["cases"]["validation"] = [{**looked_for, "name": str(i)} for i in range(8)]
    (run / "run.json").write_text(json.dumps(record))
    code, out, err = medseg("tune-postprocessing", run)
    assert code == 0, err
    plan = load_plan(run / "model" / "plan.yaml")
    (row,) = [line for line in out.splitlines() if plan.classes[1] in line and plan.classes[1] + " t" not in line]
    assert "fewer than 5" not in row
    assert out.count("fewer than 5") == len(plan.classes) - 2


def test_post_processing_is_tuned_and_followed(medseg: Any, tiny_run: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = (run / "model" / "plan.yaml").read_bytes()
    code, out, err = medseg("tune-postprocessing", run, "--dry-run")
    assert code == 0, err
    assert "fewer than 5" in out  # one validation case proves nothing
    assert (run / "model" / "plan.yaml").read_bytes() == before
    assert medseg("tune-postprocessing", run)[0] == 0
    assert load_plan(run / "model" / "plan.yaml").postprocessing == {}

    plan = load_plan(run / "model" / "plan.yaml")
    image = _image(tiny_cohort)
    assert medseg("predict", run / "model", image, "--output", "raw")[0] == 0
    rules = {value: Cleaning(largest=True) for value in plan.classes if value}
    save_plan(plan.model_copy(update={"postprocessing": rules}), run / "model" / "plan.yaml")
    assert medseg("predict", run / "model", image, "--output", "clean")[0] == 0
    raw, cleaned = read_labels(f"raw/{image.name}").array, read_labels(f"clean/{image.name}").array
    assert np.array_equal(cleaned, clean(raw, rules, read_volume(image).geometry.spacing))
    assert not np.array_equal(cleaned, raw)
