from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.data.case import Case, load_case
from medseg.data.cohort import Cohort, load_cohort
from medseg.data.layouts import list_cases
from medseg.data.listing import Listing
from medseg.data.splits import choose_labelled, list_folds, split_cases
from medseg.data.volume import read_geometry
from medseg.errors import InputError


@pytest.fixture
def plain(tmp_path: Path, save) -> Path:
    """Images a-h, of which a-f have labels."""
    for name in "abcdefgh":
        save(tmp_path / "images" / f"{name}.nii.gz")
    for name in "abcdef":
        save(tmp_path / "labels" / f"{name}.nii.gz", [0, 1, 2], np.uint8)
    return tmp_path


def listing(folder: Path, cases: list[Case]) -> Listing:
    return Listing("d", ("CT",), None, tuple(cases), folder, folder)


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def write_splits(folder: Path, **splits: Any) -> Path:
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def test_a_drawn_split_covers_each_case_once(plain: Path) -> None:
    cohort = load_cohort(plain, seed=3)
    assert len(cohort.validation) == 1
    assert len(cohort.labelled) == 5
    assert names(cohort.unlabelled) == ["g", "h"]
    assert cohort.test == ()
    assert sorted(names(cohort.labelled + cohort.unlabelled + cohort.validation)) == list("abcdefgh")
    assert cohort.classes == {0: "background", 1: "class 1", 2: "class 2"}
    assert load_cohort(plain, seed=3) == cohort
    assert len({load_cohort(plain, seed=seed).validation for seed in range(10)}) > 1


def test_unlabelled_cases_know_no_label(plain: Path) -> None:
    cohort = load_cohort(plain, labelled=2)
    assert len(cohort.labelled) == 2
    assert len(cohort.unlabelled) == 5
    assert all(case.label is None for case in cohort.unlabelled)
    assert all(case.label is not None for case in cohort.labelled + cohort.validation)


def test_labels_outside_the_budget_are_not_opened(plain: Path) -> None:
    write_splits(plain, train=list("abcdfgh"), validation=["e"], labelled={"2": ["a", "b"]})
    for name in "cdf":
        (plain / "labels" / f"{name}.nii.gz").write_bytes(b"no volume")
    cohort = load_cohort(plain, labelled=2)
    assert cohort.classes == {0: "background", 1: "class 1", 2: "class 2"}
    for case in cohort.labelled + cohort.unlabelled + cohort.validation:
        load_case(case, cohort.classes)
    with pytest.raises(InputError, match="not readable"):
        load_cohort(plain)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 150), unlabelled=st.integers(0, 5), seed=st.integers(0, 2**32), data=st.data())
def test_drawn_budgets_are_nested_and_apart_from_validation(
    tmp_path: Path, count: int, unlabelled: int, seed: int, data: st.DataObject
) -> None:
    label = Path("label.nii.gz")
    cases = [Case(f"{i}", (), label if i < count else None) for i in range(count + unlabelled)]
    split = split_cases(listing(tmp_path, cases), seed)
    assert len(split.validation) == min(max(round(0.2 * count), 1), 20)
    assert {*split.train} | {*split.validation} == {*cases}
    assert not {*split.train} & {*split.validation}
    assert all(case.label for case in split.validation)
    everything = choose_labelled(split, "all", seed)
    assert everything == {case.name for case in split.train if case.label}
    large = data.draw(st.integers(1, len(everything)))
    small = data.draw(st.integers(1, large))
    assert choose_labelled(split, small, seed) <= choose_labelled(split, str(large), seed) <= everything
    assert len(choose_labelled(split, small, seed)) == small
    shuffled = split_cases(listing(tmp_path, cases[::-1]), seed)
    assert set(shuffled.validation) == set(split.validation)
    assert choose_labelled(shuffled, small, seed) == choose_labelled(split, small, seed)


