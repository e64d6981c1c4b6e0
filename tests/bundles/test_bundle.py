"""The bundle as MONAI's own tools see it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

import medseg
from medseg.share import bundle_folder

CONFIGS = bundle_folder() / "configs"

pytestmark = pytest.mark.usefixtures("elsewhere")


def _workflow(name: str, kind: str, **override: object) -> ConfigWorkflow:
    workflow = ConfigWorkflow(str(CONFIGS / name), workflow_type=kind, logging_file=False, **override)
    workflow.initialize()
    return workflow


def test_train_has_all_properties_of_a_training_workflow(tiny_cohort: Path, tmp_path: Path) -> None:
    workflow = _workflow("train.yaml", "train", dataset_dir=str(tiny_cohort), steps=4, val_interval=2)
    assert workflow.check_properties() == []
    assert workflow.max_epochs == 2
    workflow.finalize()


@pytest.mark.parametrize("name", ["evaluate.yaml", "inference.yaml"])
def test_inference_and_evaluation_have_all_properties(name: str, tiny_cohort: Path, tiny_run: Path) -> None:
    data = tiny_cohort / "imagesTr" if name == "inference.yaml" else tiny_cohort
    workflow = _workflow(name, "infer", dataset_dir=str(data), model_dir=str(tiny_run / "model"))
    assert workflow.check_properties() == []


def test_training_and_run_are_the_same_list() -> None:
    config = yaml.safe_load((CONFIGS / "train.yaml").read_text())
    assert isinstance(config["training"], list)
    assert config["run"] == "%training"
    assert {"initialize", "finalize"} <= set(config)


def test_train_yaml_stays_readable() -> None:
    assert len((CONFIGS / "train.yaml").read_text().splitlines()) <= 160


def test_metadata_is_valid(tmp_path: Path) -> None:
    schema = Path(__file__).with_name("metadata_schema.json")  # where it lies nothing is downloaded
    options = {"filepath": str(schema), "hash_val": hashlib.md5(schema.read_bytes()).hexdigest()}
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), **options)
    broken = json.loads((CONFIGS / "metadata.json").read_text())
    del broken["network_data_format"]["outputs"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="outputs"):
        verify_metadata(meta_file=str(tmp_path / "broken.json"), **options)


def test_the_bundle_has_the_version_that_the_package_leads_to() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    release = medseg.__version__.partition(".dev")[0]
    assert metadata["version"] == metadata["required_packages_version"]["medseg"] == release
    assert release in metadata["changelog"]


def test_the_network_takes_and_gives_what_the_metadata_says(tiny_run: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.yaml"),
        n=2,
        device="cpu",
        model_dir=str(tiny_run / "model"),
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_checkpoint_exports_to_torchscript(tiny_run: Path, tmp_path: Path) -> None:
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tiny_run / "checkpoints" / "best.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.yaml"),
        key_in_ckpt="student_0",
        model_dir=str(tiny_run / "model"),
    )
    from medseg.engine import load_checkpoint
    from medseg.inference import load_model

    eager = load_model(tiny_run / "model").network
    eager.load_state_dict(load_checkpoint(tiny_run / "checkpoints" / "best.pt")["student_0"])
    image = torch.randn(1, 1, 32, 32, 16)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), eager(image), atol=1e-5, rtol=1e-5)
