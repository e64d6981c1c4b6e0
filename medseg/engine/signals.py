"""SIGINT and SIGTERM: the step is finished, all else is left at once; a second Ctrl-C leaves that, too."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from ignite.engine import Events

from medseg import ranks
from medseg.engine.trainer import LogEvents, Trainer
from medseg.errors import Interrupted

__all__ = ["StopSignals"]

_ONE_PRESS = 0.5  # seconds in which further signals belong to the first: launchers pass them on to their processes


class StopSignals:
    """Raises `Interrupted` in the main thread when a signal comes: at once, except while `held`.

    The trainer's state is held from a batch's arrival to the end of its step, and from a validation's row to what
    follows from it; so at an interruption that is raised while nothing is held the state is that after a whole step.

    Of several processes none is interrupted while they train together: after each step they agree whether one of them
    was signalled, and all stop after the same one.

    Among the handlers it stands behind the log of steps and before everything that takes time.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.held = False
        self._together = False  # from the start of the training of several processes to its end
        self._at = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """From here on signals are caught, until `release`."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread catch signals
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._signalled)

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def attach(self, trainer: Trainer) -> None:
        """Attaches to the run: held is what must be whole."""
        trainer.add_event_handler(Events.STARTED, self._begin)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._let_go)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._hold)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._let_go)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._agree)
        trainer.add_event_handler(LogEvents.LOGGED, self._hold_validation)
        trainer.add_event_handler(Events.COMPLETED, self._end)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader's worker, forked with this handler: the training process ends it
        first = self.received is None
        if first:
            self.received, self._at = number, time.monotonic()
        again = number == signal.SIGINT and time.monotonic() - self._at > _ONE_PRESS
        if again or (first and not self.held and not self._together):
            raise Interrupted(number)

    def _begin(self, _: Trainer) -> None:
        self._together = ranks.size() > 1

    def _agree(self, _: Trainer) -> None:
        if self._together:
            self.received = ranks.largest(self.received or 0) or None
            if self.received is not None:
                raise Interrupted(self.received)

    def _end(self, trainer: Trainer) -> None:
        self._agree(trainer)
        self._together = False
        self._let_go(trainer)

    def _hold(self, _: Trainer) -> None:
        self.held = True

    def _hold_validation(self, trainer: Trainer) -> None:
        if trainer.state.logged.kind == "validation":
            self.held = True

    def _let_go(self, _: Trainer) -> None:
        self.held = False
        if self.received is not None and not self._together:
            raise Interrupted(self.received)
