"""What each of two processes does for test_processes.py: its half of the work that the test does alone."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from test_method_contracts import METHODS, SHAPE, iteration_of, make, raw_batch
from torch import nn

from medseg import ranks
from medseg.data.loader import RawBatch
from medseg.engine import Faults, StepLog
from medseg.engine.gradients import average_gradients
from medseg.engine.iteration import StepResult
from medseg.errors import InputError
from medseg.methods import Progress
from medseg.plan import Plan

STEPS = 3
# where in a run: at its beginning, where some terms are not yet there, and in its middle
PLACES = (0, 50)


def plan() -> Plan:
    network = {
        "filters": (4, 6),
        "strides": ((1, 1, 1), (2, 2, 2)),
        "kernels": ((3, 3, 3),) * 2,
        "heads": 0,
    }
    return Plan(
        name="two",
        channels=({"name": "MRI", "normalisation": "zscore"},),  # type: ignore[arg-type]
        classes={0: "background", 1: "organ", 2: "other"},
        spacing=(1, 1, 1),
        patch_size=SHAPE,
        batch_size=4,
        network=network,  # type: ignore[arg-type]
    )


def own_part(raw: RawBatch) -> RawBatch:
    """What this process's loader would give of the joint batch."""
    shared: Any = {"step": raw["step"]}
    for kind in ("labelled", "unlabelled"):
        part: Any = raw[kind]  # type: ignore[literal-required]
        slots = torch.tensor(ranks.share(range(len(part["image"]))))
        shared[kind] = {name: tensor[slots] for name, tensor in part.items()} | {"slot": slots}
    return shared


def losses_of(name: str, place: int) -> list[dict[str, float]]:
    """Values of the first steps of a method, averaged over the processes, with the sum of all weights after each."""
    iteration = iteration_of(make(name), plan())
    if hasattr(iteration.method, "threshold"):
        iteration.method.threshold = 0.4  # some voxels are kept and some are not
    parameters = list(itertools.chain.from_iterable(student.parameters() for student in iteration.students))
    # the step must be a smooth function of the gradient: Adam's is its sign at first
    iteration.optimizer, iteration._rates = torch.optim.SGD(parameters, lr=0.05), [0.05]
    found = []
    for step in range(STEPS):
        raw = own_part(raw_batch(step, samples=4, classes=3))
        result = iteration(raw, Progress(place + step, 100))
        values = {key: float(value) for key, value in result.values.items() if key.startswith("loss")}
        values["gradient_norm"] = float(result.values["gradient_norm"])
        everyone = ranks.gathered(values)
        row = {key: sum(one[key] for one in everyone) / len(everyone) for key in values}
        row["weights"] = float(sum(p.detach().double().abs().sum() for p in parameters))
        if iteration.teacher is not None:
            row["teacher"] = float(sum(p.double().abs().sum() for p in iteration.teacher.parameters()))
        assert len(set(ranks.gathered(row["weights"]))) == 1, "the processes drift apart"
        found.append(row)
    return found


def missing_gradients() -> list[Any]:
    """Mean gradients where one process has none for one parameter, the other none for another, and both none for a
    third."""
    layers = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    layers[ranks.rank()].grad = torch.tensor([2.0, 4.0])
    loss = average_gradients(layers, torch.tensor(1.0 + ranks.rank()))
    return [None if p.grad is None else p.grad.tolist() for p in layers] + [float(loss)]


def rows_over_a_resume() -> list[dict[str, float]]:
    """The row of six steps, unbroken, and with a resume from what the first process knew after four; values differ by
    process, and one of them only the second process has."""
    rows: list[dict[str, float]] = []
    state = SimpleNamespace(iteration=0, steps=6, output=None)
    trainer: Any = SimpleNamespace(state=state, log=lambda _, row: rows.append(row))

    def play(log: StepLog, first: int, end: int) -> None:
        for step in range(first, end):
            loss = torch.tensor(float(step + 10 * ranks.rank()))
            more = {"only here": 5.0} if ranks.rank() and step > 2 else {}
            state.iteration, state.output = step + 1, StepResult({"loss": loss, **more}, 1 + ranks.rank())
            log(trainer)

    play(StepLog(every=6), 0, 6)
    stopped, resumed = StepLog(every=6), StepLog(every=6)
    play(stopped, 0, 4)
    resumed.load_state_dict(ranks.from_first(stopped.state_dict))
    play(resumed, 4, 6)
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def blamed() -> str:
    """What is said of a step of which only the second process's loss is not finite, with fp16."""
    loss = torch.tensor(math.nan if ranks.rank() else 1.0)
    values = {"loss": loss, "loss/labelled": loss, "gradient_norm": math.nan, "gradient_scale": 4.0}
    batch = {"cases": [f"case_{ranks.rank()}"]}
    state = SimpleNamespace(iteration=1, batch=batch, output=StepResult(values, 1, skipped=True))
    trainer: Any = SimpleNamespace(state=state, log=lambda *_: None)
    try:
        Faults(limit=1)(trainer)
    except InputError as error:
        return str(error)
    return "nothing"


def fails_on_one(rank: int) -> str:
    def make() -> int:
        if ranks.rank() == rank:
            raise InputError("case_7: torn")
        return 5

    try:
        ranks.all_or_none(make)
    except InputError as error:
        return "another one has ended" if "another one has ended" in str(error) else str(error)
    return "nothing"


def main(folder: Path) -> None:
    assert ranks.join("cpu") == ranks.rank()
    found = {
        "losses": {f"{name} {place}": losses_of(name, place) for name in METHODS for place in PLACES},
        "missing": missing_gradients(),
        "failing": fails_on_one(1),
        "rows": rows_over_a_resume(),
        "blamed": blamed(),
        "shares": ranks.gathered(list(ranks.share(range(5)))),
        "interleaved": ranks.interleaved(ranks.share("abcde")),
        "largest": ranks.largest(3 * ranks.rank()),
        "first": ranks.from_first(lambda: ranks.rank()),
        "even": [ranks.evenly(n) for n in (1, 2, 3)],
    }
    (folder / f"{ranks.rank()}.json").write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
