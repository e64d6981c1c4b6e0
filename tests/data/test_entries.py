from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.data.entries import one_at_a_time, read_entry, write_entry
from medseg.data.stored import Stored


def test_an_entry_reads_back_equal(tmp_path: Path) -> None:
    arrays = {"images": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), "none": np.empty((0, 3), np.int32)}
    about = {"origin": [1, 2, 3], "name": "µ"}
    write_entry(tmp_path, "k", arrays, about)
    entry = read_entry(tmp_path, "k")
    assert entry is not None
    assert entry.about == about
    for kind, array in arrays.items():
        found = entry.arrays[kind].mapped() if array.size else np.empty(entry.arrays[kind].shape, np.int32)
        assert np.array_equal(found, array)
        assert np.array_equal(np.load(entry.arrays[kind].path), array)  # any program can read it
    assert read_entry(tmp_path, "other") is None


def test_a_file_that_shrinks_while_it_is_used_is_an_error_and_no_crash(tmp_path: Path) -> None:
    write_entry(tmp_path, "k", {"images": np.zeros((4, 4, 4), np.float32)}, {})
    entry = read_entry(tmp_path, "k")
    assert entry is not None
    file = entry.arrays["images"]
    with file.path.open("r+b") as handle:
        handle.truncate(200)
    with pytest.raises(OSError, match="shorter than it was"):
        Stored(file).box((0, 0, 0), (1, 1, 1))


def _hold(folder: Path, log: Path) -> None:
    with one_at_a_time(folder, "k"):
        with log.open("a") as file:
            file.write("in ")
        time.sleep(0.05)
        with log.open("a") as file:
            file.write("out ")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_one_process_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_hold, args=(tmp_path, log)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text().split() == ["in", "out"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
