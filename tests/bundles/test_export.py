"""An exported bundle as MONAI's tools, MONAI Label and `medseg predict` see it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, verify_metadata, verify_net_in_out

import medseg
from medseg.data.volume import read_geometry, read_labels
from medseg.errors import InputError
from medseg.inference import load_model
from medseg.inference.export import export_bundle


@pytest.fixture(scope="module")
def bundle(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, archive = export_bundle(tiny_run, tmp_path_factory.mktemp("export") / "segmentation")
    assert archive.name == "segmentation.zip"
    return folder


@pytest.fixture
def scan(tiny_cohort: Path) -> Path:
    return sorted((tiny_cohort / "imagesTr").glob("*.nii.gz"))[0]


pytestmark = pytest.mark.usefixtures("elsewhere")


def test_the_folder_and_the_zip_are_equal_and_whole(bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle.with_name("segmentation.zip")) as packed:
        packed.extractall(tmp_path)
    files = {path.relative_to(bundle): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    assert {str(path) for path in files} == {
        "LICENSE", "configs/evaluate.yaml", "configs/inference.yaml", "configs/logging.conf", "configs/metadata.json",
        "docs/README.md", "models/model.pt", "models/model.safetensors", "models/model_card.md", "models/plan.yaml",
    }  # fmt: skip
    assert all((tmp_path / "segmentation" / path).read_bytes() == content for path, content in files.items())
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    ours = load_model(tiny_run / "model").network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in ours.items())
    card = (bundle / "models" / "model_card.md").read_text()
    assert "Not a medical device" in card
    assert "| liver |" in card  # its metrics


def test_what_cannot_be_exported(bundle: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, output in ((tiny_run, bundle), (tmp_path, tmp_path / "new")):
        with pytest.raises(InputError, match=r"exists already|no model there"):
            export_bundle(run, output)
    with pytest.raises(InputError, match=r"^\.: exists already"):  # which has no name for a zip
        export_bundle(tiny_run, Path())

    def full(*_: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0\nand more")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"new: cannot be written .*failed writing"):
        export_bundle(tiny_run, tmp_path / "out" / "new")
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ensemble.yaml").touch()
    with pytest.raises(InputError, match="an ensemble of several models; name one of its members"):
        export_bundle(tmp_path, tmp_path / "new")


def test_monai_verifies_it(bundle: Path) -> None:
    schema = Path(__file__).with_name("metadata_schema.json")
    digest = hashlib.md5(schema.read_bytes()).hexdigest()
    meta, config = str(bundle / "configs" / "metadata.json"), str(bundle / "configs" / "inference.yaml")
    verify_metadata(meta_file=meta, filepath=str(schema), hash_val=digest)
    outputs = json.loads(Path(meta).read_text())["network_data_format"]["outputs"]["pred"]
    assert outputs["channel_def"]["1"] == "liver"
    verify_net_in_out("network_def", meta_file=meta, config_file=config, device="cpu", bundle_root=str(bundle))


@pytest.mark.filterwarnings("ignore")  # of torch's exporters, about themselves
@pytest.mark.parametrize("kind", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_monai_converts_it(kind: str, bundle: Path, tmp_path: Path, tiny_run: Path) -> None:
    network, plan = (model := load_model(tiny_run / "model")).network, model.plan
    image = torch.randn(1, 1, *plan.patch_size, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {
        "ckpt_file": str(bundle / "models" / "model.pt"),
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": str(bundle / "configs" / "inference.yaml"),
        "bundle_root": str(bundle),
    }
    with torch.no_grad():
        expected = network(image)
    if kind == "torchscript":
        ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), **options)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), expected, atol=1e-4, rtol=1e-4)
        return
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    onnx_export("network_def", filepath=str(tmp_path / "model.onnx"), input_shape=list(image.shape), **options)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3, rtol=1e-3)


def test_its_inference_gives_what_the_model_gives(bundle: Path, tiny_run: Path, scan: Path) -> None:
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.yaml"), workflow_type="infer", logging_file=False,
        bundle_root=str(bundle), dataset_dir=str(scan), output_dir="out",
    )  # fmt: skip
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    ours = medseg.load_model(tiny_run / "model").predict(scan)
    assert np.array_equal(read_labels(Path("out") / scan.name).array, ours.labels)


def test_monai_label_reads_it(bundle: Path, tiny_run: Path, scan: Path) -> None:
    """What its BundleInferTask does: the network of `network_def` with models/model.pt, `preprocessing` on a
    dictionary, `inferer` on a batch of one, `postprocessing`, and a label map with a channel on the image's grid."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.config.update({"bundle_root": str(bundle), "device": "cpu"})
    network = parser.get_parsed_content("network_def", instantiate=True)
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    data: dict[str, Any] = {"image": str(scan)}
    for transform in parser.get_parsed_content("preprocessing", instantiate=True).transforms:
        data = transform(data)
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer", instantiate=True)(data["image"][None], network)[0]
    for transform in parser.get_parsed_content("postprocessing", instantiate=True).transforms:
        data = transform(data)
    geometry = read_geometry(scan)
    assert data["pred"].shape[1:] == tuple(data["image_meta_dict"]["spatial_shape"]) == geometry.shape
    assert np.allclose(data["pred"].affine, geometry.affine)
    assert np.allclose(data["image"].meta["original_affine"], geometry.affine)
    ours = medseg.load_model(tiny_run / "model", precision="fp32").predict(scan)
    assert np.mean(np.asarray(data["pred"])[0] == ours.labels) > 0.999
