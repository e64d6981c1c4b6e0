"""`medseg plan`: spacing, patch, network and normalisation for a folder of cases, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.plan import Plan

__all__ = ["plan", "rows"]


def plan(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of cases, as for medseg train.")],
    labelled: Annotated[
        str, typer.Option(metavar="N|all", help="Training cases whose labels may be read, as in training.")
    ] = "all",
    memory: Annotated[
        str | None,
        typer.Option(help="The largest plan that trains in so much, such as 8GB. Default: a small one, for a CPU."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Of the channels, MRI, CT or CT,PET, where the data does not say.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as plan.yaml, for medseg train --plan FILE.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of drawn budgets, splits and voxels, as in training.")] = 0,
) -> None:
    """Say how a folder of cases would be trained on, and why.

    Geometry comes from the headers of all training and validation images,
    intensities and volumes from the labels of the budget and no others.
    medseg train does the same when no plan is given.

    \b
    Example:
      medseg plan DATA --labelled 9 --memory 8GB --output plan.yaml
    """
    from medseg.data import load_cohort
    from medseg.plan import save_plan
    from medseg.planning import plan_cohort

    cohort = load_cohort(data, labelled if labelled == "all" else _whole(labelled), seed, modality)
    made = plan_cohort(cohort, seed=seed, memory=memory)
    if output is not None:
        save_plan(made, output)
    table = Table(title=f"Plan for {made.name}", title_justify="left")
    for column in ("field", "value", "why"):
        table.add_column(column, overflow="fold")
    for row in rows(made):
        table.add_row(*row)
    Console().print(table, markup=False, highlight=False)
    if output is not None:
        Console().print(f"{output}: written; medseg train --plan {output} uses it", markup=False, soft_wrap=True)


def rows(made: Plan) -> list[tuple[str, str, str]]:
    """Name, value and reason of each field that has a reason, in the plan's order."""
    return [(name, _shown(made, name), why) for name, why in made.reasons.items()]


def _shown(made: Plan, name: str) -> str:
    """The value of a dotted name, as people write it."""
    from medseg.plan import ChannelPlan

    value: object = made
    for part in name.split("."):
        value = value[int(part)] if isinstance(value, tuple) else getattr(value, part, None)
    if isinstance(value, ChannelPlan):
        if value.normalisation == "zscore":
            return f"{value.name}: zscore"
        lower, upper, mean, std = value.scale
        return f"{value.name}: clip {lower:.4g} to {upper:.4g}, then ({mean:.4g}, {std:.4g})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    return _plain(value)


def _plain(value: object) -> str:
    if not isinstance(value, tuple):
        return f"{value:g}" if isinstance(value, float) else str(getattr(value, "name", value))
    if value and isinstance(value[0], tuple):
        return "  ".join(" ".join(map(str, row)) for row in value)
    if all(isinstance(item, int | float) for item in value):
        return " x ".join(f"{item:g}" for item in value) or "none"
    return ", ".join(map(_plain, value))


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--labelled {text}: expected a number of cases from 1, or all")
    return int(text)
