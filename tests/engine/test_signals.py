"""A signal ends the step and no more; what takes long is left at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.engine import StopSignals, signals
from medseg.errors import Interrupted


@pytest.fixture
def stop() -> Iterator[StopSignals]:
    found = StopSignals()
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found.catch()
    found.catch()  # nothing is lost by that
    yield found
    found.release()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def _send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_once_where_nothing_is_held(number: int, stop: StopSignals) -> None:
    with pytest.raises(Interrupted) as caught:
        _send(number)
    assert caught.value.number == stop.received == number


def test_after_the_step_where_one_is_held(stop: StopSignals) -> None:
    trainer: Any = SimpleNamespace()
    stop._hold(trainer)
    _send(signal.SIGTERM)
    _send(signal.SIGTERM)  # launchers send it again; the step is still finished
    assert stop.held
    with pytest.raises(Interrupted):
        stop._let_go(trainer)
    assert not stop.held


def test_a_second_interrupt_does_not_wait(stop: StopSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    stop._hold(SimpleNamespace())  # type: ignore[arg-type]
    _send(signal.SIGINT)
    _send(signal.SIGINT)  # the same press, passed on by a launcher
    monkeypatch.setattr(signals, "_ONE_PRESS", -1.0)
    with pytest.raises(Interrupted):
        _send(signal.SIGINT)
    assert stop.held  # so that no checkpoint of half a step is written


def test_what_follows_from_a_validation_is_held(stop: StopSignals) -> None:
    for kind, held in (("train", False), ("validation", True)):
        stop._hold_validation(SimpleNamespace(state=SimpleNamespace(logged=SimpleNamespace(kind=kind))))  # type: ignore[arg-type]
        assert stop.held is held
