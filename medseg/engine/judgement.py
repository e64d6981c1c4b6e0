"""Cases of a finished run judged apart from its training: test cases once, and on the record."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from medseg.data.case import Case
from medseg.data.layouts import list_cases
from medseg.data.runfile import RUN_FILE, RunFile, cases_digest, read_run_file
from medseg.engine.evaluator import VolumeEvaluator, WriteSegmentations
from medseg.engine.precision import Autocast
from medseg.errors import InputError
from medseg.files import write_text
from medseg.inference import PlannedInferer, VolumeDataset, load_model
from medseg.metrics.report import ClassResult, as_json, read_results, summarise

__all__ = ["SplitJudgement", "is_folds", "judge_split", "judged_cases", "judged_runs", "recorded_judgement"]

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class SplitJudgement:
    """How the model of a run did on the cases of one split.

    Args:
        split: "validation" or "test".
        results: by case name.
        judged: when, each time; the last one gave the results.
        tolerance_mm: of the surface Dice.
        fresh: whether this call predicted, rather than read what is recorded.
        same_model: whether the run's model is the one that was judged.
    """

    split: str
    results: Mapping[str, Sequence[ClassResult]]
    judged: tuple[str, ...]
    tolerance_mm: float
    fresh: bool
    same_model: bool = True


def judge_split(
    run: str | os.PathLike[str],
    split: str,
    *,
    tolerance_mm: float,
    again: bool = False,
    device: torch.device | str = "cpu",
    data: str | os.PathLike[str] | None = None,
) -> SplitJudgement:
    """Predicts and judges the cases of a split with the run's model.

    Test cases are judged once: the result is kept as `test.json` in the run's folder, and a later call gives what is
    there. Segmentations are kept in `predictions/`.

    Args:
        run: the folder of a finished run, or of the runs of `--folds`: their ensemble is then judged, on test cases.
        split: "validation" or "test".
        tolerance_mm: of the surface Dice.
        again: judge test cases once more; every time is recorded.
        device: where the network runs.
        data: the folder of the cases, where it has moved since the training. Names choose the cases, as in training.

    Raises:
        InputError: no finished run, an unknown split or one without cases, or a file that is missing.
    """
    run = Path(run)
    if split == "validation" and is_folds(run):
        raise InputError(f"{run}: validation cases of folds are judged already: see cross_validation.json there")
    if split not in _SPLITS:
        raise InputError(f"--split {split}: expected {' or '.join(_SPLITS)}")
    before = recorded_judgement(run) if split == "test" else None
    if before is not None and not again:
        return before
    cases = judged_cases(run, split, data)
    model = load_model(run / "model", device)
    classes = judged_runs(run)[0].classes
    evaluator = VolumeEvaluator(
        model.network,
        DataLoader(VolumeDataset(cases, model.plan, classes=classes), batch_size=None),
        model.plan,
        PlannedInferer(model.plan, device),
        Autocast(device),
        classes,
        [WriteSegmentations(run / "predictions")],
    )
    _, results = evaluator.evaluate(tolerance_mm=tolerance_mm)
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    found = SplitJudgement(split, results, (*(before.judged if before else ()), now), tolerance_mm, fresh=True)
    if split == "test":
        _record(run, found, cases)
    return found


def recorded_judgement(run: str | os.PathLike[str]) -> SplitJudgement | None:
    """What is recorded of a run's test cases; None where they were not judged yet.

    Raises:
        InputError: the record is not readable.
    """
    path = Path(run) / "test.json"
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return SplitJudgement(
            split="test",
            results=read_results(record["cases"]),
            judged=tuple(record["judged"]),
            tolerance_mm=float(record["tolerance_mm"]),
            fresh=False,
            same_model=record["model"] == _digest(Path(run)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a record of judged test cases ({error}); restore it from a backup") from error


def is_folds(run: Path) -> bool:
    """Whether a folder holds the runs of `--folds` and their ensemble."""
    return (run / "cross_validation.json").is_file()


def judged_runs(run: Path) -> list[RunFile]:
    """`run.json` of a run; of folds those of all, which have the same test cases.

    Raises:
        InputError: there is none, it is no such file, or the folds have different test cases.
    """
    if not is_folds(run):
        if not (run / RUN_FILE).exists() and any(run.glob(f"*/{RUN_FILE}")):
            raise InputError(f"{run}: a folder of several runs; judge them one by one, such as {run}/NAME")
        return [read_run_file(run)]
    files = [read_run_file(file.parent) for file in sorted(run.glob(f"fold_*/{RUN_FILE}"))]
    names = {tuple(case.name for case in file.cases["test"]) for file in files}
    if len(names) != 1:
        raise InputError(f"{run}: {len(files)} folds with {len(names)} sets of test cases; expected one set")
    return files


def _record(run: Path, found: SplitJudgement, cases: Sequence[Case]) -> None:
    record: dict[str, Any] = {
        "judged": list(found.judged),
        "model": _digest(run),
        "data_digest": cases_digest(cases),
        "tolerance_mm": found.tolerance_mm,
        "summary": as_json(summarise(found.results, intervals=True)),
        "cases": as_json(found.results),
    }
    write_text(run / "test.json", json.dumps(record, indent=1) + "\n")


def _digest(run: Path) -> str:
    """Of the weights that are judged, and of the plan, which says how they are used."""
    digest = hashlib.sha256()
    for file in sorted((run / "model").rglob("*")):
        if file.suffix in (".safetensors", ".yaml"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def judged_cases(run: Path, split: str, data: str | os.PathLike[str] | None) -> tuple[Case, ...]:
    """The cases of a run's split, with labels.

    Args:
        run: its folder.
        split: "validation" or "test".
        data: the folder of the cases, where it has moved.

    Raises:
        InputError: no run, no such cases, or a file is missing.
    """
    cases = judged_runs(run)[0].cases[split]
    if not cases:
        raise InputError(f'{run}: its data has no {split} cases; name them in splits.json under "{split}"')
    if data is not None:
        known = {case.name: case for case in list_cases(Path(data)).cases}
        absent = [case.name for case in cases if case.name not in known or known[case.name].label is None]
        if absent:
            raise InputError(f"{data}: no labelled case {absent[0]}, which is a {split} case of {run}; give its folder")
        cases = tuple(replace(case, images=known[case.name].images, label=known[case.name].label) for case in cases)
    for case in cases:
        for path in case.files:
            if not path.exists():
                raise InputError(
                    f"{path}: no such file, case {case.name} of {run}; has the data moved? give --data FOLDER"
                )
    return cases
