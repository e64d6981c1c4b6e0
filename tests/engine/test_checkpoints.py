"""Checkpoints are whole or absent, `best` follows the validation, and reading one runs no code."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medseg.engine import CheckpointHandler, load_checkpoint
from medseg.errors import InputError
from medseg.plan import NetworkPlan, Plan

PLAN = Plan(
    name="p",
    channels=({"name": "MRI", "normalisation": "zscore"},),
    classes={0: "background", 1: "organ"},
    spacing=(1, 1, 1),
    patch_size=(8, 8, 8),
    batch_size=2,
    network=NetworkPlan(filters=(4, 8), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2, heads=0),
)


def _trainer(step: int, dice: float) -> Any:
    validation = SimpleNamespace(dice=dice, chosen="student_0", summaries={})
    iteration = SimpleNamespace(state_dict=lambda: {"student_0": {"w": torch.full((2,), float(step))}})
    return SimpleNamespace(state=SimpleNamespace(iteration=step, steps=9, validation=validation), iteration=iteration)


def test_best_is_the_highest_validation_and_last_the_last(tmp_path: Path) -> None:
    handler = CheckpointHandler(tmp_path / "c", PLAN)
    for step, dice in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.5)):
        handler.validated(_trainer(step, dice))
    best, last = (load_checkpoint(tmp_path / "c" / name) for name in ("best.pt", "last.pt"))
    assert (best["step"], last["step"]) == (2, 4)
    assert best["best_dice"] == 0.5
    assert torch.equal(last["student_0"]["w"], torch.full((2,), 4.0))
    assert Plan.model_validate(best["plan"]) == PLAN


def test_an_undefined_validation_is_best_only_while_there_is_no_other(tmp_path: Path) -> None:
    handler = CheckpointHandler(tmp_path, PLAN)
    handler.validated(_trainer(1, math.nan))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 1
    handler.validated(_trainer(2, 0.0))
    handler.validated(_trainer(3, math.nan))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail: write failed")])
def test_a_failed_write_leaves_the_previous_one(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = CheckpointHandler(tmp_path, PLAN)
    handler.validated(_trainer(1, 0.5))
    before = (tmp_path / "last.pt").read_bytes()

    def torn(state: object, path: Path) -> None:
        path.write_bytes(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(InputError, match=r"last\.pt: cannot be written .*free space"):
        handler.save_last(_trainer(2, 0.5))
    assert (tmp_path / "last.pt").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "last.pt"}


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_reading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bomb.pt").write_bytes(pickle.dumps(_Bomb(), protocol=2))
    torch.save({"student_0": _Bomb()}, "bomb2.pt")
    for name in ("bomb.pt", "bomb2.pt"):
        with pytest.raises(InputError, match="not a readable checkpoint"):
            load_checkpoint(name)
    assert not Path("exploded").exists()
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint("absent.pt")
    Path("torn.pt").write_bytes(Path("bomb2.pt").read_bytes()[:100])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint("torn.pt")
