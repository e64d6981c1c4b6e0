"""`medseg predict`: volumes in, segmentations on their own grids out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.inference.outputs import Outputs

__all__ = ["predict", "share"]

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # with processes that have more, or larger cases


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run, a model folder such as runs/NAME/model, or an ensemble.")
    ],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="NIfTI, NRRD, MHA, DICOM: files, folders, trees of series.")
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where segmentations are written.")],
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="INPUT is a data set, as in training: its cases without a label.")
    ] = False,
    keep_format: Annotated[bool, typer.Option(help="Write in the input's format instead of NIfTI (.nii.gz).")] = False,
    dicom_seg: Annotated[
        bool, typer.Option(help="Write NAME.dcm, a DICOM segmentation, too. Needs DICOM input and medseg[dicom].")
    ] = False,
    probabilities: Annotated[bool, typer.Option(help="Write NAME_probabilities.nii.gz, one volume a class.")] = False,
    uncertainty: Annotated[bool, typer.Option(help="Write NAME_uncertainty.nii.gz: 0 is certain, 1 a guess.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace segmentations that are there.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Predict only the I-th of N shares of the cases, from 1/N.")
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="See each window mirrored too. Default: on GPUs, by the plan."),
    ] = None,
    skip_outside: Annotated[bool, typer.Option(help="Leave out windows that lie outside the body.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Segment volumes with a trained model, each on its own grid.

    Beside NAME.nii.gz stands NAME.json: millilitres of each class, and flags
    where something should be looked at. What is finished is not done again.
    With several channels, the files of a case are NAME_0000, NAME_0001, ...
    A volume that cannot be read stops none of the others: exit code 1.

    \b
    Example:
      medseg predict runs/a/model scans/ --output segmentations/
      medseg predict runs/a/model my_cohort/ --unlabelled --output segmentations/
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from medseg.engine import Autocast, pick_device
    from medseg.files import make_folder
    from medseg.inference import PlannedInferer, find_inputs, load_model, unlabelled_cases
    from medseg.inference.batch import Failure, predict_cases
    from medseg.inference.outputs import Outputs

    where = pick_device(f"cuda:{os.environ['LOCAL_RANK']}" if _own_gpu(device) else device)
    loaded = load_model(model, where)
    if unlabelled and len(inputs) > 1:
        raise InputError(f"--unlabelled: {len(inputs)} inputs, expected one data set; predict them one by one")
    channels = [channel.name for channel in loaded.plan.channels]
    found = unlabelled_cases(inputs[0], channels) if unlabelled else find_inputs(inputs, len(channels))
    cases = share(found.cases, shard)
    inferer = PlannedInferer(loaded.plan, where, mirror, skip_outside)
    autocast = Autocast(where)
    settings = (
        autocast.precision,
        *(f"mirror {axis}" for axis in inferer.mirrored_axes),
        *(["skip_outside"] if skip_outside else []),
    )
    outputs = Outputs(
        make_folder(output), loaded.digest, settings, None if keep_format else ".nii.gz", probabilities, uncertainty
    )
    if dicom_seg:
        from medseg.inference.dicom_seg import dicom_seg_writer

        outputs = replace(outputs, dicom_seg=dicom_seg_writer(loaded.plan, found.cases))
    todo, problems = _to_do(cases, outputs, overwrite)
    failures = [*share(list(found.problems.values()), shard), *problems]
    before = len(cases) - len(todo) - len(problems)
    flagged = done = 0
    errors, console = Console(stderr=True), Console()
    for outcome in _shown(todo, errors, partial(predict_cases, todo, loaded, inferer, outputs, autocast)):
        if isinstance(outcome, Failure):
            failures.append(outcome.problem)
            continue
        done += 1
        flagged += bool(outcome.findings.flags)
        for flag in outcome.findings.flags:
            errors.print(f"{outcome.name}: {flag.text}", markup=False, highlight=False, soft_wrap=True)
    what = "segmentation" if done == 1 else "segmentations"
    said = [f"{done} {what} written to {output}"]
    said += [f"{before} finished before"] if before else []
    said += [f"{flagged} with flags, see their JSON"] if flagged else []
    console.print("; ".join(said), markup=False, highlight=False, soft_wrap=True)
    for problem in failures:
        errors.print(f"Error: {problem}", markup=False, highlight=False, soft_wrap=True)
    if _wait_for_others(bool(failures)):
        raise typer.Exit(1)


def _shown(
    todo: list[Case], console: Console, predict: Callable[[Callable[[int, float], None]], Iterator[T]]
) -> Iterator[T]:
    """What `predict` gives, which tells the number of the case and the share of it that is done; a bar shows it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("segmenting {task.fields[case]}"), BarColumn(), TextColumn("{task.fields[count]}"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=max(len(todo), 1), case="", count="")

        def moved(index: int, part: float) -> None:
            progress.update(task, completed=index + part, case=todo[index].name, count=f"{index + 1} of {len(todo)}")

        yield from predict(moved)


def share(cases: list[T], shard: str | None) -> list[T]:
    """This process's share of the cases, or of what is wrong with others: of `--shard I/N`, and of what torchrun
    started (RANK, WORLD_SIZE).

    Raises:
        InputError: no such share.
    """
    if shard is not None:
        first, separator, second = shard.partition("/")
        if not (separator and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
            raise InputError(f"--shard {shard}: expected I/N with I from 1 to N, such as 1/4")
        cases = cases[int(first) - 1 :: int(second)]
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return cases[int(rank) :: int(world)]


def _wait_for_others(failed: bool) -> bool:
    """Whether any process that torchrun started has failed, once all are done: torchrun ends the others as soon as one
    exits with an error. They meet only here, for nothing else needs a connection."""
    import torch.distributed as dist

    from medseg import ranks

    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return failed
    ranks.join("cpu", patience=_PATIENCE)
    failed = any(ranks.gathered(failed))
    ranks.leave()
    return failed


def _own_gpu(device: str) -> bool:
    """Whether torchrun gives this process a GPU of its own."""
    if device != "auto" or "LOCAL_RANK" not in os.environ:
        return False
    import torch

    return torch.cuda.is_available()


def _to_do(cases: list[Case], outputs: Outputs, overwrite: bool) -> tuple[list[Case], list[str]]:
    """The cases that are not finished, and what is wrong with those that cannot be begun."""
    images = {path.resolve() for case in cases for path in case.images}
    for case in cases:
        for target in outputs.files(case):
            if target.resolve() in images:
                raise InputError(f"{target}: is an input; choose another --output")
    todo, problems = [], []
    for case in cases:
        try:
            if outputs.wanted(case, overwrite):
                todo.append(case)
        except InputError as error:
            problems.append(str(error))
    return todo, problems
