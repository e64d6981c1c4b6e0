"""Checkpoints are whole or absent, `best` follows the validation, and reading one runs no code."""

from __future__ import annotations

import math
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medseg.engine import CheckpointHandler, load_checkpoint
from medseg.engine.sealed import save_checkpoint
from medseg.errors import InputError


def _trainer(step: int, dice: float, validated: bool = True) -> Any:
    validation = SimpleNamespace(dice=dice, chosen="student_0", summaries={}, step=step if validated else 0)
    iteration = SimpleNamespace(state_dict=lambda: {"student_0": {"w": torch.full((2,), float(step))}})
    state = SimpleNamespace(iteration=step, steps=9, ended="", validation=validation)
    return SimpleNamespace(state=state, iteration=iteration, handlers=())


def test_best_is_the_highest_validation_and_last_the_last(tmp_path: Path) -> None:
    handler = CheckpointHandler(tmp_path / "c", {"plan": {"name": "p"}})
    for step, dice in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.5)):
        handler.validated(_trainer(step, dice))
        handler.save_last(_trainer(step, dice))
    best, last = (load_checkpoint(tmp_path / "c" / name) for name in ("best.pt", "last.pt"))
    assert (best["step"], last["step"]) == (2, 4)
    assert best["best_dice"] == 0.5
    assert torch.equal(last["student_0"]["w"], torch.full((2,), 4.0))
    assert best["plan"] == {"name": "p"}


def test_an_undefined_validation_is_best_only_while_there_is_no_other(tmp_path: Path) -> None:
    handler = CheckpointHandler(tmp_path, {})
    handler.validated(_trainer(1, math.nan))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 1
    handler.validated(_trainer(2, 0.0))
    handler.validated(_trainer(3, math.nan))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 2


def test_a_worse_validation_after_resume_never_overwrites_best(tmp_path: Path) -> None:
    """Also where `best` is younger than the checkpoint that is resumed: killed between the two."""
    handler = CheckpointHandler(tmp_path, {})
    handler.validated(_trainer(1, 0.3))
    before = handler.state_dict()
    handler.validated(_trainer(2, 0.6))
    resumed = CheckpointHandler(tmp_path, {})
    resumed.load_state_dict(before)
    resumed.validated(_trainer(2, 0.5))
    assert load_checkpoint(tmp_path / "best.pt")["best_dice"] == 0.6
    resumed.validated(_trainer(3, 0.7))
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 3


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({"every_minutes": None}, [4]),
        ({"every_steps": 3, "every_minutes": None}, [3, 4]),
        ({"every_minutes": 1e-9}, [1, 2, 3, 4]),
    ],
)
def test_last_is_saved_after_validations_and_this_often_between(
    options: dict[str, Any], saved: list[int], tmp_path: Path
) -> None:
    handler, found = CheckpointHandler(tmp_path, {}, **options), []
    for step in range(1, 5):
        handler._stepped(_trainer(step, 0.5, validated=step == 4))
        if (tmp_path / "last.pt").exists():
            found.append(load_checkpoint(tmp_path / "last.pt")["step"])
    assert sorted(set(found)) == saved


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail: write failed")])
def test_a_failed_write_leaves_the_previous_one(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = CheckpointHandler(tmp_path, {})
    handler.save_last(_trainer(1, 0.5))
    before = (tmp_path / "last.pt").read_bytes()

    def torn(state: object, path: Path) -> None:
        path.write_bytes(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(InputError, match=r"last\.pt: cannot be written .*free space"):
        handler.save_last(_trainer(2, 0.5))
    assert (tmp_path / "last.pt").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt"}


def test_a_changed_byte_is_refused_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint({"student_0": {"w": torch.arange(5.0)}}, path)
    assert torch.equal(load_checkpoint(path)["student_0"]["w"], torch.arange(5.0))
    assert torch.equal(torch.load(path, weights_only=True)["student_0"]["w"], torch.arange(5.0))
    assert zipfile.ZipFile(path).testzip() is None  # still what other tools expect
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"last\.pt: damaged"):
            load_checkpoint(path)
    for torn in (whole[:-1], whole[:40], b"", whole + b" "):
        path.write_bytes(torn)
        with pytest.raises(InputError, match=r"last\.pt: damaged"):
            load_checkpoint(path)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_reading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint({"student_0": _Bomb()}, "bomb.pt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint("bomb.pt")
    Path("pickle.pt").write_bytes(pickle.dumps(_Bomb(), protocol=2))
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint("pickle.pt")
    assert not Path("exploded").exists()
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint("absent.pt")
