"""Which cases train, validate and test, and whose labels may be read: from splits.json, or drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.description import read_json
from medseg.data.draw import fill, labelled_in, shuffled, units
from medseg.data.listing import Fold, Listing
from medseg.errors import InputError, nearest

__all__ = ["Split", "choose_labelled", "list_folds", "split_cases", "torn_groups"]

_KEYS = ("train", "validation", "test", "labelled", "folds")


@dataclass(frozen=True)
class Split:
    """The cases of each part with their labels, and the lists of label budgets in splits.json."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    budgets: Mapping[int, tuple[str, ...]]
    source: Path


def split_cases(listing: Listing, seed: int, fold: int | None = None) -> Split:
    """The split that splits.json gives; else the listing's own; else a drawn one.

    Drawn: 20 % of the cases that have labels, at least 1 and at most 20, validate, groups whole; no case tests. The
    draw is a function of the seed and the names of the cases.

    Args:
        listing: the cases.
        seed: of what is drawn.
        fold: train and validate by this fold of splits.json (or of the listing), counted from 0, instead; test cases
            stay what they are.

    Raises:
        InputError: splits.json is broken, names unknown cases, one case twice or a case without label to
            validate or test, or contradicts the listing; there are fewer than two labelled cases to draw from; there is
            no such fold.
    """
    path = listing.folder / "splits.json"
    split = _read_split(path, listing) if path.is_file() else None
    if fold is None:
        return split or _drawn(listing, seed)
    folds = list_folds(listing)
    if not folds:
        raise InputError(f"{path}: there are no folds, so no fold {fold}; draw them with `medseg data split --folds K`")
    if not 0 <= fold < len(folds):
        raise InputError(f"{path}: there is no fold {fold}; expected one of 0 to {len(folds) - 1}")
    known = {case.name: case for case in listing.cases}
    train, validation = ([known[name] for name in names] for names in (folds[fold].train, folds[fold].validation))
    test = split.test if split else tuple(case for case in listing.cases if listing.parts.get(case.name) == "test")
    return Split(tuple(train), tuple(validation), test, {}, path)


def list_folds(listing: Listing) -> tuple[Fold, ...]:
    """The folds of splits.json, else those of the listing, checked; empty where there are none.

    Raises:
        InputError: a fold names unknown cases, a case twice, a test case, or a case without label to validate.
    """
    path = listing.folder / "splits.json"
    content = read_json(path) if path.is_file() else {}
    known = {case.name: case for case in listing.cases}
    test = {name for name, part in listing.parts.items() if part == "test"}
    test |= set(_names(path, "test", content.get("test", []), known))
    rows: list[tuple[Any, Any]]
    if "folds" not in content:
        rows = [(list(fold.train), list(fold.validation)) for fold in listing.folds]
        path = listing.folder / "splits_final.json"
        path = path if path.is_file() else listing.source
    else:
        if not isinstance(content["folds"], list) or not all(isinstance(fold, dict) for fold in content["folds"]):
            raise InputError(f'{path}: "folds" is not a list of {{"train": [...], "validation": [...]}}; correct it')
        rows = [(fold.get("train"), fold.get("validation")) for fold in content["folds"]]
    for number, parts in enumerate(rows):
        seen: dict[str, str] = dict.fromkeys(test, "test")
        for key, names in zip(("train", "validation"), parts, strict=True):
            what = f"fold {number} {key}"
            if not _names(path, what, names, known):
                raise InputError(f'{path}: "{what}" is empty; name at least one case there')
            _refuse_again(path, names, what, seen)
        _refuse_unlabelled(path, [known[name] for name in parts[1]], f"fold {number} validation")
    return tuple(Fold(tuple(train), tuple(validation)) for train, validation in rows)


