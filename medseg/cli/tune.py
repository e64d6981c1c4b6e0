"""`medseg tune-postprocessing`: which cleaning of predictions helps, on validation cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from medseg.cli.console import table_console
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.inference.tuning import Judged
    from medseg.plan import Cleaning

__all__ = ["tune_postprocessing"]


def tune_postprocessing(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The cases, where they have moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    dry_run: Annotated[bool, typer.Option(help="Show what would be chosen, change nothing.")] = False,
) -> None:
    """Choose post-processing class by class on the validation cases.

    Largest component, least volume and filled holes are tried; one is kept
    where its gain in Dice is real: where the bootstrap interval over cases
    lies above 0. What is chosen is written into the model's plan, which
    `medseg predict` follows.

    \b
    Example:
      medseg tune-postprocessing runs/a
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    import numpy as np
    from rich.progress import track
    from torch.utils.data import DataLoader

    from medseg.data.description import IGNORE_NAME
    from medseg.data.runfile import read_run_file
    from medseg.engine import Autocast, pick_device
    from medseg.engine.judgement import judged_cases
    from medseg.inference import PlannedInferer, VolumeDataset, load_model, predict_labels
    from medseg.inference.tuning import choose, dice_of_candidates
    from medseg.plan import save_plan

    where = pick_device(device)
    model = load_model(run / "model", where)
    if model.plan.regions or len(model.networks) > 1:
        what = "regions, which overlap" if model.plan.regions else "several members; tune each of them"
        raise InputError(f"{run}: its model has {what}; post-processing is tuned for classes of one network")
    plan = model.plan.model_copy(update={"postprocessing": {}})  # judged against none
    cases = judged_cases(run, "validation", data)
    values = [value for value in plan.label_values if value]
    scores: dict[int, list[list[float]]] = {value: [] for value in values}
    inferer, autocast, errors = PlannedInferer(plan, where), Autocast(where), Console(stderr=True)
    classes = read_run_file(run).classes
    ignored = [value for value, name in classes.items() if name == IGNORE_NAME]
    loader = DataLoader(VolumeDataset(cases, plan, classes=classes), batch_size=None)
    for item in track(loader, "Predicting", len(cases), console=errors, transient=True, disable=not errors.is_terminal):
        with autocast():
            labels = predict_labels(item, model.network, inferer, plan)
        labels[np.isin(item.reference, ignored)] = 0
        # of a class that nobody looked for in a case, what is found there may be right
        for value in values if item.annotated is None else sorted(set(values) & set(item.annotated)):
            scores[value].append(dice_of_candidates(labels, item.reference, value, item.geometry.spacing))
    chosen = choose(scores)
    console = table_console()
    console.print(_table(f"Post-processing on {len(cases)} validation cases", plan.classes, chosen), markup=False)
    rules = {value: kept.rule for value, (kept, _) in chosen.items() if kept}
    if not dry_run:
        file = run / "model" / "plan.yaml"
        save_plan(plan.model_copy(update={"postprocessing": rules}), file)
        console.print(f"{len(rules)} of {len(values)} classes: written to {file}", markup=False, soft_wrap=True)


def _table(title: str, names: Mapping[int, str], chosen: Mapping[int, tuple[Judged | None, list[Judged]]]) -> Table:
    """A row a class: what was kept, or would have gained most."""
    from medseg.inference.tuning import FEWEST_CASES

    table = Table(title=title, title_justify="left")
    for column in ("class", "best candidate", "gain in Dice", "interval", "kept"):
        table.add_column(column)
    for value, (kept, judged) in chosen.items():
        best = kept or max(judged, key=lambda one: one.gain, default=None)
        if best is None:
            table.add_row(names[value], f"fewer than {FEWEST_CASES} cases", "", "", "no")
            continue
        interval = f"{best.low:+.4f} to {best.high:+.4f}"
        table.add_row(names[value], _said(best.rule), f"{best.gain:+.4f}", interval, "yes" if kept else "no")
    return table


def _said(rule: Cleaning) -> str:
    parts = [
        f"at least {rule.minimum_ml:g} mL" if rule.minimum_ml else "",
        "largest component" if rule.largest else "",
        "holes filled" if rule.fill_holes else "",
    ]
    return ", ".join(part for part in parts if part)
