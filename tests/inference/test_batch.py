"""Many volumes at once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.data.case import Case
from medseg.inference import batch
from medseg.inference.batch import Done, predict_cases
from medseg.inference.findings import Findings


def test_reading_predicting_and_writing_overlap(small_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first volume is written, the second predicted and the third read at one time: each waits for the others."""
    meeting = threading.Barrier(3, timeout=20)

    def works(at: int) -> Any:
        def work(*arguments: Any) -> Any:
            found = next(a for a in arguments if isinstance(a, int))
            if found == at:
                meeting.wait()
            return found

        return work

    write = works(0)
    monkeypatch.setattr(batch, "_write", lambda _, item, *rest: (write(item), Findings({}, ()))[1])
    monkeypatch.setattr(batch, "segment", works(1))
    monkeypatch.setattr(batch.VolumeDataset, "__getitem__", works(2))
    cases = [Case(name, (Path(name),), None) for name in "abcd"]
    model: Any = SimpleNamespace(plan=small_plan(), networks=())
    outputs: Any = SimpleNamespace(probabilities=False, uncertainty=False)
    assert list(predict_cases(cases, model, None, outputs)) == [Done(name, Findings({}, ())) for name in "abcd"]  # type: ignore[arg-type]
