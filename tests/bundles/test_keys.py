"""Overrides are checked against the keys that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from medseg.bundle import check_keys, check_override
from medseg.errors import InputError
from medseg.share import bundle_folder, overlay_path

TRAIN = bundle_folder() / "configs" / "train.yaml"


def _merged(**changes: object) -> dict[str, object]:
    parser = ConfigParser(ConfigParser.load_config_file(TRAIN))
    for key, value in changes.items():
        parser.set(value, key)
    return parser.get()


def _base() -> dict[str, object]:
    return ConfigParser.load_config_file(TRAIN)


def test_the_bundle_itself_passes() -> None:
    check_keys(_merged(), _base())


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("stepz", 3, "'steps'"),
        ("labeled", 9, "'labelled'"),
        ("handlers#steps#evry", 5, "'handlers#steps#every'"),
        ("train#trainer#budgt", 5, "'train#trainer#budget'"),
        ("trian", {}, "'train'"),
        ("loss#apha", 0.3, "'loss#"),
        ("optimizer#weight_dekay", 0.1, "'optimizer#weight_decay'"),
    ],
)
def test_a_misspelt_key_names_the_nearest(key: str, value: object, nearest: str) -> None:
    with pytest.raises(InputError, match="unknown") as caught:
        check_keys(_merged(**{key: value}), _base())
    assert nearest in str(caught.value)


@pytest.mark.parametrize("key", ["learning_rate", "loss#smooth", "optimizer#weight_decay"])
def test_a_number_that_yaml_takes_for_a_text_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"'{key}': YAML reads 1e-4 as a text"):
        check_keys(_merged(**{key: "1e-4"}), _base())
    check_keys(_merged(**{key: 1e-4, "output_dir": "1e-4"}), _base())


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("force", "false", "True, False or"),
        ("modality", "null", "True, False or"),
        ("deterministic", 1, "True or False"),
        ("workers", "two", "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("loss", "dice", "its keys, such as loss#_target_"),
    ],
)
def test_a_value_of_another_kind_is_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(InputError, match=f"'{key}': found {value!r}, expected {expected}"):
        check_keys(_merged(**{key: value}), _base())


def test_values_of_the_kind_expressions_and_null_pass() -> None:
    ours = {"force": True, "compile": "inductor", "learning_rate": 1, "warmup": 0.1, "seed": "$1 + 1", "augment": None}
    check_keys(_merged(**ours, loss={"_target_": "medseg.losses.DiceLoss", "reduction": "none"}), _base())


def test_a_replaced_component_is_checked_against_its_own_parameters() -> None:
    tversky = {"_target_": "medseg.losses.TverskyLoss", "alpha": 0.3, "beta": 0.7}
    check_keys(_merged(loss=tversky), _base())
    with pytest.raises(InputError, match="did you mean 'loss#alpha'"):
        check_keys(_merged(loss={**tversky, "alfa": 0.3}), _base())
    with pytest.raises(InputError, match="cannot be imported"):
        check_keys(_merged(loss={"_target_": "medseg.losses.TwerskyLoss"}), _base())


def test_one_more_handler_may_be_added_by_name() -> None:
    check_keys(_merged(**{"handlers#more": {"_target_": "medseg.engine.StepLog", "every": 1}}), _base())
    with pytest.raises(InputError, match="handlers#more"):
        check_keys(_merged(**{"handlers#more": 3}), _base())


def test_a_missing_parent_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'train#trainer'"):
        check_override(_base(), "train#trainr#budget")
    check_override(_base(), "handlers#steps#every")
    check_override(_base(), "method#ramp#weight")
    with pytest.raises(InputError, match="method#box is not set here; set it whole: method#box="):
        check_override({"method": {"_target_": "medseg.methods.ConsistentCopyPaste", "loss": 1}}, "method#box#size")


@pytest.mark.parametrize("key", ["seed#x", "seed#x#y", "initialize#x", "initialize#99", "initialize#0#x"])
def test_what_holds_no_keys_is_named(key: str) -> None:
    with pytest.raises(InputError, match=f"'{key}' is unknown: '{key.rpartition('#')[0]}' holds no keys"):
        check_override(_base(), key)
    check_override(_base(), "initialize#0")


def test_an_unknown_overlay_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match="did you mean 'pseudo_label'") as caught:
        overlay_path("method", "psuedo_label")
    assert "supervised" in str(caught.value)


@pytest.mark.parametrize(("key", "nearest"), [("--stepz", "'steps'"), ("--train#trainr#budget", "'trainer'")])
def test_through_monai_bundle_run(key: str, nearest: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(TRAIN), key, "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert nearest in done.stderr
    if key == "--stepz":  # MONAI itself refuses the other before the config is read
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("Error: config key 'stepz' is unknown")
    assert not (tmp_path / "runs").exists()


def test_an_overlay_before_the_bundles_own_file_is_refused(tmp_path: Path) -> None:
    files = str([str(overlay_path("method", "supervised")), str(TRAIN)])
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", files, "--steps", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "supervised.yaml comes before" in done.stderr.strip().splitlines()[-1]
