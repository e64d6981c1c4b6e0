"""The trainer ends exactly where its budget does and says what happens on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from medseg.engine import Autocast, Budget, JsonLines, ProgressHandler, StepLog, Trainer
from medseg.engine.iteration import StepResult
from medseg.engine.validation import ValidationHandler
from medseg.errors import InputError
from medseg.methods import Progress, Ramp


class _Loader:
    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = 0
        while True:
            yield {"step": step, "labelled": {}, "unlabelled": None}
            step += 1


class _Iteration:
    """Counts its calls; the loss of step n is n."""

    def __init__(self) -> None:
        self.autocast = Autocast("cpu", "fp32")
        self.method: Any = None
        self.seen: list[tuple[int, Progress]] = []

    def __call__(self, raw: dict[str, Any], progress: Progress) -> StepResult:
        self.seen.append((raw["step"], progress))
        return StepResult({"loss": torch.tensor(float(progress.step))}, samples=2)


def _trainer(budget: Budget, handlers: tuple[Any, ...] = (), length: int = 4) -> tuple[Trainer, _Iteration]:
    iteration = _Iteration()
    return Trainer(budget.epochs(length), _Loader(), iteration, budget, length, handlers), iteration  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8, 9])
def test_a_budget_in_steps_is_met_exactly(steps: int) -> None:
    trainer, iteration = _trainer(Budget(steps=steps))
    trainer.run()
    assert iteration.seen == [(n, Progress(n, steps)) for n in range(steps)]
    assert trainer.state.iteration == steps


@pytest.mark.parametrize(("seconds", "trials"), [(2.0, 8), (0.1, 32)])  # at least 8; 3 % of the time, the first aside
def test_minutes_become_steps_measured_on_a_copy(seconds: float, trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("medseg.engine.trainer.time.monotonic", lambda: now[0])
    budget = Budget(max_minutes=1, started=now[0])
    trainer, iteration = _trainer(budget)

    def slow(self: _Iteration, raw: dict[str, Any], progress: Progress) -> StepResult:
        self.seen.append((raw["step"], progress))
        now[0] += seconds * (3 if seconds < 1 and len(self.seen) <= 8 else 1)  # caches fill first
        return StepResult({"loss": torch.tensor(0.0)}, samples=1)

    monkeypatch.setattr(_Iteration, "__call__", slow)
    trainer.run()
    spent = seconds * (trials if seconds > 1 else trials + 16)
    assert trainer.state.steps == pytest.approx(0.95 * (60 - spent) / seconds, abs=1)  # less 5 %
    assert iteration.seen == [(n, Progress(n, trainer.state.steps)) for n in range(trainer.state.steps)]


def test_minutes_count_what_reading_a_batch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("medseg.engine.trainer.time.monotonic", lambda: now[0])

    class Slow(_Loader):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for raw in super().__iter__():
                now[0] += 1
                yield raw

    def slow(self: _Iteration, raw: dict[str, Any], progress: Progress) -> StepResult:
        now[0] += 1
        return StepResult({"loss": torch.tensor(0.0)}, samples=1)

    monkeypatch.setattr(_Iteration, "__call__", slow)
    budget = Budget(max_minutes=1, started=now[0])
    trainer = Trainer(budget.epochs(4), Slow(), _Iteration(), budget, 4)  # type: ignore[arg-type]
    trainer.run()
    assert trainer.state.steps == pytest.approx(0.95 * (60 - 8 * 2) / 2, abs=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"steps": 0}, "steps is 0"), ({}, "steps is None"), ({"max_minutes": -1}, "max_minutes is -1"),
     ({"steps": 3, "max_minutes": 1}, "one of them"), ({"steps": 2.5}, "steps is 2.5"),
     ({"max_minutes": "three"}, "max_minutes is three")],
)  # fmt: skip
def test_a_budget_is_checked(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Budget(**given)


@pytest.mark.parametrize("length", [0, 1.5])
def test_validations_lie_whole_steps_apart(length: Any) -> None:
    with pytest.raises(InputError, match=f"val_interval is {length}"):
        Budget(steps=3).epochs(length)


def test_rows_are_means_over_their_steps(tmp_path: Path) -> None:
    trainer, _ = _trainer(Budget(steps=5), (StepLog(every=2), JsonLines(tmp_path / "logs" / "metrics.jsonl")))
    trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"], row["loss"]) for row in rows] == [
        (2, "train", 0.5), (4, "train", 2.5), (5, "train", 4.0),
    ]  # fmt: skip
    assert all(row["images_per_second"] > 0 for row in rows)


def test_throughput_is_that_of_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("medseg.engine.logs.time.monotonic", lambda: now[0])

    def takes(seconds: float) -> None:
        now[0] += seconds

    class Slow(_Loader):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for batch in super().__iter__():
                takes(1 if batch["step"] else 50)  # the first one waits for the preparation
                yield batch

    rows: list[float] = []
    log = StepLog(every=2)
    trainer = Trainer(1, Slow(), (iteration := _Iteration()), Budget(steps=4), 4, (log,))  # type: ignore[arg-type]
    monkeypatch.setattr(trainer, "iteration", lambda *given: (takes(2), iteration(*given))[1])
    trainer.listen(lambda _: rows.append(trainer.state.logged.metrics["images_per_second"]))
    trainer.listen(lambda _: takes(70))  # a validation
    trainer.run()
    assert rows == [pytest.approx(4 / (2 + 3)), pytest.approx(4 / (3 + 3))]


def test_a_validation_is_measured_with_prepared_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    now, cold = [100.0], [50.0]
    monkeypatch.setattr("medseg.engine.validation.time.monotonic", lambda: now[0])

    class Cases:
        def __iter__(self) -> Iterator[int]:
            now[0] += cold.pop() if cold else 1
            yield 0

    cases = Cases()
    handler = ValidationHandler(SimpleNamespace(data_loader=cases, evaluate=lambda _: list(cases)), 2)  # type: ignore[arg-type]
    handler._trainer = SimpleNamespace(iteration=SimpleNamespace(networks=lambda: {"student_0": 0, "teacher": 1}))  # type: ignore[assignment]
    assert handler.seconds() == 2


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    text = StringIO()
    handler = ProgressHandler(Console(file=text, force_terminal=False, width=200), seconds=0)
    trainer, _ = _trainer(Budget(steps=4), (StepLog(every=2), handler))
    trainer.run()
    lines = text.getvalue().splitlines()
    assert lines[0] == "training 4 steps on cpu"
    assert lines[1].startswith("step 2/4 loss 0.500, ")
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize(("steps", "few"), [(1, True), (100, False)])
def test_minutes_that_hold_few_steps_are_called_so(steps: int, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_calibrated_steps", lambda _: steps)
    text = StringIO()
    trainer, _ = _trainer(Budget(max_minutes=3), (ProgressHandler(Console(file=text, width=200)),))
    trainer.run()
    assert text.getvalue().startswith("measuring how many steps 3 minutes hold\n")
    assert text.getvalue().count("3 minutes hold only 1 of these steps") == 2 * few
    assert ("training 1 step on cpu" in text.getvalue()) == few


@pytest.mark.parametrize(("steps", "said"), [(4, True), (5, False)])
def test_a_run_too_short_for_unlabelled_cases_says_so(steps: int, said: bool) -> None:
    text = StringIO()
    trainer, iteration = _trainer(Budget(steps=steps), (ProgressHandler(Console(file=text, width=200)),))
    iteration.method = SimpleNamespace(ramp=Ramp(not_before=4))
    trainer.run()
    assert ("4 steps end before unlabelled cases are learned from" in text.getvalue()) == said


def test_a_method_may_have_a_ramp_of_its_own() -> None:
    text = StringIO()
    trainer, iteration = _trainer(Budget(steps=2), (ProgressHandler(Console(file=text, width=200)),))
    iteration.method = SimpleNamespace(ramp=lambda progress: progress.share)
    trainer.run()
    assert "unlabelled" not in text.getvalue()


def test_progress_is_a_bar_on_a_terminal() -> None:
    text = StringIO()
    handler = ProgressHandler(Console(file=text, force_terminal=True, width=120))
    trainer, _ = _trainer(Budget(steps=4), (StepLog(every=2), handler))
    trainer.run()
    assert "4/4" in text.getvalue()
    assert "loss 2.500" in text.getvalue()
