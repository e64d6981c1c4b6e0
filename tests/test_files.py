from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.files import make_folder, write_text, writing

needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    with writing(path) as temporary:
        assert temporary.parent == tmp_path  # a rename within one file system
        assert temporary.name.endswith(".nii.gz")  # writers go by the suffix
        assert temporary.name.startswith(".")  # readers of folders pass over it
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_goes_wrong_inside_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "earlier")

    def write() -> None:
        with writing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_may_replace_the_temporary_file(tmp_path: Path) -> None:
    with writing(tmp_path / "a") as temporary:
        temporary.unlink()
        temporary.write_text("again")
    assert (tmp_path / "a").read_text() == "again"


def test_who_reads_the_earlier_file_goes_on_reading_it(tmp_path: Path) -> None:
    """A rename, not a copy: no reader sees a half."""
    write_text(tmp_path / "a", "earlier")
    with (tmp_path / "a").open() as reader:
        write_text(tmp_path / "a", "later")
        assert reader.read() == "earlier"


def test_text_is_utf8_and_replaces(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "long text")
    write_text(str(tmp_path / "a"), "größer")
    assert (tmp_path / "a").read_bytes() == "größer".encode()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "")
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_many_threads_leave_the_umask_as_it_was(tmp_path: Path) -> None:
    """The cache writes from threads, and the umask belongs to the process."""
    before, interval = os.umask(0o027), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda i=i: [write_text(tmp_path / f"{i}_{j}", "x") for j in range(30)])
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        assert os.umask(before) == 0o027
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_one_of_many_writers_wins_whole(tmp_path: Path) -> None:
    texts = [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_text() in texts
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none/a: cannot be written \(No such file or directory\); choose another"):
        write_text(tmp_path / "none" / "a", "x")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"a: cannot be written \(Is a directory\)"):
        write_text(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_names_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        write_text(tmp_path / ("x" * 300), "x")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the write fails in the same way, in a process of its own."""
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from medseg.errors import InputError; from medseg.files import write_text;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "write_text(sys.argv[1], 'x' * 100); print('small', flush=True);"
        "write_text(sys.argv[1], 'x' * 5000)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
    assert ended.stdout == "small\n"
    assert "InputError" in ended.stderr
    assert "a: cannot be written (File too large); free space or choose another output folder" in ended.stderr
    assert (tmp_path / "a").read_text() == "x" * 100
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@needs_permissions
def test_folders_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_text(tmp_path / "a", "x")
    with pytest.raises(InputError, match="not a writable folder"):
        make_folder(tmp_path)


def test_make_folder(tmp_path: Path) -> None:
    folder = make_folder(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert folder.is_dir()
    assert make_folder(folder) == folder
    assert list(folder.iterdir()) == []
    (folder / "file").touch()
    for path in (folder / "file", folder / "file" / "below"):
        with pytest.raises(InputError, match=r"not a writable folder .* choose another one"):
            make_folder(path)
