"""`medseg train --dry-run` says what the run would be and leaves nothing behind but prepared cases."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.usefixtures("elsewhere")
def test_a_dry_run_resolves_all_and_writes_no_run(
    medseg: Any, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = medseg(
        "train", "--data", tiny_cohort, "--network", "small", "--steps", 600, "--set", "val_interval=100",
        "--set", "accumulate=2", "--dry-run",
    )  # fmt: skip
    assert code == 0, err
    assert "2 labelled, 2 unlabelled, 1 validation" in out
    assert re.search(r"a step: \d+ labelled from 2 cases, \d+ unlabelled from 2 cases; in 2 parts", out)
    assert "pseudo_label, loss dice_ce" in out
    assert re.search(r"1 x 0\.\d\d million parameters, filters 8, 16, .*and a teacher", out)
    assert re.search(r"[\d.]+ GiB at the peak of a step", out)
    assert re.search(r"s a step, .* for 600 steps, and 6 validations of 1 case besides", out)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]
    code, _, err = medseg("train", "--data", tiny_cohort, "--dry-run", "--set", "stepz=1")
    assert code == 2
    assert "did you mean 'steps'" in err
