"""Model folders and ensembles: what is refused, and that loading one runs nothing."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from medseg.data import limits
from medseg.data.geometry import Geometry
from medseg.errors import InputError
from medseg.inference.model import load_model, save_model
from medseg.inference.sliding_window import stream
from medseg.inference.volumes import prepared_item
from medseg.networks.unet import planned_unet
from medseg.plan import Plan


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def folder(tmp_path: Path, small_plan: Callable[..., Plan]) -> Path:
    plan = small_plan()
    return save_model(tmp_path / "model", planned_unet(plan).state_dict(), plan)


def _tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def _header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


def _plan(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    change(plan)
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))


def _rename(tensors: dict[str, Any]) -> None:
    tensors["../../evil"] = tensors.pop("classifier.conv.conv.bias")


FIRST = "classifier.conv.conv.weight"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle renamed": (
        lambda d: (d / "model.safetensors").write_bytes(pickle.dumps(_Bomb(d / "exploded"))),
        "not a readable safetensors file",
    ),
    "a torch checkpoint renamed": (
        lambda d: torch.save({"a": _Bomb(d / "exploded")}, d / "model.safetensors"),
        "not a readable safetensors file",
    ),
    "truncated": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-9]),
        "not a readable safetensors file",
    ),
    "empty": (lambda d: (d / "model.safetensors").write_bytes(b""), "not a readable safetensors file"),
    "a header of a terabyte": (
        lambda d: (d / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}"),
        "not a readable safetensors file",
    ),
    "a tensor beyond the file": (
        lambda d: _header(d, lambda h: h[FIRST].update(shape=[2**20, 2**20], data_offsets=[0, 2**42])),
        "not a readable safetensors file",
    ),
    "another shape": (
        lambda d: _tensors(d, lambda t: t.update({FIRST: torch.zeros(3, 4, 1, 1, 1)})),
        f"tensor {FIRST} is (3, 4, 1, 1, 1), expected (2, 4, 1, 1, 1)",
    ),
    "a tensor missing": (lambda d: _tensors(d, lambda t: t.pop(FIRST)), f"tensor {FIRST} is absent"),
    "a path for a name": (lambda d: _tensors(d, _rename), "tensor ../../evil is (2,), expected none"),
    "another type": (
        lambda d: _tensors(d, lambda t: t.update({FIRST: t[FIRST].to(torch.int64)})),
        "holds I64, expected floating point",
    ),
    "an expression in the plan": (
        lambda d: (d / "plan.yaml").write_text(f"$__import__('pathlib').Path({str(d / 'exploded')!r}).touch()"),
        "plan.yaml: not a valid plan",
    ),
    "a target in the plan": (
        lambda d: (d / "plan.yaml").write_text(f"_target_: pathlib.Path.touch\nself: {d / 'exploded'}"),
        "plan.yaml: not a valid plan",
    ),
    "a patch of a terabyte": (
        lambda d: _plan(d, lambda p: p.update(patch_size=[4096] * 3)),
        "its windows have 8 x 4096 x 4096 x 4096 voxels",
    ),
    "too many windows at once": (
        lambda d: _plan(d, lambda p: p.update(patch_size=[512] * 3, inference={"batch": 4096})),
        "its windows have 16384 x 512 x 512 x 512 voxels",
    ),
    "an object in the plan": (
        lambda d: (d / "plan.yaml").write_text(f"!!python/object/apply:pathlib.Path.touch [{d / 'exploded'}]"),
        "plan.yaml: not a readable YAML file",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_one_line_and_run_nothing(what: str, folder: Path) -> None:
    breakage, said = HOSTILE[what]
    breakage(folder)
    with pytest.raises(InputError) as refused:
        load_model(folder)
    text = str(refused.value)
    assert said in text
    assert "\n" not in text
    assert text.startswith(str(folder))
    assert not (folder / "exploded").exists()


def test_a_window_larger_than_the_volume_is_refused_too(
    small_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "most_bytes", lambda: 2**20)
    plan = small_plan(patch_size=(4096, 16, 16))
    geometry = Geometry((4, 4, 4), np.eye(4))
    with pytest.raises(InputError, match="it has 1 x 4096 x 16 x 16 voxels"):
        prepared_item("a", Path("a.nii"), np.zeros((1, 4, 4, 4), np.float32), geometry, plan)
    small = torch.zeros(1, 16, 16, 16)
    next(stream(small, lambda windows: windows, (16, 16, 16)))
    with pytest.raises(InputError, match="blending them takes 65 x 16 x 16 x 16 voxels"):
        next(stream(small, lambda windows: windows.expand(-1, 65, -1, -1, -1), (16, 16, 16)))


def test_the_folder_of_a_run_is_its_model(folder: Path) -> None:
    assert load_model(folder.parent).digest == load_model(folder).digest


def test_half_precision_weights_are_read(folder: Path) -> None:
    whole = load_model(folder).network.state_dict()
    _tensors(folder, lambda t: t.update({name: tensor.half() for name, tensor in t.items()}))
    half = load_model(folder).network.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in half.values())
    torch.testing.assert_close(half, whole, atol=1e-3, rtol=1e-3)


@pytest.fixture
def ensemble(tmp_path: Path, small_plan: Callable[..., Plan]) -> Path:
    for seed in (0, 1):
        plan = small_plan()
        save_model(tmp_path / f"fold_{seed}" / "model", planned_unet(plan, seed=seed).state_dict(), plan)
    (tmp_path / "ensemble.yaml").write_text("members: [fold_0/model, fold_1/model]\n")
    return tmp_path


def test_an_ensemble_has_all_members(ensemble: Path) -> None:
    model = load_model(ensemble)
    alone = [load_model(ensemble / f"fold_{i}" / "model") for i in (0, 1)]
    assert len(model.networks) == 2
    for ours, theirs in zip(model.networks, alone, strict=True):
        assert torch.equal(ours.classifier.conv.conv.weight, theirs.network.classifier.conv.conv.weight)
    image = torch.randn(1, 1, 16, 16, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), (alone[0].network(image) + alone[1].network(image)) / 2)
    assert len({model.digest, *(one.digest for one in alone)}) == 3


def test_the_folder_of_all_folds_is_their_ensemble(ensemble: Path) -> None:
    (ensemble / "cv").mkdir()
    (ensemble / "cv" / "model").symlink_to(ensemble)
    assert load_model(ensemble / "cv").digest == load_model(ensemble).digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("members: [../elsewhere]", "member ../elsewhere is outside"),
        ("members: [/etc]", "member /etc is outside"),
        ("members: [fold_9/model]", "member fold_9/model is no model folder"),
        ("members: []", "expected `members:`"),
        ("members: {a: b}", "expected `members:`"),
        ("members: [fold_0/model]\nother: 1", "expected `members:`"),
        ("members: [" + "fold_0/model, " * 65 + "]", "expected at most 64"),
        ("!!python/object/apply:os.getcwd []", "not a readable YAML file"),
    ],
)
def test_what_an_ensemble_refuses(content: str, said: str, ensemble: Path) -> None:
    (ensemble / "ensemble.yaml").write_text(content)
    with pytest.raises(InputError) as refused:
        load_model(ensemble)
    assert said in str(refused.value)


def test_members_agree(ensemble: Path) -> None:
    file = ensemble / "fold_1" / "model" / "plan.yaml"
    plan = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(plan | {"spacing": [1.0, 1.0, 2.0]}))
    with pytest.raises(InputError, match="another spacing than fold_0/model"):
        load_model(ensemble)
    (ensemble / "fold_1" / "link").symlink_to("/")
    (ensemble / "ensemble.yaml").write_text("members: [fold_1/link/etc]")
    with pytest.raises(InputError, match="is outside"):
        load_model(ensemble)
