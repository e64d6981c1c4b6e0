"""`medseg predict`: volumes in, segmentations on their own grids out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medseg.errors import InputError

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, such as runs/NAME/model.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="NIfTI, NRRD or MHA files, or folders.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where segmentations are written.")],
    keep_format: Annotated[bool, typer.Option(help="Write in the input's format instead of NIfTI (.nii.gz).")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace segmentations that are there.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Segment volumes with a trained model, each on its own grid.

    With several channels, the files of a case are NAME_0000, NAME_0001, ...

    \b
    Example:
      medseg predict runs/a/model scans/ --output segmentations/
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from ignite.engine import Events
    from torch.utils.data import DataLoader

    from medseg.engine import Autocast, VolumeEvaluator, WriteSegmentations, pick_device
    from medseg.inference import PlannedInferer, VolumeDataset, find_cases, load_model

    where = pick_device(device)
    loaded = load_model(model, where)
    cases = find_cases(inputs, len(loaded.plan.channels))
    write = WriteSegmentations(output, None if keep_format else ".nii.gz")
    targets = [write.path(case.name, case.images[0]) for case in cases]
    there = [path for path in targets if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]}: exists already; pass --overwrite, or choose another --output")
    inside = [path for path in targets for case in cases if path.resolve() in [i.resolve() for i in case.images]]
    if inside:
        raise InputError(f"{inside[0]}: is an input; choose another --output")
    evaluator = VolumeEvaluator(
        loaded.network,
        DataLoader(VolumeDataset(cases, loaded.plan), batch_size=None),
        loaded.plan,
        PlannedInferer(loaded.plan, where),
        Autocast(where),
        val_handlers=[write],
    )
    errors = Console(stderr=True)
    columns = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("segmenting", total=len(cases))
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: progress.advance(task))
        evaluator.evaluate()
    what = "segmentation" if len(cases) == 1 else "segmentations"
    Console().print(f"{len(cases)} {what} written to {output}", markup=False, highlight=False, soft_wrap=True)
