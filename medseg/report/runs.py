"""Runs read from their folders: how they were set, what they found, how they got there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.data.runfile import RUN_FILE
from medseg.errors import InputError
from medseg.metrics.report import ClassResult, read_results

__all__ = ["RunRecord", "find_runs", "read_history", "read_run"]


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        name: the folder's.
        folder: of the run.
        config: the composed config by flat keys, `method#threshold`.
        params: method, loss, labelled, seed, fold, steps, max_minutes, and what else `run.json` says.
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
    training: frozenset[str] | None
    results: Mapping[str, Sequence[ClassResult]]
    history: tuple[Mapping[str, Any], ...]
    seconds: float
    steps: int


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
    metrics = _json(folder / "metrics.json", "has the run ended?")
    config = _config(folder / "config.yaml")
    run = _json(folder / RUN_FILE, "") if (folder / RUN_FILE).exists() else {}
    if split == "test":
        cases = _json(folder / "test.json", f"judge it: medseg evaluate {folder} --split test").get("cases", 0)
    else:
        cases = metrics.get(split, {}).get(checkpoint, {}).get("cases", 0)
    try:
        results = read_results(cases)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / 'metrics.json'}: no {split} cases of checkpoint {checkpoint} there") from error
    parts = run.get("cases")
    training = frozenset(c["name"] for part in ("labelled", "unlabelled") for c in parts[part]) if parts else None
    return RunRecord(
        name=folder.resolve().name,
        folder=folder,
        config=flat(config),
        params=_params(config) | run.get("params", {}),
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


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by `#`, as overrides are written."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}#{key}" if prefix else str(key))
    return found


def _params(config: Mapping[str, Any]) -> dict[str, Any]:
    """What older runs, which have no run.json, are known by."""
    known = {key: config.get(key) for key in ("labelled", "seed", "fold", "steps", "max_minutes")}
    for part in ("method", "loss"):
        target = config.get(part, {}).get("_target_", "unknown") if isinstance(config.get(part), Mapping) else "unknown"
        known[part] = _short(target.rpartition(".")[2])
    return known | {"data": Path(str(config.get("dataset_dir"))).name}


def _short(name: str) -> str:
    """`DiceCELoss` is "dice_ce", as overlays are named."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removesuffix("Loss")).lower()


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
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable config ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a YAML mapping of config keys, found {type(found).__name__}")
    return found
