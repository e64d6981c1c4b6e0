from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest

from medseg.data import digests
from medseg.data.digests import DigestIndex, file_digest
from medseg.errors import InputError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has read nothing yet, and a clock that runs ahead: files need not be let settle."""
    monkeypatch.setattr(digests, "_known", {})
    monkeypatch.setattr(digests.time, "time_ns", lambda: 2 * time.clock_gettime_ns(time.CLOCK_REALTIME))


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda *_: pytest.fail("read again"))


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").hex().startswith("ba7816bf")  # SHA-256 of abc, FIPS 180-2
    with pytest.raises(InputError, match=r"gone: not readable \(No such file or directory\); restore it"):
        file_digest(tmp_path / "gone")
    with pytest.raises(InputError, match="a folder without DICOM images"):
        file_digest(tmp_path)


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, index = tmp_path / "a", tmp_path / "digests.txt"
    path.write_bytes(b"abc")
    expected = file_digest(path)
    DigestIndex(index).keep()
    monkeypatch.setattr(digests, "_known", {})  # the next process
    DigestIndex(index)
    with monkeypatch.context() as patch:
        refuse_reading(patch)
        assert file_digest(path) == expected
    changed = file_digest_after_disguise(path)
    assert changed != expected


def file_digest_after_disguise(path: Path) -> bytes:
    """Of other content of the same size, its time of writing set back."""
    before = path.stat()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    return file_digest(path)


def test_what_was_written_a_moment_ago_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests.time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME))
    (tmp_path / "a").write_bytes(b"abc")
    file_digest(tmp_path / "a")
    assert not digests._known


def test_damaged_lines_count_for_nothing(tmp_path: Path) -> None:
    index = tmp_path / "digests.txt"
    for name in "ab":
        (tmp_path / name).write_text(name)
        file_digest(tmp_path / name)
    kept = DigestIndex(index)
    kept.keep()
    kept.keep()  # nothing new: nothing written
    lines = [line for line in index.read_bytes().splitlines() if line]
    assert len(lines) == 2
    index.write_bytes(lines[0][:-1] + b"0\n" + b"\xff junk\n" + lines[1][:30] + b"\n\n" + lines[1] + b"\n")
    digests._known.clear()
    DigestIndex(index)
    assert len(digests._known) == 1


def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    file_digest(tmp_path / "a")
    DigestIndex(tmp_path / "absent" / "digests.txt").keep()
    assert not (tmp_path / "absent").exists()


def test_what_is_sent_to_another_process_twice_is_written_once(tmp_path: Path) -> None:
    """As preparation by several processes does it: with every case comes the index."""
    index = tmp_path / "digests.txt"
    sent = pickle.dumps(DigestIndex(index))
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
        file_digest(tmp_path / name)
        pickle.loads(sent).keep()
    assert len(index.read_text().replace("\n\n", "\n").strip().split("\n")) == 3
