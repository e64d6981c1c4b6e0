"""The trainer: MONAI's engine around the one iteration, with a budget in steps or minutes."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ignite.engine import EventEnum, Events
from monai.engines import Trainer as MonaiTrainer

from medseg import ranks
from medseg.data.loader import PairedLoader, RawBatch
from medseg.engine.iteration import Iteration, StepResult
from medseg.errors import InputError
from medseg.methods import Progress

__all__ = ["Budget", "LogEvents", "Logged", "Trainer"]

_STEADY, _TRIAL = 0.03, 0.1  # shares of the minutes: steps are tried for the first, and for the second at most


class LogEvents(EventEnum):
    """`CALIBRATING`: minutes are about to be frozen into steps. `LOGGED`: `state.logged` holds a `Logged`.
    `VALIDATED`: `state.validation` is new."""

    CALIBRATING = "calibrating"
    LOGGED = "logged"
    VALIDATED = "validated"


@dataclass(frozen=True)
class Logged:
    """A row of metrics after `step` steps; `kind` is "train", "validation", "fault", "system" or "judged"."""

    step: int
    kind: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of steps, or minutes of wall-clock, which are frozen into steps.

    Attributes:
        steps: optimiser steps; what must repeat exactly is run with these.
        max_minutes: minutes from this record's construction to the end of training, preparation and validations
            included. A short calibration on copies of the networks measures a step, and the number of steps follows.
        started: the clock (`time.monotonic`) that the minutes count from.
    """

    steps: int | None = None
    max_minutes: float | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.max_minutes is not None and self.steps is not None:
            raise InputError("both steps and max_minutes are given; give one of them")
        if self.max_minutes is not None and (not isinstance(self.max_minutes, int | float) or self.max_minutes <= 0):
            raise InputError(f"max_minutes is {self.max_minutes}; expected a positive number of minutes")
        if self.max_minutes is None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps is {self.steps}; expected a positive whole number of steps, or max_minutes")

    def epochs(self, length: int) -> int:
        """Epochs of `length` steps that hold the budget; 1 while minutes are not yet frozen into steps.

        Raises:
            InputError: `length`, the config's `val_interval`, is no positive whole number.
        """
        if not isinstance(length, int) or length < 1:
            raise InputError(f"val_interval is {length}; expected a positive whole number of steps")
        return 1 if self.max_minutes is not None else math.ceil((self.steps or 1) / length)


class Trainer(MonaiTrainer):
    """Runs `iteration` over the loaders until the budget is spent. Ignite's epochs are stretches of `epoch_length`.

    Args:
        max_epochs: an upper bound where the budget is in steps; what ends a run is the budget.
        train_data_loader: both loaders.
        iteration: the one training iteration.
        budget: steps or minutes.
        epoch_length: steps an epoch.
        train_handlers: attached in this order; those that say `first_only`, because they write or show something, in
            the first of several processes alone.

    State: `steps` (the frozen budget), `output` (`StepResult`), `logged`, `validation`, `ended` (why
    training ended before its budget, else "").
    """

    def __init__(
        self,
        max_epochs: int,
        train_data_loader: PairedLoader,
        iteration: Iteration,
        budget: Budget,
        epoch_length: int,
        train_handlers: Sequence[Any] = (),
    ) -> None:
        super().__init__(
            iteration.autocast.device,
            max_epochs,
            train_data_loader,
            epoch_length=epoch_length,
            decollate=False,
            event_names=[LogEvents],
        )
        self.logger.addFilter(lambda row: "terminating due to exception" not in row.getMessage())  # it is raised, too
        self.iteration = iteration
        self.budget = budget
        self.validation: Any = None  # set by the handler that validates: `seconds()` measures one validation
        self.state.steps = budget.steps if budget.max_minutes is None else None
        self.state.validation = None
        self.state.ended = ""
        self.add_event_handler(Events.ITERATION_COMPLETED, _end_of_budget)
        self.handlers = tuple(h for h in train_handlers if ranks.is_first() or not getattr(h, "first_only", False))
        for handler in self.handlers:
            handler.attach(self)

    def run(self) -> None:
        """Trains until the budget is spent."""
        if self.state.steps is None:
            self.fire_event(LogEvents.CALIBRATING)
            self.state.steps = self._calibrated_steps()
        if self.state.ended or self.state.iteration >= self.state.steps:  # resumed after its last step
            for event in (Events.STARTED, Events.EPOCH_STARTED, Events.COMPLETED):
                self.fire_event(event)
            return
        self.state.max_epochs = math.ceil(self.state.steps / self.state.epoch_length)
        super().run()

    def go_on(self, step: int, steps: int, ended: str) -> None:
        """Sets a run that has done `step` of `steps` to go on from there when it is run."""
        self.state.iteration = step
        self.state.epoch = step // self.state.epoch_length
        self.state.steps, self.state.ended = steps, ended
        self.data_loader.first_step = step

    def listen(self, handler: Callable[[Any], None]) -> None:
        """Has `handler(trainer)` called for each row of metrics, `state.logged`."""
        self.add_event_handler(LogEvents.LOGGED, handler)

    def log(self, kind: str, metrics: dict[str, float]) -> None:
        """Hands a row of metrics to whoever listens."""
        self.state.logged = Logged(self.state.iteration, kind, metrics)
        self.fire_event(LogEvents.LOGGED)

    def _iteration(self, engine: Any, batchdata: RawBatch) -> StepResult:  # noqa: ARG002  # MONAI's signature
        # Ignite counts a step before it is done
        return self.iteration(batchdata, Progress(self.state.iteration - 1, self.state.steps))

    def _calibrated_steps(self) -> int:
        """Steps that fit into the minutes left: measured on a copy, so that the run itself begins fresh."""
        assert self.budget.max_minutes is not None  # steps are None only then
        trial = copy.deepcopy(self.iteration)
        times, budget = [], 60 * self.budget.max_minutes
        # steps from all over a run, because some terms begin late; of the least number two only warm up
        shares = itertools.chain((0.0, 0.9), itertools.cycle((0.05, 0.25, 0.45, 0.65, 0.85, 0.95)))
        begin = time.monotonic()
        for raw, share in zip(self.data_loader, shares, strict=False):
            values = trial(raw, Progress(int(1000 * share), 1000)).values
            float(values["loss"])  # waits for the device
            now = time.monotonic()
            times.append(now - begin)  # with the reading of the batch
            begin = now
            enough = sum(times[8:]) > _STEADY * budget or sum(times) > _TRIAL * budget
            if len(times) > 2 and len(times) % 6 == 2 and ranks.from_first(lambda: enough):  # noqa: B023
                break
        steady = times[8:] or times[2:]  # where there is time, the first round only fills caches
        step = sum(steady) / len(steady)
        validation = self.validation.seconds() if self.validation is not None else 0.0
        every = self.validation.interval if self.validation is not None else 1
        left = self.budget.started + 60 * self.budget.max_minutes - time.monotonic() - validation
        # a machine does not keep its speed to the last percent; the first process decides for all
        return ranks.from_first(lambda: max(1, int(0.95 * left / (step + validation / every))))


def _end_of_budget(engine: Any) -> None:
    if engine.state.iteration >= engine.state.steps:
        engine.terminate()
