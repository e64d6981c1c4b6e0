from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.draw import fill, units
from medseg.data.draw_splits import draw_splits
from medseg.data.listing import Listing, Part
from medseg.errors import InputError

LABEL = Path("label.nii.gz")


def listing(cases: list[Case], parts: dict[str, Part] | None = None) -> Listing:
    return Listing("d", ("CT",), None, tuple(cases), Path("d"), Path("d/cases.csv"), parts=parts or {})


def made(*groups: str | None, unlabelled: int = 0) -> list[Case]:
    """Labelled cases of these groups and unlabelled ones of none."""
    cases = [Case(f"c{i:02}", (), LABEL, group=group) for i, group in enumerate(groups)]
    return cases + [Case(f"u{i}", (), None) for i in range(unlabelled)]


def check_division(cases: list[Case], division: dict[str, list[str]]) -> None:
    """No case twice, no group in two parts, only labelled cases judge."""
    named = [name for names in division.values() for name in names]
    assert len(named) == len(set(named))
    by_name = {case.name: case for case in cases}
    homes: dict[str, set[str]] = {}
    for part, names in division.items():
        assert names == sorted(names)
        for name in names:
            if by_name[name].group is not None:
                homes.setdefault(by_name[name].group, set()).add(part)
            assert part == "train" or by_name[name].label
    assert all(len(parts) == 1 for parts in homes.values())


@settings(max_examples=60)
@given(
    groups=st.lists(st.tuples(st.sampled_from([None, None, *"abcdefgh"]), st.booleans()), min_size=6, max_size=40),
    seed=st.integers(0, 2**31),
    validation=st.sampled_from([0.2, 0.4, 1, 2]),
    test=st.sampled_from([0, 0.2, 2]),
    folds=st.sampled_from([0, 2, 3]),
    budgets=st.sets(st.integers(1, 6), max_size=3),
)
def test_parts_folds_and_budgets_never_overlap(
    groups: list[tuple[str | None, bool]], seed: int, validation: float, test: float, folds: int, budgets: set[int]
) -> None:
    cases = [Case(f"c{i}", (), LABEL if labelled else None, group=group) for i, (group, labelled) in enumerate(groups)]

    def draw(cases: list[Case]) -> dict[str, Any]:
        return draw_splits(listing(cases), validation, test, folds, sorted(budgets), seed)

    try:
        found = draw(cases)
    except InputError:  # too few cases or groups; what is refused is tested below
        reject()  # not counted among the examples
    check_division(cases, {part: found[part] for part in ("train", "validation", "test")})
    assert found["train"]
    assert found["validation"]
    by_name = {case.name: case for case in cases}
    # a case is left out only because it has no label and its patient judges
    left = {case.name for case in cases} - {name for part in ("train", "validation", "test") for name in found[part]}
    assert all(by_name[name].label is None and by_name[name].group is not None for name in left)
    inner: set[str] = set()
    for budget, names in sorted(found.get("labelled", {}).items(), key=lambda entry: int(entry[0])):
        assert len(names) == int(budget)
        assert inner <= set(names) <= {name for name in found["train"] if by_name[name].label}
        inner = set(names)
        outside = {c.group for c in cases if c.label and c.name in found["train"] and c.name not in inner} - {None}
        assert not outside & {by_name[name].group for name in names}
    assert len(found.get("folds", [])) == folds
    for fold in found.get("folds", []):
        check_division(cases, {**fold, "test": found["test"]})
        assert fold["train"]
    if folds:
        validated = [name for fold in found["folds"] for name in fold["validation"]]
        judged = {case.name for case in cases if case.label} - set(found["test"])
        assert sorted(validated) == sorted(
            judged - {c.name for c in cases if c.group in _groups(found["test"], by_name)}
        )
    assert draw(cases[::-1]) == found


def _groups(names: list[str], by_name: dict[str, Case]) -> set[str]:
    return {by_name[name].group or "" for name in names}


def test_shares_and_numbers() -> None:
    cases = made(*[None] * 20, unlabelled=5)
    found = draw_splits(listing(cases), validation=0.25, test=4, folds=4, budgets=[3, 9], seed=1)
    assert [len(found[part]) for part in ("train", "validation", "test")] == [17, 4, 4]
    assert [len(fold["validation"]) for fold in found["folds"]] == [4, 4, 4, 4]
    assert all({f"u{i}" for i in range(5)} <= set(fold["train"]) for fold in found["folds"])
    assert {budget: len(names) for budget, names in found["labelled"].items()} == {"3": 3, "9": 9}
    assert found != draw_splits(listing(cases), validation=0.25, test=4, folds=4, budgets=[3, 9], seed=2)
    assert list(draw_splits(listing(cases))) == ["train", "validation", "test"]