def test_splits_json_rules(plain: Path) -> None:
    write_splits(plain, train=list("abcg"), validation=["e"], test=["f"], labelled={"1": ["b"], "2": ["b", "c"]})
    for budget, expected in {1: ["b"], "2": ["b", "c"], 3: ["a", "b", "c"], "all": ["a", "b", "c"]}.items():
        cohort = load_cohort(plain, labelled=budget)
        assert names(cohort.labelled) == expected
        assert sorted(names(cohort.labelled + cohort.unlabelled)) == list("abcg")
        assert (names(cohort.validation), names(cohort.test)) == (["e"], ["f"])


@pytest.mark.parametrize(
    ("labelled", "text"),
    [
        (4, "4 labelled cases asked for, but 3 of the 4 training cases have labels; ask for at most 3"),
        (0, "expected 'all' or a number of cases from 1 to 3"),
        (-1, "expected 'all'"),
        ("some", "labelled is 'some', expected 'all'"),
    ],
)
def test_budgets_that_cannot_be_had(plain: Path, labelled: int | str, text: str) -> None:
    write_splits(plain, train=list("abcg"), validation=["e"])
    with pytest.raises(InputError, match=text):
        load_cohort(plain, labelled=labelled)


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ({"train": ["a", "x"], "validation": ["b"]}, "names 'x', which is no case there"),
        ({"train": ["a", "b"], "validation": ["b"]}, "case b is in train and again in validation"),
        ({"train": ["a", "a"], "validation": ["b"]}, "case a is in train and again in train"),
        ({"train": ["a"], "validation": []}, '"validation" is empty'),
        ({"train": ["a"]}, '"validation" is None, expected a list'),
        ({"train": ["a"], "validation": ["g"]}, "case g in validation has no label"),
        ({"train": ["a"], "validation": ["b"], "test": ["h"]}, "case h in test has no label"),
        ({"train": ["a"], "validation": ["b"], "valid": ["c"]}, "unknown key 'valid'; did you mean"),
        ({"train": ["a"], "validation": ["b"], "labelled": {"1": ["b"]}}, "labelled 1.* names 'b'"),
        ({"train": ["a", "c"], "validation": ["b"], "labelled": {"2": ["a"]}}, "names 1 cases, expected 2"),
        ({"train": ["a", "g"], "validation": ["b"], "labelled": {"1": ["g"]}}, "g, which has no label"),
        ({"train": ["a"], "validation": ["b"], "labelled": ["a"]}, '"labelled" is'),
        ({"train": ["g", "h"], "validation": ["b"]}, "none of the 2 training cases has a label"),
        ([["a"], ["b"]], "a list, expected a mapping"),
    ],
)
def test_splits_that_are_broken(plain: Path, splits: Any, text: str) -> None:
    (plain / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(InputError, match=text) as error:
        load_cohort(plain)
    assert "splits.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_too_few_labels_to_draw_from(tmp_path: Path, save) -> None:
    for name in "abc":
        save(tmp_path / "images" / f"{name}.nii.gz")
    save(tmp_path / "labels/a.nii.gz")
    with pytest.raises(InputError, match="1 of 3 cases have labels, expected at least 2"):
        load_cohort(tmp_path)


def test_label_values_with_gaps_are_refused(plain: Path, save) -> None:
    for name in "abcdef":
        save(plain / "labels" / f"{name}.nii.gz", [0, 255], np.uint8)
    with pytest.raises(InputError, match=r"label values 0, 255 found .255 in .*gz., expected 0 \(background\), 1, 2"):
        load_cohort(plain)


def test_a_listed_label_that_is_missing(plain: Path) -> None:
    entries = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in "abch"]
    content = {
        "labels": {"0": "background", "1": "a", "2": "b"},
        "modality": {"0": "CT"},
        "training": entries,
    }
    (plain / "dataset.json").write_text(json.dumps(content))
    write_splits(plain, train=["a", "b", "h"], validation=["c"], labelled={"1": ["a"]})
    assert names(load_cohort(plain, labelled=1).unlabelled) == ["b", "h"]
    with pytest.raises(InputError, match=r"labels/h\.nii\.gz: no such file, but[^;]*case h; restore"):
        load_cohort(plain)
    (plain / "images/a.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"images/a\.nii\.gz: no such file[^;]*case a, and 1 more are missing; restore"
    ):
        load_cohort(plain)


