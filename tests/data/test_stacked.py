from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.data.cache import CaseCache
from medseg.data.case import load_case
from medseg.data.check import check_data
from medseg.data.cohort import load_cohort
from medseg.data.decathlon_channels import split_channels
from medseg.data.stacked import count_channels, read_first
from medseg.data.volume import read_geometry, read_volume, write_segmentation
from medseg.errors import InputError
from medseg.inference.inputs import find_inputs
from medseg.planning import plan_cohort

AFFINE = np.diag([-1.0, 1, 2, 1])


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """As Task05_Prostate is published: the channels of an image are its fourth axis."""
    random, entries = np.random.default_rng(0), []
    for name in "abc":
        for folder, array in (
            ("imagesTr", random.normal(size=(16, 12, 8, 2)).astype(np.float32)),
            ("labelsTr", (random.random((16, 12, 8)) > 0.5).astype(np.uint8)),
        ):
            (tmp_path / "task" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "task" / folder / f"{name}.nii.gz")
        entries.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    content = {"modality": {"0": "T2", "1": "CT"}, "labels": {"0": "background", "1": "PZ"}, "training": entries}
    (tmp_path / "task/dataset.json").write_text(json.dumps(content))
    (tmp_path / "task/splits.json").write_text(json.dumps({"train": ["a", "b"], "validation": ["c"]}))
    return tmp_path / "task"


def test_it_is_as_one_file_a_channel(task: Path, tmp_path: Path) -> None:
    """Plan, prepared images, findings: as after `medseg data fetch`, which splits the channels."""
    shutil.copytree(task, tmp_path / "apart" / "task")
    split_channels(tmp_path / "apart/task/dataset.json")
    found = []
    for folder in (task, tmp_path / "apart/task"):
        checked = check_data(folder)
        assert checked.errors == 0, [finding.text for finding in checked.findings]
        cohort = load_cohort(folder)
        plan = plan_cohort(cohort)
        prepared = CaseCache(folder / "cache", plan, cohort.classes).case(cohort.labelled[0])
        found.append((plan.model_dump(), prepared.images.array().copy(), [one.what for one in checked.findings]))
    assert found[0][0] == found[1][0]
    assert found[0][0]["channels"][1]["normalisation"] == "clip_zscore"
    assert np.array_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]


def test_prediction_takes_it_and_writes_on_its_grid(task: Path, tmp_path: Path) -> None:
    (case,) = find_inputs([task / "imagesTr/a.nii.gz"], channels=2).cases
    images, _, geometry = load_case(case, {0: "background", 1: "PZ"})
    assert images.shape == (2, 16, 12, 8)
    stored = np.asarray(nib.load(task / "imagesTr/a.nii.gz").dataobj)
    assert np.array_equal(images, np.moveaxis(stored, -1, 0))
    assert np.array_equal(read_first(case.images[0]).array, images[0])
    for suffix in (".nii.gz", ".mha"):
        write_segmentation(tmp_path / f"out{suffix}", np.ones((16, 12, 8), np.uint8), like=case.images[0])
        assert read_volume(tmp_path / f"out{suffix}").array.shape == (16, 12, 8)
        assert read_geometry(tmp_path / f"out{suffix}").difference(geometry) is None
    assert find_inputs([task / "imagesTr/a.nii.gz"], channels=3).problems


def test_numbers_at_the_end_of_names_are_those_of_cases(task: Path, tmp_path: Path) -> None:
    volume = (task / "imagesTr/a.nii.gz").read_bytes()
    for name in ("p_0001", "p_0002", "q_0000"):
        (tmp_path / f"{name}.nii.gz").write_bytes(volume)
    found = find_inputs([tmp_path], channels=2)
    assert not found.problems
    assert [case.name for case in found.cases] == ["p_0001", "p_0002", "q"]


def test_another_number_of_channels_is_named(task: Path) -> None:
    array = np.zeros((16, 12, 8, 3), np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), task / "imagesTr/a.nii.gz")
    nib.save(nib.Nifti1Image(array[..., 0], AFFINE), task / "imagesTr/b.nii.gz")
    array = np.random.default_rng(0).normal(size=(16, 12, 8, 2))
    array[0, 0, 0, 1] = np.nan
    nib.save(nib.Nifti1Image(array, AFFINE), task / "imagesTr/c.nii.gz")
    errors = [finding.text for finding in check_data(task).findings if finding.severity == "error"]
    assert len(errors) == 3
    assert "a.nii.gz: one file for 2 channels holds 3; expected 2 along a fourth axis" in errors[0]
    assert "b.nii.gz: one file for 2 channels holds 1" in errors[1]
    assert "c.nii.gz: 1 of 3072 voxels are NaN" in errors[2]
    with pytest.raises(InputError, match="holds 3"):
        load_case(load_cohort(task).labelled[0], {0: "background", 1: "PZ"})


def test_an_image_of_several_volumes_is_refused_where_there_is_one_channel(task: Path) -> None:
    content = json.loads((task / "dataset.json").read_text())
    (task / "dataset.json").write_text(json.dumps(content | {"modality": {"0": "CT"}}))
    with pytest.raises(InputError, match="4-D image of shape"):
        load_case(load_cohort(task).labelled[0], {0: "background", 1: "PZ"})
    assert count_channels(task / "imagesTr/a.nii.gz") == 2
