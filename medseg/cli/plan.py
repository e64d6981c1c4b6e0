"""`medseg plan`: spacing, patch, network and normalisation for a folder of cases, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from medseg.cli.composition import assignment, budget_of_labels, composed, parsed
from medseg.cli.console import table_console
from medseg.share import overlay_names

if TYPE_CHECKING:
    from medseg.plan import Plan

__all__ = ["plan", "rows"]


def plan(
    data: Annotated[str, typer.Argument(metavar="DATA", help="The folder of cases, as for medseg train.")],
    labelled: Annotated[
        str | None, typer.Option(metavar="N|all", help="Training cases whose labels may be read, as in training.")
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Corrected labels NAME.nii.gz of further training cases.")
    ] = None,
    fold: Annotated[int | None, typer.Option(metavar="K", help="Of the split's folds, from 0.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="Of the channels, MRI, CT or CT,PET, where the data does not say.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="The largest plan that trains in so much. Default: 8GB on a GPU, a small one on a CPU."),
    ] = None,
    network: Annotated[str | None, typer.Option(help=f"As in training: {', '.join(overlay_names('network'))}.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1: where it is to be trained.")] = None,
    seed: Annotated[int, typer.Option(help="Of drawn budgets, splits and voxels, as in training.")] = 0,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A config key, such as precision=fp32.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as plan.yaml, for medseg train --plan FILE.")
    ] = None,
) -> None:
    """Say how a folder of cases would be trained on, and why.

    Geometry comes from the headers of all training and validation images,
    intensities and volumes from the labels of the budget and no others.
    medseg train with the same options on the same machine makes the same
    plan itself.

    \b
    Example:
      medseg plan DATA --labelled 9 --memory 8GB --output plan.yaml
    """
    from medseg.plan import save_plan

    given: dict[str, Any] = {
        "dataset_dir": data,
        "labelled": None if labelled is None else budget_of_labels(labelled),
        "corrected_dir": str(corrected) if corrected else None,
        "fold": fold,
        "modality": modality,
        "memory": memory,
        "device_name": device,
        "seed": seed,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(assignment(text) for text in override or ())
    # what the bundle's config plans with these options, so that training makes the same plan
    made: Plan = parsed(composed({"network": network}), overrides).get_parsed_content("plan")
    if output is not None:
        save_plan(made, output)
    table = Table(title=Text(f"Plan for {made.name}"), title_justify="left")
    for column in ("field", "value", "why"):
        table.add_column(column, overflow="fold")
    for row in rows(made):
        table.add_row(*row)
    console = table_console()
    console.print(table, markup=False, highlight=False)
    if output is not None:
        console.print(f"{output}: written; medseg train --plan {output} uses it", markup=False, soft_wrap=True)


def rows(made: Plan) -> list[tuple[str, str, str]]:
    """Name, value and reason of each field that has a reason, in the plan's order."""
    return [(name, _shown(made, name), why) for name, why in made.reasons.items()]


def _shown(made: Plan, name: str) -> str:
    """The value of a dotted name, as people write it."""
    from medseg.plan import ChannelPlan, SeenPlan

    value: object = made
    for part in name.split("."):
        value = value[int(part)] if isinstance(value, tuple) else getattr(value, part, None)
    if isinstance(value, ChannelPlan):
        if value.normalisation == "zscore":
            return f"{value.name}: zscore"
        lower, upper, mean, std = value.scale
        return f"{value.name}: clip {lower:.4g} to {upper:.4g}, then ({mean:.4g}, {std:.4g})"
    if isinstance(value, SeenPlan):
        low, high = map(_plain, value.spacing)
        ranges = (f"{span[0]:.4g} to {span[1]:.4g}" for span in value.intensities if span)
        return "; ".join((f"{low} to {high} mm", *ranges))
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
