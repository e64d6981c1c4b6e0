"""`run.json`: what a run is known by once it has begun, so that others need evaluate nothing of its config."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.cohort import Cohort
from medseg.data.digests import file_digest
from medseg.errors import InputError
from medseg.files import write_text

__all__ = ["RUN_FILE", "RunFile", "cases_digest", "read_run_file", "run_file", "write_run_file"]

RUN_FILE = "run.json"
_PARTS = ("labelled", "unlabelled", "validation", "test")


@dataclass(frozen=True)
class RunFile:
    """What a run is known by.

    Args:
        params: method, loss, budget, seed, fold, digest of the data, versions.
        classes: names by label value.
        cases: of each part (`labelled`, `unlabelled`, `validation`, `test`), with absolute paths. A case of
            `unlabelled` has no label here, whether or not there is one.
        tracking: `uri`, `experiment` and `run_id` of the MLflow run; empty where there is none.
    """

    params: Mapping[str, Any]
    classes: Mapping[int, str]
    cases: Mapping[str, tuple[Case, ...]]
    tracking: Mapping[str, str] = field(default_factory=dict)


def run_file(cohort: Cohort, params: Mapping[str, Any], tracking: Mapping[str, str]) -> RunFile:
    """The record of a run on `cohort`. `params` gains the digest of the files that are judged (`validation_digest`):
    runs are comparable where it is equal, whatever they were trained on."""
    cases = {part: getattr(cohort, part) for part in _PARTS}
    known = {**params, "validation_digest": cases_digest(cohort.validation)}
    return RunFile(known, cohort.classes, cases, tracking)


def cases_digest(cases: Iterable[Case]) -> str:
    """Of the content of images and labels."""
    digests = (file_digest(path) for case in cases for path in case.files)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def write_run_file(folder: str | os.PathLike[str], run: RunFile) -> None:
    """Writes `run.json` to a run's folder, whole or not at all."""
    cases = {part: [_plain(case) for case in of_part] for part, of_part in run.cases.items()}
    record = {"params": dict(run.params), "tracking": dict(run.tracking)}
    record |= {"classes": {str(value): name for value, name in run.classes.items()}, "cases": cases}
    write_text(Path(folder) / RUN_FILE, json.dumps(record, indent=1, default=str) + "\n")


def read_run_file(folder: str | os.PathLike[str]) -> RunFile:
    """Reads `run.json` of a run's folder.

    Raises:
        InputError: there is none, or it is not what `write_run_file` writes.
    """
    path = Path(folder) / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return RunFile(
            params=dict(record["params"]),
            classes={int(value): str(name) for value, name in record["classes"].items()},
            cases={part: tuple(_case(case) for case in of_part) for part, of_part in record["cases"].items()},
            tracking={str(key): str(value) for key, value in record["tracking"].items()},
        )
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected the folder of a run that medseg train has written") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the record of a run ({type(error).__name__}: {error}); restore it") from error


def _plain(case: Case) -> dict[str, Any]:
    found = asdict(case)
    found["images"] = [os.path.abspath(path) for path in case.images]
    found["label"] = os.path.abspath(case.label) if case.label else None
    return {key: value for key, value in found.items() if value is not None or key == "label"}


def _case(record: Mapping[str, Any]) -> Case:
    annotated = record.get("annotated")
    return Case(
        name=str(record["name"]),
        images=tuple(Path(path) for path in record["images"]),
        label=Path(record["label"]) if record["label"] else None,
        annotated=tuple(annotated) if annotated is not None else None,
        group=record.get("group"),
        soft=bool(record.get("soft", False)),
    )
