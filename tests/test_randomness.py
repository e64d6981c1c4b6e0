from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.randomness import generator, permutation, torch_generator

Key = tuple[int, int, int, str]
keys = st.tuples(
    st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 1000), st.sampled_from(["a", "b", "geometry"])
)


def legacy_state() -> str:
    return repr(np.random.get_state(legacy=False)["state"])  # noqa: NPY002  # it is what must not be used


def drawn(key: Key) -> list[float]:
    return generator(*key).random(4).tolist()


@given(keys, keys)
def test_draws_are_a_function_of_the_key_and_differ_between_keys(one: Key, other: Key) -> None:
    assert drawn(one) == drawn(one)
    assert (drawn(one) == drawn(other)) == (one == other)
    same = [torch.rand(4, generator=torch_generator(*one)) for _ in range(2)]
    assert torch.equal(*same)
    assert torch.equal(same[0], torch.rand(4, generator=torch_generator(*other))) == (one == other)


def test_small_keys_are_all_different() -> None:
    """No sum or other short cut of seed, step and sample."""
    found = {tuple(drawn((*key, purpose))) for key in itertools.product(range(4), repeat=3) for purpose in "ab"}
    assert len(found) == 2 * 4**3


@pytest.mark.parametrize("place", range(3))
def test_neighbours_do_not_share_draws(place: int) -> None:
    """Seeds, steps and samples next to each other are what a run uses: they must be unrelated."""
    values = []
    for i in range(300):
        key = [0, 0, 0]
        key[place] = i
        values.append(generator(*key, "x").random(50))
    array = np.array(values)
    assert len(np.unique(array)) == array.size
    assert abs(array.mean() - 0.5) < 0.01  # 15,000 uniform draws: the standard error is 0.0024
    between = np.corrcoef(array[:-1].ravel(), array[1:].ravel())[0, 1]
    assert abs(between) < 0.03


def test_another_process_draws_the_same() -> None:
    code = (
        "from medseg.randomness import generator, torch_generator; import torch;"
        "print(generator(1, 2, 3, 'x').random(), torch.rand(1, generator=torch_generator(1, 2, 3, 'x')).item())"
    )
    here = generator(1, 2, 3, "x").random(), torch.rand(1, generator=torch_generator(1, 2, 3, "x")).item()
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.split() == [str(value) for value in here]


def test_values_do_not_change_between_versions() -> None:
    """A change here changes every run of every seed: it must be meant."""
    assert generator(0, 0, 0, "x").integers(0, 10**6, 3).tolist() == [781340, 977871, 484850]
    assert permutation(0, 0, 6, "x").tolist() == [1, 2, 5, 3, 4, 0]


def test_global_random_state_is_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), legacy_state()
    torch.rand(2, generator=torch_generator(0, 0, 0, "x"))
    permutation(0, 0, 5, "x")
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert legacy_state() == numpy_state


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 60))
def test_permutations(seed: int, lap: int, length: int) -> None:
    order = permutation(seed, lap, length, "x")
    assert sorted(order) == list(range(length))
    assert np.array_equal(order, permutation(seed, lap, length, "x"))
    if length > 30:  # equal by chance once in 10^32
        assert not np.array_equal(order, permutation(seed, lap + 1, length, "x"))
        assert not np.array_equal(order, permutation(seed, lap, length, "y"))


def test_a_negative_seed_is_refused() -> None:
    for draw in (generator, torch_generator):
        with pytest.raises(InputError, match="seed is -1; expected 0 or a positive whole number"):
            draw(-1, 0, 0, "x")
