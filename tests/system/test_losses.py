"""Every loss through the bundle, on a cohort of which one case is annotated in part."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from torch import Tensor

from medseg.augment import Batch
from medseg.methods import Progress
from medseg.share import bundle_folder, overlay_folder

LOSSES = sorted(path.stem for path in (overlay_folder() / "loss").glob("*.yaml"))
STEPS = 2


@pytest.fixture(scope="module")
def partly_annotated(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort with the class `ignore` in half of every labelled training case."""
    folder = tmp_path_factory.mktemp("partly") / "phantoms"
    shutil.copytree(tiny_cohort, folder)
    description = json.loads((folder / "dataset.json").read_text())
    ignored = max(map(int, description["labels"])) + 1
    description["labels"][str(ignored)] = "ignore"
    (folder / "dataset.json").write_text(json.dumps(description))
    for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
        image = nib.load(path)
        labels = np.asarray(image.dataobj).copy()
        labels[: len(labels) // 2] = ignored
        nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    return folder


class Garbage:
    """The batch of `augment` with random classes where the mask says that nothing is known."""

    def __init__(self, augment: Any, classes: int) -> None:
        self.augment = augment
        self.classes = classes
        self.changed = 0

    def __call__(self, *arguments: Any) -> Batch:
        batch = copy.copy(self.augment(*arguments))
        label, mask = batch.labelled.label, batch.labelled.mask
        other = torch.randint(0, self.classes, label.shape)
        self.changed += int(((other != label) & ~mask).sum())
        object.__setattr__(batch, "labelled", copy.copy(batch.labelled))
        object.__setattr__(batch.labelled, "label", torch.where(mask, label, other))
        return batch


def trained(iteration: Any, loader: Any) -> dict[str, Tensor]:
    """The student's weights after a few steps; everything is put back as it was."""
    student, before = iteration.students[0], copy.deepcopy(iteration.state_dict())
    for step, raw in zip(range(STEPS), loader, strict=False):
        iteration(raw, Progress(step, STEPS))
    after = copy.deepcopy(student.state_dict())
    student.load_state_dict(before["student_0"])
    iteration.optimizer.load_state_dict(before["optimizer"])
    return after


@pytest.mark.filterwarnings("ignore:a Laplacian pyramid")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.usefixtures("elsewhere")
def test_what_ignored_voxels_hold_makes_no_difference(name: str, partly_annotated: Path) -> None:
    overlays = [
        overlay_folder() / part for part in (f"loss/{name}.yaml", "method/supervised.yaml", "network/small.yaml")
    ]
    workflow = ConfigWorkflow(
        [str(path) for path in (bundle_folder() / "configs" / "train.yaml", *overlays)],
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(partly_annotated),
        cache_dir=str(partly_annotated.parent / "cache"),
        steps=STEPS,
    )
    workflow.initialize()
    iteration = workflow.parser.get_parsed_content("iteration")
    loader = workflow.parser.get_parsed_content("train#dataloader")
    before = copy.deepcopy(iteration.students[0].state_dict())
    expected = trained(iteration, loader)
    iteration.augment = Garbage(iteration.augment, classes=4)
    found = trained(iteration, loader)
    assert iteration.augment.changed > 1000
    assert any(not torch.equal(before[key], expected[key]) for key in before)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
