"""Pictures of judged cases."""

from __future__ import annotations

from pathlib import Path

from medseg.data.stacked import read_first
from medseg.engine.evaluator import CaseOutput
from medseg.plan import Plan
from medseg.report.overlay import save_overlay

__all__ = ["draw_case"]


def draw_case(output: CaseOutput, folder: Path, plan: Plan) -> None:
    """Draws a case with its prediction and reference to `folder`, named after it."""
    item = output.item
    results = [f"{r.class_name} Dice {r.dice:.3f}" for r in output.results]
    save_overlay(
        folder / f"{item.name}.png",
        read_first(item.path).array,
        output.labels,
        item.reference,
        item.geometry.spacing,
        {value: name for value, name in plan.classes.items() if value},
        f"{item.name}: {', '.join(results)}",
    )
