"""Which cases train, validate and test, and whose labels may be read: from splits.json, or drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.decathlon import read_json
from medseg.errors import InputError, nearest
from medseg.randomness import permutation

__all__ = ["Split", "choose_labelled", "split_cases"]

_KEYS = ("train", "validation", "test", "labelled")


@dataclass(frozen=True)
class Split:
    """The cases of each part with their labels, and the lists of label budgets in splits.json."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    budgets: Mapping[int, tuple[str, ...]]
    source: Path


def split_cases(data_dir: Path, cases: Sequence[Case], seed: int) -> Split:
    """The split that splits.json gives; else a drawn one.

    Drawn: 20 % of the cases that have labels, at least 1 and at most 20, validate; no case tests. The draw
    is a function of the seed and the names of the cases.

    Raises:
        InputError: splits.json is broken, names unknown cases, one case twice or a case without label to
            validate or test; there are fewer than two labelled cases to draw from.
    """
    path = data_dir / "splits.json"
    if path.is_file():
        return _read_split(path, cases)
    labelled = sorted(case.name for case in cases if case.label)
    if len(labelled) < 2:
        raise InputError(
            f"{data_dir}: {len(labelled)} of {len(cases)} cases have labels, expected at least 2 (one"
            " trains, one validates); add label maps named like the images"
        )
    count = min(max(round(0.2 * len(labelled)), 1), 20)
    chosen = {labelled[i] for i in permutation(seed, 0, len(labelled), "validation")[:count]}
    train = tuple(case for case in cases if case.name not in chosen)
    return Split(train, tuple(case for case in cases if case.name in chosen), (), {}, data_dir)


def choose_labelled(split: Split, labelled: int | str, seed: int) -> set[str]:
    """The names of the training cases whose labels may be read.

    Args:
        split: the split of the cases.
        labelled: "all", or how many: the list of that budget where splits.json has one, else the first that
            many of a drawn order, so that a smaller budget is part of a larger one of the same seed.
        seed: of the draw.

    Raises:
        InputError: `labelled` is neither, or more than there are.
    """
    names = sorted(case.name for case in split.train if case.label)
    if labelled == "all":
        if not names:
            raise InputError(f"{split.source}: none of the {len(split.train)} training cases has a label; add some")
        return set(names)
    if not str(labelled).isdecimal() or int(labelled) < 1:
        raise InputError(f"labelled is {labelled!r}, expected 'all' or a number of cases from 1 to {len(names)}")
    count = int(labelled)
    if count in split.budgets:
        return set(split.budgets[count])
    if count > len(names):
        raise InputError(
            f"{split.source}: {count} labelled cases asked for, but {len(names)} of the {len(split.train)}"
            f" training cases have labels; ask for at most {len(names)}, or 'all'"
        )
    return {names[i] for i in permutation(seed, 0, len(names), "budget")[:count]}


def _read_split(path: Path, cases: Sequence[Case]) -> Split:
    content = read_json(path)
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key {key!r}{nearest(key, _KEYS)}; expected {', '.join(_KEYS)}")
    known = {case.name: case for case in cases}
    parts: dict[str, tuple[Case, ...]] = {}
    seen: dict[str, str] = {}
    for key in ("train", "validation", "test"):
        names = _names(path, key, content.get(key, [] if key == "test" else None), known)
        for name in names:
            if name in seen:
                raise InputError(f"{path}: case {name} is in {seen[name]} and again in {key}; keep it in one of them")
            seen[name] = key
        parts[key] = tuple(known[name] for name in names)
    for key in ("train", "validation"):
        if not parts[key]:
            raise InputError(f'{path}: "{key}" is empty; name at least one case there')
    for case in (*parts["validation"], *parts["test"]):
        if case.label is None:
            raise InputError(f"{path}: case {case.name} in {seen[case.name]} has no label; add it or move it to train")
    budgets = _budgets(path, content.get("labelled", {}), {case.name: case for case in parts["train"]})
    return Split(parts["train"], parts["validation"], parts["test"], budgets, path)


def _names(path: Path, key: str, value: Any, known: Iterable[str]) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f'{path}: "{key}" is {value!r:.60}, expected a list of case names ["a", "b"]')
    known = set(known)
    for name in value:
        if name not in known:
            raise InputError(f'{path}: "{key}" names {name!r}, which is no case there{nearest(name, known)}')
    return value


def _budgets(path: Path, value: Any, train: Mapping[str, Case]) -> dict[int, tuple[str, ...]]:
    if not isinstance(value, dict) or not all(str(count).isdecimal() for count in value):
        raise InputError(f'{path}: "labelled" is {value!r:.60}, expected {{"4": ["a", "b", "c", "d"]}}')
    budgets = {}
    for count, names in value.items():
        _names(path, f"labelled {count}", names, train)
        if len(set(names)) != int(count):
            raise InputError(f'{path}: "labelled" {count} names {len(set(names))} cases, expected {count}')
        for name in names:
            if train[name].label is None:
                raise InputError(f'{path}: "labelled" {count} names {name}, which has no label; add or replace it')
        budgets[int(count)] = tuple(names)
    return budgets
