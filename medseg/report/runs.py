"""Runs read from their folders: how they were set, what they found, how they got there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.data.runfile import RUN_FILE
from medseg.errors import InputError
from medseg.metrics.report import ClassResult, read_results
from medseg.report.configs import flat, loss_name, short_name

__all__ = ["RunRecord", "find_runs", "read_history", "read_run"]


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        name: the folder's.
        folder: of the run.
        config: the composed config by flat keys, `method#threshold`.
        params: method, labelled, seed, fold, steps, max_minutes, and what else `run.json` says; loss, as `loss_name`
            calls it.
        plan: `plan.yaml` by flat keys below `plan.yaml#`; empty where there is none.
        digest: of the files of the cases judged, "" where an older run does not say.
        training: names of the cases trained on, with and without label; None where an older run does not say.
        results: of the checkpoint and split asked for, by case.
        history: rows of `metrics.jsonl`.
        seconds: that it took.
        steps: that it did.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    plan: Mapping[str, Any]
    digest: str
    training: frozenset[str] | None
    results: Mapping[str, Sequence[ClassResult]]
    history: tuple[Mapping[str, Any], ...]
    seconds: float
    steps: int

    @property
    def method(self) -> str:
        """Its name."""
        return str(self.params.get("method", "unknown"))

    @property
    def loss(self) -> str:
        """Its name."""
        return str(self.params.get("loss", "unknown"))

    @property
    def labels(self) -> str:
        """The label budget: "9 labels"."""
        labelled = self.params.get("labelled")
        return f"{'all' if labelled is None else labelled} labels"


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The folders of finished runs among and directly below `paths`.

    Raises:
        InputError: a path is no folder, or holds no finished run.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if (path / "metrics.json").is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; expected the folder of a run, or one that holds runs")
        below = sorted(p.parent for p in path.glob("*/metrics.json"))
        if not below:
            raise InputError(f"{path}: no finished run there (no metrics.json); has its training ended?")
        found += below
    return list(dict.fromkeys(found))


def read_run(folder: str | os.PathLike[str], split: str = "validation", checkpoint: str = "last") -> RunRecord:
    """Reads a run's folder.

    Args:
        folder: with metrics.json and config.yaml.
        split: "validation"; or "test", which must have been judged (`test.json`; that is of `best`).
        checkpoint: "last", or "best", which the validation cases have chosen.

    Raises:
        InputError: a file is missing or not as medseg writes it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the folder of a run")
    metrics = _json(folder / "metrics.json", "has the run ended?")
    config = _config(folder / "config.yaml")
    run = _json(folder / RUN_FILE, "") if (folder / RUN_FILE).exists() else {}
    if split == "test":
        judged = _json(folder / "test.json", f"judge it: medseg evaluate {folder} --split test")
        cases, digest = judged.get("cases", 0), judged.get("data_digest", "")
    else:
        digest = run.get("params", {}).get("validation_digest", "")
        cases = metrics.get(split, {}).get(checkpoint, {}).get("cases", 0)
    try:
        results = read_results(cases)
    except (TypeError, KeyError, AttributeError) as error:
        where = "test.json" if split == "test" else f"metrics.json: checkpoint {checkpoint}"
        raise InputError(f"{folder}/{where}: no {split} cases there; was it written by another version?") from error
    parts = run.get("cases")
    training = frozenset(c["name"] for part in ("labelled", "unlabelled") for c in parts[part]) if parts else None
    return RunRecord(
        name=folder.resolve().name,
        folder=folder,
        config=flat(config),
        params=_params(config) | run.get("params", {}) | {"loss": loss_name(config.get("loss"))},
        plan=_plan(folder / "plan.yaml"),
        digest=str(digest),
        training=training,
        results=results,
        history=read_history(folder),
        seconds=float(metrics.get("seconds", 0)),
        steps=int(metrics.get("steps", 0)),
    )


def read_history(folder: str | os.PathLike[str]) -> tuple[Mapping[str, Any], ...]:
    """The rows of a run's `metrics.jsonl`; a last line that a kill tore is left out."""
    path = Path(folder) / "metrics.jsonl"
    if not path.exists():
        return ()
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return tuple(row for row in rows if isinstance(row, dict))


def _plan(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = _config(path)
    channels = content.get("channels")
    return flat({"plan.yaml": content | {"channels": dict(enumerate(channels if isinstance(channels, list) else ()))}})


def _params(config: Mapping[str, Any]) -> dict[str, Any]:
    """What older runs, which have no run.json, are known by."""
    known = {key: config.get(key) for key in ("labelled", "seed", "fold", "steps", "max_minutes")}
    method = config.get("method")
    known["method"] = short_name(method.get("_target_", "unknown")) if isinstance(method, Mapping) else "unknown"
    return known | {"data": Path(str(config.get("dataset_dir"))).name}


def _json(path: Path, hint: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {hint}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: a {type(found).__name__}, expected a mapping")
    return found


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable config ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a YAML mapping of config keys, found {type(found).__name__}")
    return found
