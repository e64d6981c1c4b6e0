"""On phantoms of which 2 of 16 are labelled, learning from the other 14, too, beats learning from the 2 alone."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import mean

import pytest

from medseg.data.phantoms import write_cohort


@pytest.fixture(scope="module")
def last_dice(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], float]:
    """The validation Dice of a method's `last` checkpoint after 600 steps."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_cohort(folder / "data", labelled=2, unlabelled=14, validation=6, test=0)
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}

    def trained(method: str) -> float:
        options = ("--steps", "600", "--seed", "1", "--set", "val_interval=300", "--device", "cpu", "--output", method)
        command = [sys.executable, "-m", "medseg", "train", "--data", "data", "--method", method, *options]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        metrics = json.loads((folder / method / "metrics.json").read_text())
        return mean(row["dice"]["mean"] for row in metrics["validation"]["last"]["summary"]["classes"])

    return functools.cache(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["mean_teacher", "pseudo_label", "cross_pseudo", "copy_paste", "consistent_copy_paste"]
)
def test_unlabelled_phantoms_help(method: str, last_dice: Callable[[str], float]) -> None:
    assert last_dice(method) > last_dice("supervised")