def choose_labelled(split: Split, labelled: int | str, seed: int) -> set[str]:
    """The names of the training cases whose labels may be read.

    Args:
        split: the split of the cases.
        labelled: "all", or how many: the list of that budget where splits.json has one, else the first that
            many of a drawn order, so that a smaller budget is part of a larger one of the same seed. Groups stay whole.
        seed: of the draw.

    Raises:
        InputError: `labelled` is neither, more than there are, or would tear a group apart.
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
    # a prefix of one order, so that budgets asked for in separate runs are nested
    chosen: list[str] = []
    for unit in shuffled(units(case for case in split.train if case.label), seed, "budget"):
        if len(chosen) == count:
            break
        if len(chosen) + len(unit) > count:
            near = " or ".join(str(number) for number in (len(chosen), len(chosen) + len(unit)) if number)
            raise InputError(
                f"{split.source}: {count} labelled cases asked for, which would tear group {unit[0].group} apart; ask"
                f" for {near} cases, or draw lists with `medseg data split --budgets {count}`"
            )
        chosen += [case.name for case in unit]
    return set(chosen)


def torn_groups(parts: Mapping[str, Iterable[Case]]) -> dict[str, dict[str, list[str]]]:
    """The groups that have cases in more than one part: by group and part the names of their cases."""
    groups: dict[str, dict[str, list[str]]] = {}
    for part, cases in parts.items():
        for case in cases:
            if case.group is not None:
                groups.setdefault(case.group, {}).setdefault(part, []).append(case.name)
    return {group: found for group, found in groups.items() if len(found) > 1}


def _drawn(listing: Listing, seed: int) -> Split:
    def fixed(part: str) -> tuple[Case, ...]:
        return tuple(case for case in listing.cases if listing.parts.get(case.name) == part)

    test, validation = fixed("test"), fixed("validation")
    rest = [case for case in listing.cases if listing.parts.get(case.name) not in ("validation", "test")]
    if not validation:
        labelled = [case for case in rest if case.label]
        if len(labelled) < 2:
            raise InputError(
                f"{listing.folder}: {len(labelled)} of {len(rest)} cases have labels, expected at least 2 (one"
                " trains, one validates); add label maps named like the images"
            )
        count = min(max(round(0.2 * len(labelled)), 1), 20)
        ordered = shuffled(units(labelled), seed, "validation")
        # where the smallest group is larger than that, it is the one
        chosen = fill(ordered, count) or [min(ordered, key=labelled_in)]
        if sum(map(len, chosen)) == len(labelled):
            raise InputError(
                f"{listing.source}: all {len(labelled)} labelled cases are of group {labelled[0].group}, expected at"
                " least two groups (one trains, one validates)"
            )
        drawn = {case.name for unit in chosen for case in unit}
        validation = tuple(case for case in rest if case.name in drawn)
    outside = {case.name for case in validation}
    groups = {case.group for case in (*validation, *test)} - {None}
    # an image of a patient who validates may not train, labelled or not
    train = tuple(case for case in rest if case.name not in outside and (case.label or case.group not in groups))
    if not train:
        raise InputError(f"{listing.source}: no case is left to train; move some from validation or test")
    return Split(train, validation, test, {}, listing.source)


def _read_split(path: Path, listing: Listing) -> Split:
    content = read_json(path)
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key {key!r}{nearest(key, _KEYS)}; expected {', '.join(_KEYS)}")
    known = {case.name: case for case in listing.cases}
    parts: dict[str, tuple[Case, ...]] = {}
    seen: dict[str, str] = {}
    for key in ("train", "validation", "test"):
        names = _names(path, key, content.get(key, [] if key == "test" else None), known)
        _refuse_again(path, names, key, seen)
        for name in names:
            if listing.parts.get(name, key) != key:
                raise InputError(
                    f"{path}: case {name} is in {key}, but {listing.source} puts it into {listing.parts[name]}; correct"
                    " one of them"
                )
        parts[key] = tuple(known[name] for name in names)
    for key in ("train", "validation"):
        if not parts[key]:
            raise InputError(f'{path}: "{key}" is empty; name at least one case there')
    for key in ("validation", "test"):
        _refuse_unlabelled(path, parts[key], key)
    budgets = _budgets(path, content.get("labelled", {}), {case.name: case for case in parts["train"]})
    return Split(parts["train"], parts["validation"], parts["test"], budgets, path)


def _refuse_again(path: Path, names: Iterable[str], key: str, seen: dict[str, str]) -> None:
    for name in names:
        if name in seen:
            raise InputError(f"{path}: case {name} is in {seen[name]} and again in {key}; keep it in one of them")
        seen[name] = key


def _refuse_unlabelled(path: Path, cases: Iterable[Case], key: str) -> None:
    for case in cases:
        if case.label is None:
            raise InputError(f"{path}: case {case.name} in {key} has no label; add it or move it to train")


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
