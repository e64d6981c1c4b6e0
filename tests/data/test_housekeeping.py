from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.data.entries import read_entry, write_entry
from medseg.data.housekeeping import cache_content, clear_cache

OLD, NEW, BROKEN = "a" * 32, "b" * 32, "c" * 32
DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An entry last used 40 days ago, a fresh one, remains of a broken process, and what is no part of a cache."""
    for key in (OLD, NEW):
        write_entry(tmp_path, key, {"images": np.zeros(250, np.float32)}, {})
    for path in tmp_path.glob(f"{OLD}*"):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    for name in (f"{BROKEN}.images.npy", f".01234567.tmp.{NEW}.images.npy"):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (0, 0))
    for name in ("thesis.docx", "model.npy", "digests.txt"):
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_cache_takes(folder: Path) -> None:
    found = cache_content(folder)
    assert found.entries == 2
    assert 2 * 1000 < found.size < 4000
    assert [round((time.time() - used) / DAY) for used in found.used] == [40, 0]
    assert cache_content(folder, 30 * DAY).entries == 1
    assert cache_content(folder / "absent").entries == 0


def test_old_entries_are_cleared_and_what_was_left_behind(folder: Path) -> None:
    assert clear_cache(folder, 30 * DAY).entries == 1
    left = {f"{NEW}.images.npy", f"{NEW}.record", "thesis.docx", "model.npy", "digests.txt"}
    assert names(folder) == left
    assert clear_cache(folder).entries == 1
    assert names(folder) == {"thesis.docx", "model.npy"}
    assert clear_cache(folder).entries == 0


def test_reading_an_entry_makes_it_young(folder: Path) -> None:
    assert read_entry(folder, OLD) is not None  # its checksum is looked at: the file is of another time than it says
    assert cache_content(folder, DAY).entries == 0
