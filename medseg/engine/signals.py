"""SIGINT and SIGTERM finish the step and save; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from ignite.engine import Events

from medseg.engine.trainer import Trainer

__all__ = ["StopSignals"]


class StopSignals:
    """A handler that ends training after the current step at the first signal, and lets the second one through."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def attach(self, trainer: Trainer) -> None:
        """Attaches to the run: signals are caught from its start to its end."""
        trainer.add_event_handler(Events.STARTED, self._catch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stop)
        trainer.add_event_handler(Events.COMPLETED, lambda _: self.release())

    def release(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self, _: Trainer) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread catch signals
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self.release()

    def _stop(self, trainer: Trainer) -> None:
        if self.received is not None:
            trainer.terminate()