def test_parts_of_the_table_stay() -> None:
    cases = made(*[None] * 10)
    parts: dict[str, Part] = {"c00": "test", "c01": "validation", "c02": "train"}
    found = draw_splits(listing(cases, parts), folds=3)
    assert (found["test"], found["validation"]) == (["c00"], ["c01"])
    assert len(found["train"]) == 8
    assert all("c00" not in fold["train"] + fold["validation"] for fold in found["folds"])
    del parts["c00"]
    for seed in range(10):
        assert "c02" in draw_splits(listing(cases, parts), test=6, seed=seed)["train"]


def test_an_unlabelled_image_of_a_patient_who_tests_does_not_train() -> None:
    cases = [*made("a", None, None, None), Case("u", (), None, group="a")]
    found = draw_splits(listing(cases, {"c00": "test"}), folds=2)
    assert all("u" not in part["train"] for part in (found, *found["folds"]))


def test_folds_are_equal_where_groups_allow() -> None:
    cases = made(*"abcd", *"eeee")
    for seed in range(5):
        folds = draw_splits(listing(cases), validation=1, folds=2, seed=seed)["folds"]
        assert [len(fold["validation"]) for fold in folds] == [4, 4]


def test_budgets_are_exact_where_groups_allow() -> None:
    cases = made("a", "a", "b", "b", "b", None, "c", "c", "d")
    found = draw_splits(listing(cases), validation=1, budgets=[3, 5, 8], seed=0)
    assert {len(names) for names in found["labelled"].values()} == {3, 5, 8}


@pytest.mark.parametrize(
    ("groups", "options", "text"),
    [
        ("aabbcc", {"validation": 2, "budgets": [3]}, "a budget of 3 would tear a group apart; ask for 2 or 4, or"),
        ("aabbcc", {"validation": 2, "budgets": [1]}, "a budget of 1 would tear a group apart; ask for 2, or"),
        ("aabbcc", {"validation": 1}, "1 cases asked for in validation, but the smallest group has 2"),
        ("abcdef", {"validation": 6}, "6 cases asked for in validation, but there are 6 with labels"),
        ("abcdef", {"validation": 3, "test": 4}, "3 cases asked for in validation, but there are 2 with labels"),
        ("abcdef", {"validation": 2, "budgets": [5]}, "a budget of 5 asked for, expected 1 to 4"),
        ("abcdef", {"folds": 7}, "7 folds asked for, expected 2 to 6"),
        ("aabbcc", {"folds": 4, "validation": 2}, "4 folds asked for, expected 2 to 3"),
        ("aabbcc", {"folds": 1, "validation": 2}, "1 folds asked for"),
    ],
)
def test_what_cannot_be_drawn(groups: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        draw_splits(listing(made(*groups)), **options)


def test_a_group_that_the_table_tears_is_refused() -> None:
    with pytest.raises(InputError, match="group a is in test and in train"):
        draw_splits(listing(made("a", "a", "b", "c"), {"c00": "test", "c01": "train"}))
    with pytest.raises(InputError, match="case c01 is of group a, of which another case is in validation or test"):
        draw_splits(listing(made("a", "a", "b", "c"), {"c00": "test"}))


@given(sizes=st.lists(st.integers(0, 4), max_size=12), count=st.integers(0, 20))
def test_fill_comes_as_near_as_any_choice(sizes: list[int], count: int) -> None:
    ordered = [
        tuple(Case(f"{i}{j}", (), LABEL) for j in range(size)) or (Case(f"{i}", (), None),)
        for i, size in enumerate(sizes)
    ]
    reachable = {0}
    for size in sizes:
        reachable |= {total + size for total in reachable}
    found = fill(ordered, count)
    assert sum(case.label is not None for unit in found for case in unit) == max(t for t in reachable if t <= count)
    assert len({unit[0].name for unit in found}) == len(found)


def test_units_are_groups_and_single_cases() -> None:
    cases = [Case("b", (), None, group="x"), Case("x", (), None), Case("a", (), None, group="x"), Case("c", (), None)]
    assert [[case.name for case in unit] for unit in units(cases)] == [["a", "b"], ["c"], ["x"]]
