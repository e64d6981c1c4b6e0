"""Two processes train as one would on the joint batch, with every method there is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_method_contracts import METHODS
from two_processes import PLACES, losses_of


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two_processes.py found on each of two processes; one start for all tests."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)]
    started = [
        subprocess.Popen(
            command, env=os.environ | group | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in "01"
    ]
    try:
        for process in started:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", METHODS)
def test_losses_are_those_of_one_process_on_the_joint_batch(name: str, place: int, two: list[dict[str, Any]]) -> None:
    alone = losses_of(name, place)
    for found in two:
        for step, (ours, theirs) in enumerate(zip(alone, found["losses"][f"{name} {place}"], strict=True)):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert theirs[key] == pytest.approx(value, rel=1e-5, abs=1e-5), (step, key)
    assert len({row["loss"] for row in alone}) == len(alone), "each step has a batch of its own"


def test_a_gradient_that_one_process_lacks_counts_as_0(two: list[dict[str, Any]]) -> None:
    assert [found["missing"] for found in two] == [[[1.0, 2.0], [1.0, 2.0], None, 1.5]] * 2


def test_an_error_of_one_process_ends_all(two: list[dict[str, Any]]) -> None:
    assert [found["failing"] for found in two] == ["another one has ended", "case_7: torn"]


def test_a_row_is_the_same_over_a_resume(two: list[dict[str, Any]]) -> None:
    for found in two:
        unbroken, resumed = found["rows"]
        assert unbroken == resumed == {"loss": 7.5, "only here": 5.0}


def test_a_step_is_blamed_on_the_process_whose_loss_it_was(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert "not finite: loss, loss/labelled, gradient_norm; their cases: case_1;" in found["blamed"]


def test_processes_share_and_agree(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["shares"] == [[0, 2, 4], [1, 3]]
        assert found["interleaved"] == list("abcde")
        assert (found["largest"], found["first"], found["even"]) == (3, 0, [2, 2, 4])
