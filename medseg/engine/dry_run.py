"""What a run would be, and what it would cost, without doing it."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from medseg import ranks
from medseg.data.cohort import Cohort
from medseg.data.loader import PairedLoader
from medseg.engine.iteration import Iteration
from medseg.engine.provenance import short_name, shown_loss
from medseg.engine.trainer import Budget
from medseg.methods import Progress
from medseg.plan import Plan

__all__ = ["Cost", "dry_run", "measured_cost"]

# of a run: the first step warms up where all terms are there, the others are timed from its beginning to its end
_SHARES = (0.9, 0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Cost:
    """`seconds` a step, the mean over a run's beginning, middle and end; `memory` in bytes at the peak of training: of
    the GPU, or on the CPU of the whole process."""

    seconds: float
    memory: int


def dry_run(
    iteration: Iteration,
    loader: PairedLoader,
    budget: Budget,
    plan: Plan,
    cohort: Cohort,
    loss: object,
    val_interval: int,
) -> None:
    """Takes a warm-up step and three that are timed, and prints what the run would be: plan, data, loaders, method,
    loss, network, memory and time. Writes nothing but prepared cases in the cache."""
    cost = measured_cost(iteration, loader)
    if not ranks.is_first():
        return
    table = Table(
        box=None, show_header=False, title="dry run: nothing is trained, no run is written", title_justify="left"
    )
    for name, text in (
        *_what(iteration, loader, plan, cohort, loss),
        ("memory", f"{cost.memory / 2**30:.2f} GiB at the peak of a step ({_of_what(iteration.autocast.device)})"),
        ("time", _time(cost.seconds, budget, val_interval, len(cohort.validation))),
    ):
        table.add_row(name, text)
    Console().print(table)


def measured_cost(iteration: Iteration, loader: PairedLoader) -> Cost:
    """Four steps on `iteration`, which is changed by them."""
    device = iteration.autocast.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times, begin = [], time.monotonic()
    for raw, share in zip(loader, _SHARES, strict=False):
        float(iteration(raw, Progress(int(1000 * share), 1000)).values["loss"])  # waits for the device
        now = time.monotonic()
        times.append(now - begin)
        begin = now
        if len(times) == len(_SHARES):  # or one more batch is read
            break
    return Cost(sum(times[1:]) / len(times[1:]), _peak(device))


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_what(device: torch.device) -> str:
    if device.type == "cuda":
        return f"of {torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB of {device}"
    return "of the process, in main memory"


def _what(
    iteration: Iteration, loader: PairedLoader, plan: Plan, cohort: Cohort, loss: object
) -> list[tuple[str, str]]:
    """Rows (name, text)."""
    network, student = plan.network, iteration.students[0]
    parameters = sum(p.numel() for p in student.parameters())
    patches = [f"{loader.labelled.batch_size} labelled from {len(loader.labelled)} cases"]
    if loader.unlabelled is not None:
        patches.append(f"{loader.unlabelled.batch_size} unlabelled from {len(loader.unlabelled)} cases")
    ways = [f"{n} {word}" for n, word in ((ranks.size(), "processes"), (iteration.accumulate, "parts")) if n > 1]
    kinds = ("labelled", "unlabelled", "validation", "test")
    classes = ", ".join(name for value, name in sorted(plan.classes.items()) if value)
    return [
        ("data", f"{cohort.name}: " + ", ".join(f"{len(getattr(cohort, kind))} {kind}" for kind in kinds)),
        ("plan", f"{len(plan.channels)} x {_by(plan.patch_size)} voxels of {_by(plan.spacing)} mm; {classes}"),
        ("patches", f"a step: {', '.join(patches)}" + (f"; in {' x '.join(ways)}" if ways else "")),
        ("method", f"{short_name(iteration.method)}, loss {shown_loss(loss)}"),
        (
            "network",
            f"{len(iteration.students)} x {parameters / 1e6:.2f} million parameters, filters "
            f"{', '.join(map(str, network.filters))}" + ("; and a teacher" if iteration.teacher is not None else ""),
        ),
        ("device", f"{iteration.autocast.device}, {iteration.autocast.precision}"),
    ]


def _time(step: float, budget: Budget, val_interval: int, cases: int) -> str:
    steps = budget.steps
    if budget.max_minutes is None and steps is not None:
        text = f"{step:.2f} s a step, {_duration(steps * step)} for {steps} steps"
    else:
        steps = max(1, int(60 * (budget.max_minutes or 0) / step))
        text = f"{step:.2f} s a step, at most {steps} steps in {budget.max_minutes:g} minutes"
    validations = max(1, round(steps / val_interval))
    often = "one validation" if validations == 1 else f"{validations} validations"
    return f"{text}, and {often} of {cases} case{'' if cases == 1 else 's'} besides"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
