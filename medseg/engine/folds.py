"""Runs on the folds of one data set, collected: cross-validated measures, and an ensemble of the models."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from medseg.errors import InputError
from medseg.files import make_folder, write_text, writing
from medseg.metrics.report import ClassResult, Summary, as_json, summarise
from medseg.report.runs import read_run

__all__ = ["collect_folds"]


def collect_folds(folder: str | os.PathLike[str], runs: Sequence[str | os.PathLike[str]]) -> dict[str, Summary]:
    """Collects finished runs, one a fold: `cross_validation.json` with every case judged by the network that did not
    see it, and `model/`, an ensemble that `medseg predict` takes.

    Args:
        folder: where both are written.
        runs: their folders, in the order of the folds.

    Returns:
        What all cases say together, of `best` and `last`.

    Raises:
        InputError: a run is not finished, two judged the same case, or plans differ: then there is no one ensemble.
    """
    folder = Path(folder)
    summaries, record = {}, {}
    for checkpoint in ("best", "last"):
        cases: dict[str, Sequence[ClassResult]] = {}
        fold_of: dict[str, int] = {}
        for number, run in enumerate(runs):
            results = read_run(run, checkpoint=checkpoint).results
            twice = next((case for case in results if case in cases), None)
            if twice is not None:
                raise InputError(f"{run}: judged case {twice}, as did fold {fold_of[twice]}; folds must not overlap")
            cases |= results
            fold_of |= dict.fromkeys(results, number)
        summaries[checkpoint] = summarise(cases, intervals=True)
        record[checkpoint] = {"summary": as_json(summaries[checkpoint]), "folds": fold_of, "cases": as_json(cases)}
    _ensemble(folder / "model", [Path(run) / "model" for run in runs])
    write_text(folder / "cross_validation.json", json.dumps(record, indent=1) + "\n")
    return summaries


def _ensemble(folder: Path, models: Sequence[Path]) -> None:
    """Copies the models below `folder` and names them in `ensemble.yaml`."""
    plans = {(model / "plan.yaml").read_text(encoding="utf-8") for model in models}
    if len(plans) > 1:
        raise InputError(f"{models[0]}: folds have {len(plans)} different plans; train them with one --plan")
    names = [f"fold_{number}" for number in range(len(models))]
    for name, model in zip(names, models, strict=True):
        target = make_folder(folder / name)
        for file in sorted(path for path in model.iterdir() if path.is_file()):
            with writing(target / file.name) as whole:
                shutil.copyfile(file, whole)
    # last: what it names is whole by then
    write_text(folder / "ensemble.yaml", yaml.safe_dump({"members": names}, sort_keys=False))
