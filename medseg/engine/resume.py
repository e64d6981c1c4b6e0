"""A run goes on from its last checkpoint, as what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medseg import ranks
from medseg.engine.early_stopping import EarlyStopping
from medseg.engine.record import differences
from medseg.engine.sealed import load_checkpoint
from medseg.engine.snapshot import restore
from medseg.engine.trainer import Trainer
from medseg.errors import InputError

__all__ = ["has_checkpoint", "resume"]

_SHOWN = 8
_KEPT = "the run keeps its plan; go on with its own config.yaml, give another plan (plan_file), or begin a new run"
# what is read when a run begins and never again, and what to do instead of changing it
_ONCE = {
    "plan_sizes": _KEPT,
    "memory": _KEPT,
}


def has_checkpoint(folder: Path) -> bool:
    """Whether the run in `folder` can go on from a checkpoint; the same in all processes."""
    return ranks.from_first(lambda: (folder / "checkpoints" / "last.pt").exists())


def resume(trainer: Trainer, folder: Path, record: Mapping[str, Any], force: bool = False) -> str:
    """Puts `trainer` where `folder/checkpoints/last.pt` is; what there is to say about it.

    Args:
        trainer: built anew, with a budget of as many steps as before, or more, or in minutes, which are frozen.
        folder: of the run. A run that was stopped before its first checkpoint begins anew.
        record: of the run as it is now (`run_record`).
        force: goes on with another config, plan or data than that of the checkpoint.

    Raises:
        InputError: the checkpoint is damaged, does not fit, or is of a run with another config, plan or data; the
            difference is shown. With `force`, too: what is changed is not read any more.
    """
    path = folder / "checkpoints" / "last.pt"
    state = ranks.from_first(lambda: load_checkpoint(path) if path.exists() else None)
    if state is None:
        return "Resumed before its first checkpoint: from step 0"
    changed = differences(state, record)
    _refuse_unread(folder, state, record, changed, trainer.state.steps)
    if trainer.state.steps is not None:  # in place of minutes, which are frozen by now
        changed = [line for line in changed if not line.startswith("max_minutes: ")]
    steps = trainer.state.steps or state["steps"]
    if steps < state["steps"]:
        changed.append(f"steps: {state['steps']} -> {steps}")
    if changed and not force:
        shown = "; ".join(changed[:_SHOWN]) + (f"; and {len(changed) - _SHOWN} more" if changed[_SHOWN:] else "")
        raise InputError(f"{folder}: is not the run it was: {shown}; take that back, or go on with it by --force")
    if steps < state["step"]:
        raise InputError(f"{folder}: has done {state['step']} steps already; {steps} steps is less")
    try:
        restore(trainer, state)
    except (KeyError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: does not fit the networks of this config ({what})") from error
    stopping = [handler for handler in trainer.handlers if isinstance(handler, EarlyStopping)]
    if steps > state["steps"]:
        for handler in stopping:
            handler.waited = 0  # more steps are asked for: they are given a chance
    ended = state["ended"] if any(handler.over for handler in stopping) else ""  # not with more steps or patience
    trainer.go_on(state["step"], steps, ended)
    said = [f"has ended: {ended}; more steps or patience take it on"] if ended else []
    said += changed
    said += [f"{name} was {before}, is {now}" for name, (before, now) in _elsewhere(state, record).items()]
    return f"Resumed after step {state['step']} of {steps}" + "".join(f"; {line}" for line in said)


def _refuse_unread(
    folder: Path, state: Mapping[str, Any], record: Mapping[str, Any], changed: Sequence[str], steps: int | None
) -> None:
    for line in changed:
        key = line.partition(":")[0].partition("#")[0]
        if key in _ONCE:
            raise InputError(f"{folder}: {line} would change nothing: {_ONCE[key]}")
        if key == "max_minutes" and steps is None:
            frozen = f"minutes are frozen into {state['steps']} steps by now"
            raise InputError(f"{folder}: {line} would change nothing: {frozen}; to go on for longer, give more --steps")
    before, now = (yaml.safe_load(one["config"]).get("init_from") for one in (state, record))
    if now is not None and now != before:
        what = "the run goes on with its own weights; begin a new run from others"
        raise InputError(f"{folder}: init_from: {before} -> {now} would change nothing: {what}")


def _elsewhere(state: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What the machine decides and now decides otherwise: said, and no reason to stop."""
    return {name: (was, now) for name, now in record["machine"].items() if (was := state["machine"][name]) != now}
