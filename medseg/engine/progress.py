"""A progress bar with time left, loss and validation Dice; plain lines where the output is no terminal."""

from __future__ import annotations

import math
import time
from typing import Any

from ignite.engine import Events
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medseg.engine.trainer import LogEvents, Trainer
from medseg.engine.validation import shown_name
from medseg.methods import Ramp

__all__ = ["ProgressHandler"]

_FEW = 100  # steps: fewer teach a network next to nothing


class ProgressHandler:
    """Shows a run on `console` (standard error by default). Where that is no terminal: a line at each validation and
    at most every `seconds`. Minutes that hold few steps are called so, at the start and at the end."""

    first_only = True

    def __init__(self, console: Console | None = None, seconds: float = 15.0) -> None:
        self.console = console or Console(stderr=True)
        self.seconds = seconds
        self._bar: Progress | None = None
        self._task: Any = None
        self._said = self._begin = 0.0

    def attach(self, trainer: Trainer) -> None:
        """Attaches to the run."""
        trainer.add_event_handler(LogEvents.CALIBRATING, self._calibrating)
        trainer.add_event_handler(Events.STARTED, self._start)
        trainer.listen(self._row)
        trainer.add_event_handler(Events.COMPLETED, self._end)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _end(self, trainer: Trainer) -> None:
        self.close()
        self._say_if_few(trainer)
        if trainer.state.ended:
            self._say(f"stopped after step {trainer.state.iteration} of {trainer.state.steps}: {trainer.state.ended}")

    def _calibrating(self, trainer: Trainer) -> None:
        self._say(f"measuring how many steps {trainer.budget.max_minutes:g} minutes hold")

    def _start(self, trainer: Trainer) -> None:
        self._begin = self._said = time.monotonic()
        self._first = trainer.state.iteration  # of a resumed run not 0
        self._text: dict[str, Any] = {"loss": "", "dice": ""}
        if not self.console.is_terminal:
            many = "step" if trainer.state.steps == 1 else "steps"
            self._say(f"training {trainer.state.steps} {many} on {trainer.state.device}")
        self._say_if_few(trainer)
        self._say_if_unlabelled_are_left_out(trainer)
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]} {task.fields[dice]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._bar.start()
        self._task = self._bar.add_task("training", total=trainer.state.steps, completed=self._first, **self._text)

    def _say_if_few(self, trainer: Trainer) -> None:
        minutes, steps = trainer.budget.max_minutes, trainer.state.steps
        if minutes is not None and steps < _FEW:
            self._say(
                f"{minutes:g} minutes hold only {steps} of these steps on this machine, as busy as it is: "
                "too few to learn much; give more minutes, or a number of steps"
            )

    def _say_if_unlabelled_are_left_out(self, trainer: Trainer) -> None:
        ramp = getattr(trainer.iteration.method, "ramp", None)
        if isinstance(ramp, Ramp) and ramp.not_before >= trainer.state.steps:
            self._say(
                f"{trainer.state.steps} steps end before unlabelled cases are learned from: method#ramp#not_before is "
                f"{ramp.not_before}; give more steps"
            )

    def _row(self, trainer: Trainer) -> None:
        row = trainer.state.logged
        if row.kind == "validation":
            chosen = shown_name(trainer.state.validation.chosen)
            self._text["dice"] = f"Dice {row.metrics.get('validation/dice', math.nan):.3f} ({chosen})"
        elif "loss" in row.metrics:
            self._text["loss"] = f"loss {row.metrics['loss']:.3f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=row.step, **self._text)
        elif row.kind == "validation" or time.monotonic() - self._said > self.seconds:
            seconds = (time.monotonic() - self._begin) / max(row.step - self._first, 1)
            left = seconds * (trainer.state.steps - row.step)
            shown = " ".join(text for text in self._text.values() if text)
            self._say(f"step {row.step}/{trainer.state.steps} {shown}, {left:.0f} s left")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self.console.print(line, highlight=False, soft_wrap=True)
