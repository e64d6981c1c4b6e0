"""A run goes on from its last checkpoint, as what it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import ranks
from medseg.engine.record import differences
from medseg.engine.sealed import load_checkpoint
from medseg.engine.snapshot import restore
from medseg.engine.trainer import Trainer
from medseg.errors import InputError

__all__ = ["resume"]

_SHOWN = 8


def resume(trainer: Trainer, folder: Path, record: Mapping[str, Any], force: bool = False) -> str:
    """Puts `trainer` where `folder/checkpoints/last.pt` is; what there is to say about it.

    Args:
        trainer: built anew, with a budget of as many steps as before, or more, or in minutes, which are frozen.
        folder: of the run. A run that was stopped before its first checkpoint begins anew.
        record: of the run as it is now (`run_record`).
        force: goes on with another config, plan or data than that of the checkpoint.

    Raises:
        InputError: the checkpoint is damaged, does not fit, or is of a run with another config, plan or data; the
            difference is shown.
    """
    path = folder / "checkpoints" / "last.pt"
    state = ranks.from_first(lambda: load_checkpoint(path) if path.exists() else None)
    if state is None:
        return "Resumed before its first checkpoint: from step 0"
    changed = differences(state, record)
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
    if steps > state["steps"]:
        trainer.go_on(state["step"], steps, "")
    return f"Resumed after step {state['step']} of {steps}" + "".join(f"; {line}" for line in changed)
