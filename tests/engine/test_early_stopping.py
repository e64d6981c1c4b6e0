"""Training ends where validation no longer gets better, and goes on counting after a resume."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.engine import EarlyStopping
from medseg.errors import InputError


class _Trainer:
    def __init__(self) -> None:
        self.state = SimpleNamespace(validation=None, ended="")
        self.stopped = False

    def terminate(self) -> None:
        self.stopped = True


def _validations(handler: EarlyStopping, found: list[float]) -> int:
    """After how many of these validations training ends; 0 where it does not."""
    trainer: Any = _Trainer()
    for i, dice in enumerate(found, 1):
        trainer.state.validation = SimpleNamespace(dice=dice)
        handler(trainer)
        if trainer.stopped:
            assert "no better Dice than" in trainer.state.ended
            return i
    return 0


@pytest.mark.parametrize(
    ("patience", "min_delta", "found", "end"),
    [
        (2, 0.0, [0.5, 0.4, 0.5], 3),
        (2, 0.0, [0.5, 0.4, 0.51, 0.5, 0.5], 5),
        (2, 0.1, [0.5, 0.55, 0.59], 3),
        (2, 0.05, [0.5, 0.54, 0.58, 0.6, 0.6], 5),  # better than the best that counted, not than the last
        (3, 0.0, [0.5, 0.4, 0.4], 0),
        (None, 0.0, [0.5] * 50, 0),
        (1, 0.0, [math.nan] * 5, 0),  # says nothing
        (2, 0.0, [math.nan, 0.5, math.nan, 0.4, math.nan, 0.4], 6),
        (1, 0.0, [0.0, 0.0], 2),
    ],
)
def test_it_ends_after_so_many_without_a_better_one(
    patience: int | None, min_delta: float, found: list[float], end: int
) -> None:
    assert _validations(EarlyStopping(patience, min_delta), found) == end
    # the same with a resume between any two
    for cut in range(1, max(end, 1)):
        first, second = EarlyStopping(patience, min_delta), EarlyStopping(patience, min_delta)
        assert _validations(first, found[:cut]) == 0
        second.load_state_dict(first.state_dict())
        assert _validations(second, found[cut:]) == end - cut


@pytest.mark.parametrize("given", [{"patience": 0}, {"min_delta": -0.1}, {"min_delta": math.nan}])
def test_wrong_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="early_stopping"):
        EarlyStopping(**given)
