"""The judgement of a run's checkpoints, after its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch import nn

from medseg import ranks
from medseg.engine.evaluator import VolumeEvaluator, WriteSegmentations
from medseg.engine.pictures import draw_case
from medseg.engine.sealed import load_checkpoint
from medseg.engine.validation import shown_name
from medseg.files import make_folder
from medseg.metrics.measures import TOLERANCE_MM
from medseg.plan import Plan

__all__ = ["chosen", "judge_checkpoints"]


def chosen(run: Path, name: str) -> dict[str, Any]:
    """Of the checkpoint `name`: `weights` of the network that validated better, its key `chosen`, and the `step`."""
    found = load_checkpoint(run / "checkpoints" / f"{name}.pt")
    return {"weights": found[found["chosen"]], "chosen": found["chosen"], "step": found["step"]}


def judge_checkpoints(
    evaluator: VolumeEvaluator,
    network: nn.Module,
    checkpoints: Mapping[str, Mapping[str, Any]],
    plan: Plan,
    run: Path,
    pictures: int,
) -> dict[str, dict[str, Any]]:
    """`best` and `last` on the evaluator's cases, with all measures; what `best` makes of them is kept in
    `run/predictions`, with pictures of the first ones.

    Several processes each judge and write their share of the cases; the first one draws of its own.

    Args:
        network: takes the weights of one after the other.
        checkpoints: by name, as `chosen` gives them.
    """
    folder = make_folder(run / "pictures") if ranks.is_first() else None

    def draw(engine: Any) -> None:
        if folder is not None and engine.state.iteration <= pictures:
            draw_case(engine.state.output, folder, plan)

    found: dict[str, dict[str, Any]] = {}
    for name, checkpoint in checkpoints.items():
        network.load_state_dict(checkpoint["weights"])
        if name == "best":
            drawing = evaluator.add_event_handler(Events.ITERATION_COMPLETED, draw)
            writing = evaluator.add_event_handler(Events.ITERATION_COMPLETED, WriteSegmentations(run / "predictions"))
            with drawing, writing:
                summary, results = evaluator.evaluate(network, TOLERANCE_MM)
        else:
            summary, results = evaluator.evaluate(network, TOLERANCE_MM)
        found[name] = {
            "step": checkpoint["step"],
            "network": shown_name(checkpoint["chosen"]),
            "summary": summary,
            "cases": results,
        }
    return found
