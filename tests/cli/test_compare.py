"""Wrong options of `medseg compare` are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no runs given"),
        ((".", "--split", "train"), "expected validation or test"),
        ((".", "--tag", "loss=dice"), "among the runs of an --experiment"),
        (("--experiment", "x", "--tag", "loss"), "--tag loss: expected KEY=VALUE"),
        (("no/folder",), "no such folder"),
        ((".",), "no finished run there"),
    ],
)
def test_wrong_options(
    arguments: tuple[str, ...], said: str, medseg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = medseg("compare", *arguments)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert said in err
