"""The commands that docs/inference.md gives for an exported bundle, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import medseg
from medseg.data.volume import read_labels
from medseg.inference import load_model
from medseg.inference.export import export_bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("elsewhere")]


@pytest.fixture(scope="module")
def bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(tiny_run, tmp_path_factory.mktemp("export") / "segmentation")[0]


def _monai(bundle: Path, *command: str, config: str = "inference") -> str:
    given = [*command, "--config_file", f"{bundle}/configs/{config}.yaml", "--bundle_root", str(bundle)]
    done = subprocess.run([sys.executable, "-m", "monai.bundle", *given], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_run_predicts_and_evaluates(bundle: Path, tiny_run: Path, tiny_cohort: Path) -> None:
    scans = tiny_cohort / "imagesTr"
    said = _monai(bundle, "run", "--dataset_dir", str(scans), "--output_dir", "out")
    model = medseg.load_model(tiny_run)
    images = sorted(scans.glob("*.nii.gz"))
    assert f"{len(images)} segmentations written to out" in said
    assert [path.name for path in sorted(Path("out").iterdir())] == [path.name for path in images]
    for image in images:
        assert np.array_equal(read_labels(Path("out") / image.name).array, model.predict(image).labels)

    _monai(bundle, "run", "--dataset_dir", str(tiny_cohort), "--output_file", "found.json", config="evaluate")
    trained = json.loads((tiny_run / "metrics.json").read_text())["validation"]["best"]
    assert json.loads(Path("found.json").read_text())["cases"] == trained["cases"]


def test_monai_verifies_and_converts_it(bundle: Path, tiny_run: Path) -> None:
    meta = ("--meta_file", f"{bundle}/configs/metadata.json")
    weights = ("--ckpt_file", f"{bundle}/models/model.pt")
    _monai(bundle, "verify_net_in_out", "network_def", *meta)
    _monai(bundle, "ckpt_export", "network_def", "--filepath", "model.ts", *weights, *meta)
    model = load_model(tiny_run)
    image = torch.randn(1, 1, *model.plan.patch_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.network(image)
    torch.testing.assert_close(torch.jit.load("model.ts")(image), expected, atol=1e-4, rtol=1e-4)

    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _monai(bundle, "onnx_export", "network_def", "--filepath", "model.onnx", *weights, *meta)
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3, rtol=1e-3)
