from __future__ import annotations

import numpy as np
import pytest

from medseg.inference.informative import Looked, _disagreement, rank_cases


def case(name: str, uncertainty: float, angle: float, disagreement: float = 0.0) -> Looked:
    return Looked(name, uncertainty, disagreement, np.array([np.cos(angle), np.sin(angle)]))


def test_doubt_decides_among_alike_cases_and_novelty_among_doubtful_ones() -> None:
    ranking = rank_cases([case("a", 1.0, 0.0), case("b", 3.0, 0.0), case("c", 2.0, 0.0)])
    assert [s.name for s in ranking] == ["b", "c", "a"]
    # twins of "b" come after what is different, though they are more in doubt
    ranking = rank_cases([case("b", 3.0, 0.0), case("twin", 2.9, 0.01), case("other", 1.0, 1.5)])
    assert [s.name for s in ranking] == ["b", "other", "twin"]
    assert ranking[1].novelty == pytest.approx(1 - np.cos(1.5))


def test_what_looks_like_a_labelled_case_comes_last() -> None:
    cases = [case("known", 9.0, 0.7), case("new", 1.0, 0.0)]
    ranking = rank_cases(cases, [np.array([np.cos(0.7), np.sin(0.7)])])
    assert [s.name for s in ranking] == ["new", "known"]
    assert ranking[1].score == pytest.approx(0, abs=1e-9)


def test_uncertainty_and_disagreement_count_alike() -> None:
    ranking = rank_cases([case("a", 1.0, 0.0, 0.3), case("b", 2.0, 0.0, 0.2), case("c", 3.0, 0.0, 0.1)])
    assert ranking[0].score == pytest.approx(2 / 3)
    # each is the first in one of the two: the mean of the ranks 1 / 2 and 1
    assert rank_cases([case("a", 1.0, 0.0, 0.2), case("b", 2.0, 1.5, 0.1)])[0].score == pytest.approx(3 / 4)
    assert rank_cases([]) == []


def test_disagreement_is_one_minus_the_mean_dice_of_what_either_finds() -> None:
    one = np.array([0, 1, 1, 2, 0, 0])
    other = np.array([0, 1, 0, 0, 0, 0])
    assert _disagreement(one, other) == pytest.approx(1 - (2 / 3 + 0) / 2)
    assert _disagreement(one, one) == 0
    assert _disagreement(one * 0, one * 0) == 0
