"""`medseg suggest`: which unlabelled case to label next, with pseudo-labels to correct."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medseg.cli.console import table_console
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.inference.informative import Suggestion
    from medseg.inference.volumes import VolumeItem
    from medseg.networks.unet import UNet

__all__ = ["suggest"]


def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, such as runs/NAME.")],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where suggestions.csv and the pseudo-labels are written.")
    ],
    count: Annotated[int, typer.Option(help="How many cases get a pseudo-label.", min=1)] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Rank the unlabelled cases by what labelling them would teach.

    Where the networks hesitate, where two of them disagree, and what looks
    unlike all labelled cases comes first. The first ones get a pseudo-label
    DIR/labels/NAME.nii.gz: correct it in a viewer, delete what you did not
    correct, and train with --corrected DIR/labels.

    \b
    Example:
      medseg suggest runs/a --output next --count 5
      medseg train --data DATA --labelled 9 --corrected next/labels
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from rich.progress import track

    from medseg.data.runfile import read_run_file
    from medseg.data.volume import write_segmentation
    from medseg.engine import Autocast, pick_device
    from medseg.files import make_folder
    from medseg.inference import PlannedInferer, VolumeDataset, load_model
    from medseg.inference.informative import case_features, look, rank_cases
    from medseg.inference.volumes import segment

    record = read_run_file(run)
    unlabelled, labelled = record.cases["unlabelled"], record.cases["labelled"]
    if not unlabelled:
        raise InputError(f"{run}: has no unlabelled cases; all training cases of it have labels")
    if (output / "labels").exists():
        raise InputError(f"{output / 'labels'}: exists, and may hold corrections; choose another --output")
    make_folder(output)  # known to be writable before the work
    where = pick_device(device)
    model = load_model(run / "model", where)
    inferer = PlannedInferer(model.plan, where)
    networks = [model.networks[0], *_others(run, model.networks[0])]
    errors = Console(stderr=True)

    def items(cases: tuple[Case, ...], what: str) -> Iterator[VolumeItem]:
        data = VolumeDataset(cases, model.plan, classes=record.classes)
        numbers = track(range(len(data)), what, console=errors, transient=True, disable=not errors.is_terminal)
        return (data[i] for i in numbers)

    with Autocast(where)():
        looked = [look(item, networks, inferer, model.plan) for item in items(unlabelled, "Unlabelled cases")]
        known = [case_features(item, networks[0], model.plan) for item in items(labelled, "Labelled cases")]
        ranking = rank_cases(looked, known)
        by_name = {case.name: case for case in unlabelled}
        chosen = tuple(by_name[suggestion.name] for suggestion in ranking[:count])
        folder = make_folder(output / "labels")
        for case, item in zip(chosen, items(chosen, "Pseudo-labels"), strict=True):
            labels = segment(item, networks, inferer, model.plan).labels
            write_segmentation(folder / f"{case.name}.nii.gz", labels, case.images[0])
    _write(output / "suggestions.csv", ranking)
    _show(ranking, count, folder)


def _others(run: Path, network: UNet) -> list[UNet]:
    """A network of the run that the model is not: what stands in `last` beside what was exported."""
    import copy

    import torch

    from medseg.engine.sealed import load_checkpoint

    checkpoint = load_checkpoint(run / "checkpoints" / "last.pt")
    own = network.state_dict()
    for key in ("student_1", "teacher", "student_0"):
        weights = checkpoint.get(key)
        if weights is None or all(torch.equal(weights[name].to(own[name].device), own[name]) for name in own):
            continue
        other = copy.deepcopy(network)
        other.load_state_dict(weights)
        return [other]
    return []


def _write(path: Path, ranking: list[Suggestion]) -> None:
    from medseg.files import write_rows

    names = ("score", "uncertainty", "disagreement", "novelty")
    numbers = [{name: f"{getattr(one, name):.4g}" for name in names} for one in ranking]
    ranked = enumerate(zip(ranking, numbers, strict=True), 1)
    write_rows(path, [{"rank": rank, "case": one.name, **of_one} for rank, (one, of_one) in ranked])


def _show(ranking: list[Suggestion], count: int, folder: Path) -> None:
    table = Table(title=f"{len(ranking)} unlabelled cases, what to label first", box=None, header_style="bold")
    for column in ("rank", "case", "score", "uncertainty", "disagreement", "novelty"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for rank, s in enumerate(ranking[: max(count, 10)], 1):
        numbers = (f"{number:.3f}" for number in (s.score, s.uncertainty, s.disagreement, s.novelty))
        table.add_row(str(rank), Text(s.name), *numbers)
    console = table_console()
    console.print(table)
    console.print(
        f"Pseudo-labels of the first {min(count, len(ranking))}: {folder}\n"
        f"Correct them, delete those that you did not correct, and train with: --corrected {folder}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
