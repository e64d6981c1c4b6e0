"""Folders of runs that were never trained, with results that tests choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from medseg.metrics.report import ClassResult, as_json, summarise

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run("a", {"x": 0.8}, method="Supervised", seed=1)`: a run folder whose `last` has this Dice by case; HD95
    is 100 (1 - Dice) mm and recall is Dice. Further arguments are keys of the config."""

    def make_run(
        name: str, dice: Mapping[str, float], method: str = "Supervised", loss: str = "DiceCELoss", **config: Any
    ) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        results = {
            case: [ClassResult("organ", value, 100 * (1 - value), 1.0, 1.0, False, {"recall": value})]
            for case, value in dice.items()
        }
        judged = {"step": 9, "network": "student", "summary": as_json(summarise(results)), "cases": as_json(results)}
        metrics = {"steps": 9, "seconds": 60.0, "validation": {"best": judged, "last": judged}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        known = {"dataset_dir": "/data/set", "labelled": 4, "seed": 0, "fold": None, "steps": 9, "max_minutes": None}
        parts = {"method": {"_target_": f"medseg.methods.{method}"}, "loss": {"_target_": f"medseg.losses.{loss}"}}
        (folder / "config.yaml").write_text(yaml.safe_dump({**known, **parts, **config}))
        rows = [
            {"step": step, "kind": "validation", "seconds": 10.0 * step, "validation/dice": 0.1 * step}
            | ({} if method == "Supervised" else {"validation/pseudo_label_dice": 0.05 * step})
            for step in (3, 6, 9)
        ]
        rows += [{"step": 5, "kind": "train", "seconds": 50.0, "loss": 0.5}]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 12, "ki')
        return folder

    return make_run
