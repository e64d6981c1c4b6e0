"""Labels that are not one map of all classes: soft, overlapping, annotated in part. Through data and bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from scipy.ndimage import gaussian_filter

from medseg.data import load_cohort
from medseg.methods import Progress
from medseg.share import bundle_folder, overlay_folder

METHODS = sorted(path.stem for path in (overlay_folder() / "method").glob("*.yaml"))
Change = Callable[[dict[str, Any], Path], None]

pytestmark = pytest.mark.usefixtures("elsewhere")


def changed(cohort: Path, folder: Path, change: Change) -> Path:
    """A copy of the cohort with another description or other labels."""
    shutil.copytree(cohort, folder)
    description = json.loads((folder / "dataset.json").read_text())
    change(description, folder)
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def workflow(data: Path, method: str = "supervised", **overrides: Any) -> ConfigWorkflow:
    overlays = [overlay_folder() / part for part in (f"method/{method}.yaml", "network/small.yaml")]
    found = ConfigWorkflow(
        [str(path) for path in (bundle_folder() / "configs" / "train.yaml", *overlays)],
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(data),
        cache_dir=str(data.parent / "cache"),
        labelled=2,
        steps=2,
        **overrides,
    )
    found.initialize()
    return found


def step(found: ConfigWorkflow) -> dict[str, float]:
    """One step late in the run, where every term is on."""
    iteration = found.parser.get_parsed_content("iteration")
    raw = next(iter(found.parser.get_parsed_content("train#dataloader")))
    values = iteration(raw, Progress(9, 10)).values
    assert all(torch.as_tensor(value).isfinite() for value in values.values()), values
    return {name: float(value) for name, value in values.items()}


def soften(description: dict[str, Any], folder: Path) -> None:
    description["label_type"] = "soft"
    classes = len(description["labels"])
    for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
        image = nib.load(path)
        labels = np.asarray(image.dataobj)
        soft = [gaussian_filter((labels == k).astype(np.float32), 0.7) for k in range(1, classes)]
        nib.save(nib.Nifti1Image(np.stack(soft, -1), image.affine), path)


def overlap(description: dict[str, Any], folder: Path) -> None:
    values = [int(value) for value in description["labels"] if int(value)]
    description["regions"] = {"everything": values, "the last": values[-1:]}
    description["regions_class_order"] = [values[0], values[-1]]


def only_the_first(description: dict[str, Any], folder: Path) -> None:
    for entry in description["training"]:
        entry["annotated"] = [1]


@pytest.fixture(scope="module", params=[soften, overlap, only_the_first])
def special(request: pytest.FixtureRequest, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(tiny_cohort, tmp_path_factory.mktemp("special") / "data", request.param)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str, special: Path) -> None:
    step(workflow(special, method))


def test_soft_labels_reach_the_loss_as_probabilities(tiny_cohort: Path, tmp_path: Path) -> None:
    found = workflow(changed(tiny_cohort, tmp_path / "data", soften))
    raw = next(iter(found.parser.get_parsed_content("train#dataloader")))["labelled"]
    classes = len(found.parser.get_parsed_content("plan").classes)
    assert raw["label"].shape[1] == classes
    torch.testing.assert_close(raw["label"].sum(1), torch.ones_like(raw["label"][:, 0]), atol=0.02, rtol=0)
    between = (raw["label"] > 0.1) & (raw["label"] < 0.9)
    assert between.any()
    reference = found.parser.get_parsed_content("validate#dataset")[0].reference
    assert set(np.unique(reference)) <= set(range(classes))
    assert reference.any()


def test_corrected_label_maps_join_soft_labels(tiny_cohort: Path, tmp_path: Path) -> None:
    """What `medseg suggest` writes and people correct are maps of values, whatever the cohort's labels are."""
    data = changed(tiny_cohort, tmp_path / "data", soften)
    case = load_cohort(data, 2).unlabelled[0]
    name, image = case.name, nib.load(case.images[0])
    (tmp_path / "corrected").mkdir()
    labels = np.zeros(image.shape, np.uint8)
    labels[10:20, 10:20] = 2
    nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "corrected" / f"{name}.nii.gz")
    found = workflow(data, corrected_dir=str(tmp_path / "corrected"))
    cases = found.parser.get_parsed_content("cohort").labelled
    prepared = found.parser.get_parsed_content("cache").prepare(cases)
    assert [case.name for case in cases][-1] == name
    assert len({case.soft.shape[0] for case in prepared}) == 1
    shares = prepared[-1].soft.array().max(axis=(1, 2, 3)).tolist()
    assert shares == [255 * (row == 1) for row in range(len(shares))]
    step(found)


def test_what_nobody_looked_for_teaches_and_judges_nothing(tiny_cohort: Path, tmp_path: Path) -> None:
    """The other classes may be in the files or be wiped out of them: the weights are the same, and none is judged."""

    def wiped(description: dict[str, Any], folder: Path) -> None:
        only_the_first(description, folder)
        for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
            image = nib.load(path)
            labels = np.asarray(image.dataobj).copy()
            labels[labels > 1] = 0
            nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)

    weights = []
    for i, change in enumerate((only_the_first, wiped)):
        found = workflow(changed(tiny_cohort, tmp_path / str(i), change))
        step(found)
        weights.append(found.parser.get_parsed_content("iteration").students[0].state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    evaluator = found.parser.get_parsed_content("validate#evaluator")
    _, results = evaluator.evaluate()
    assert results
    assert {result.class_name for case in results.values() for result in case} == {evaluator.plan.classes[1]}


def test_schemes_and_label_smoothing_are_keys_of_the_bundle(tiny_cohort: Path, tmp_path: Path) -> None:
    data = changed(tiny_cohort, tmp_path / "data", lambda *_: None)
    plain = step(workflow(data))
    weighted = step(workflow(data, **{"loss#class_weight": "effective_number"}))
    smooth = step(workflow(data, **{"loss#label_smoothing": 0.2}))
    assert weighted["labelled/ce"] != plain["labelled/ce"]
    assert smooth["labelled/ce"] > plain["labelled/ce"]
    assert smooth["labelled/dice"] == plain["labelled/dice"]
