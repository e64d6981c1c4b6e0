"""Every overlay builds a run and takes one step on a phantom."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from medseg.methods import Progress
from medseg.share import bundle_folder, overlay_folder

OVERLAYS = sorted(path.relative_to(overlay_folder()).as_posix() for path in overlay_folder().glob("*/*.yaml"))
OVERLAYS = [name for name in OVERLAYS if not name.startswith("experiment/")]  # these are no overlays
NEEDS_GPU = {"runtime/cuda.yaml"}


def test_every_concern_has_overlays() -> None:
    concerns = {name.split("/")[0] for name in OVERLAYS}
    assert concerns >= {"task", "method", "loss", "network", "runtime"}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.gpu if name in NEEDS_GPU else ()) for name in OVERLAYS]
)
def test_overlay_takes_a_step(
    name: str, tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    override: dict[str, object] = {"dataset_dir": str(tiny_cohort), "cache_dir": str(tiny_cohort.parent / "cache")}
    if not name.startswith("network/"):
        override["plan_sizes#base_filters"] = 4
    if name.startswith("task/") and name != "task/phantoms.yaml":
        monkeypatch.setenv("MEDSEG_DATA", str(request.getfixturevalue("real_data")))
        override = {"labelled": 4 if "hippocampus" not in name else 3, "steps": 2}
    if not name.startswith("runtime/"):
        override["steps"] = 2
    files = [bundle_folder() / "configs" / "train.yaml", overlay_folder() / name]
    if name.startswith("task/"):
        files.append(overlay_folder() / "method" / "supervised.yaml")  # reads the labelled cases only
    lines = (overlay_folder() / name).read_text().splitlines()
    assert lines[0].startswith("# "), "the first line says what it is for"
    assert len(lines) <= 30
    workflow = ConfigWorkflow([str(f) for f in files], workflow_type="train", logging_file=False, **override)
    workflow.initialize()
    iteration = workflow.parser.get_parsed_content("iteration")
    loader = workflow.parser.get_parsed_content("train#dataloader")
    before = [p.detach().clone() for p in iteration.students[0].parameters()]
    values = iteration(next(iter(loader)), Progress(0, 1)).values
    assert math.isfinite(float(values["loss"]))
    assert any(not torch.equal(a, b) for a, b in zip(before, iteration.students[0].parameters(), strict=True))