def test_training_cases_that_cannot_be_read(plain: Path) -> None:
    write_splits(plain, train=list("abg"), validation=["c"], labelled={"1": ["a"]})
    (plain / "images/a.nii.gz").write_bytes(b"no volume")
    (plain / "images/g.nii.gz").unlink()
    (plain / "images/g.nii.gz").symlink_to("absent")
    with pytest.raises(InputError, match=r"g\.nii\.gz: no such file, but .* lists it as an image of case g"):
        load_cohort(plain)
    cohort = load_cohort(plain, skip_bad=True)
    assert (names(cohort.labelled), cohort.unlabelled) == (["b"], ())
    with pytest.raises(InputError, match="none of the 1 labelled cases can be read"):
        load_cohort(plain, labelled=1, skip_bad=True)


@pytest.mark.parametrize(
    ("folder", "budget", "counts", "channels"),
    [
        ("hippocampus", 9, (9, 175, 24), ("MRI",)),
        ("left_atrium", 8, (8, 64, 8), ("LGE MRI",)),
        ("sarcoma_ct_pet", 4, (4, 30, 6), ("CT", "PET")),
    ],
)
def test_real_cohorts(
    real_data: Path, folder: str, budget: int, counts: tuple[int, ...], channels: tuple[str, ...]
) -> None:
    cohort: Cohort = load_cohort(real_data / folder, labelled=budget)
    assert (len(cohort.labelled), len(cohort.unlabelled), len(cohort.validation)) == counts
    assert cohort.channels == channels
    images, labels, geometry = load_case(cohort.labelled[0], cohort.classes)
    assert labels is not None
    assert images.shape == (len(channels), *labels.shape)
    assert set(np.unique(labels)) == set(cohort.classes)
    assert geometry.difference(read_geometry(cohort.labelled[0].images[-1])) is None


FOLDS = [{"train": list("abcg"), "validation": ["d"]}, {"train": list("bcdg"), "validation": ["a"]}]


def test_a_fold_has_its_own_cases_and_draws_its_own_budget(plain: Path) -> None:
    write_splits(plain, train=list("abcg"), validation=["d"], test=["f"], labelled={"2": ["a", "b"]}, folds=FOLDS)
    assert names(load_cohort(plain, labelled=2).labelled) == ["a", "b"]
    cohort = load_cohort(plain, fold=1)
    assert names(cohort.labelled) == list("bcd")
    assert names(cohort.unlabelled) == ["g"]
    assert (names(cohort.validation), names(cohort.test)) == (["a"], ["f"])
    small, large = (set(names(load_cohort(plain, labelled=n, fold=1, seed=4).labelled)) for n in (1, 2))
    assert small < large < set("bcd")


@pytest.mark.parametrize(
    ("folds", "text"),
    [
        (FOLDS, r"there is no fold 5; expected one of 0 to 1"),
        (None, "draw them with `medseg data split --folds K`"),
        ([{"train": ["a"], "validation": ["a"]}] * 6, "case a is in fold 0 train and again in fold 0 validation"),
        ([{"train": ["a"], "validation": ["f"]}] * 6, "case f is in test and again in fold 0 validation"),
        ([{"train": ["a"], "validation": ["g"]}] * 6, "case g in fold 0 validation has no label"),
        ([{"train": ["a"], "validation": []}] * 6, "fold 0 validation.* is empty"),
        ([{"train": ["a"]}] * 6, "fold 0 validation.* expected a list"),
        ([["a"]], '"folds" is not a list of'),
    ],
)
def test_folds_that_are_broken(plain: Path, folds: Any, text: str) -> None:
    write_splits(plain, train=list("abcg"), validation=["d"], test=["f"], **({"folds": folds} if folds else {}))
    with pytest.raises(InputError, match=text):
        load_cohort(plain, fold=5)


def test_folds_beside_test_cases_that_are_no_list(plain: Path) -> None:
    write_splits(plain, train=["a"], validation=["d"], test=5, folds=[{"train": ["a"], "validation": ["d"]}])
    with pytest.raises(InputError, match='"test" is 5, expected a list of case names'):
        list_folds(list_cases(plain))
