"""Fetching from a local server, which may fail; nothing leaves this machine."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli.data import app
from medseg.data.fetch import FetchError, fetch_task, task_name
from medseg.data.layouts import list_cases
from medseg.errors import InputError

NAME = "Task04_Hippocampus"


class Server(ThreadingHTTPServer):
    content = b""
    sent: int | None = None  # bytes after which the connection breaks
    status = 200
    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.sent])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, save, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the archive of a task of two cases."""
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content = archive(tmp_path / "made", save)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive(folder: Path, save, modality: dict[str, str] | None = None) -> bytes:
    training = []
    for name in "ab":
        shape = (4, 3, 2, len(modality)) if modality else (4, 3, 2)
        save(folder / f"imagesTr/{name}.nii.gz", range(48), shape=shape)
        save(folder / f"labelsTr/{name}.nii.gz", [0, 1], np.uint8)
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    content = {"labels": {"0": "background", "1": "a"}, "modality": modality or {"0": "MRI"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(content))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(folder, NAME)
    return file.getvalue()


def fetch(server: Server, folder: Path, md5: str | None = None) -> Path:
    address = f"http://127.0.0.1:{server.server_port}/{NAME}.tar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai.apps.DecathlonDataset.md5", {NAME: md5 or hashlib.md5(server.content).hexdigest()})
        return fetch_task(NAME, folder, address)


def test_a_task_arrives_whole_and_once(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = fetch(server, tmp_path / "data")
    assert folder == tmp_path / "data" / NAME
    assert [case.name for case in list_cases(folder).cases] == ["a", "b"]
    assert os.listdir(tmp_path / "data") == [NAME]
    assert server.requests == 1
    assert fetch(server, tmp_path / "data") == folder
    assert server.requests == 1
    assert capfd.readouterr() == ("", "")


def test_a_broken_connection_leaves_nothing_and_may_be_repeated(server: Server, tmp_path: Path) -> None:
    server.sent = 1000
    with pytest.raises(FetchError, match=r"not downloaded .*only 1000 out of") as error:
        fetch(server, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path / "data") == []
    server.sent = None
    assert fetch(server, tmp_path / "data").is_dir()


def test_a_server_that_has_no_such_file_or_is_not_there(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(FetchError, match="HTTP Error 404"):
        fetch(server, tmp_path / "data")
    with pytest.raises(FetchError, match=r"not downloaded .*refused"):
        fetch_task(NAME, tmp_path / "data", "http://127.0.0.1:9/x.tar")
    assert os.listdir(tmp_path / "data") == []


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"not the published archive .its MD5 sum is not 0000"):
        fetch(server, tmp_path / "data", md5="0000")
    assert os.listdir(tmp_path / "data") == []


def test_an_archive_that_is_there_is_used_if_it_is_the_right_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar").write_bytes(server.content)
    with pytest.raises(InputError, match=r"Task04_Hippocampus\.tar: not the published archive"):
        fetch(server, tmp_path, md5="0000")
    assert fetch(server, tmp_path).is_dir()
    assert server.requests == 0
    assert (tmp_path / f"{NAME}.tar").is_file()


@pytest.mark.parametrize("where", ["urlretrieve", "shutil.copyfileobj"])
def test_a_full_disk(where: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Any, target: Any, *_: Any, **__: Any) -> None:
        with open(target, "wb") if isinstance(target, str | Path) else target as file:
            file.write(b"the first bytes")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(f"monai.apps.utils.{where}", full)
        with pytest.raises(InputError, match=r"cannot be written .No space left on device.; free space") as error:
            fetch(server, tmp_path / "data")
    assert "\n" not in str(error.value)
    # the whole archive is worth keeping, half a data set is not
    assert os.listdir(tmp_path / "data") == ([] if where == "urlretrieve" else [f"{NAME}.tar"])
    requests = server.requests
    assert fetch(server, tmp_path / "data").is_dir()
    assert server.requests == requests + (where == "urlretrieve")


@pytest.mark.parametrize("member", ["../../escaped", "/tmp/escaped", f"{NAME}/link"])
def test_an_archive_that_reaches_outside_is_refused(member: str, server: Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(member)
        if member.endswith("link"):
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    server.content = file.getvalue()
    with pytest.raises(InputError, match="no safe archive"):
        fetch(server, tmp_path / "data")
    assert os.listdir(tmp_path / "data") == []
    assert not (tmp_path / "escaped").exists()


def test_an_archive_that_lacks_a_file_is_refused(server: Server, tmp_path: Path, save) -> None:
    folder = tmp_path / "lacking"
    archive(folder, save)
    (folder / "labelsTr/b.nii.gz").unlink()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(folder, NAME)
    server.content = file.getvalue()
    with pytest.raises(InputError, match=r"labelsTr/b\.nii\.gz is missing in it"):
        fetch(server, tmp_path / "data")
    assert os.listdir(tmp_path / "data") == []


def test_images_of_four_axes_become_one_file_a_channel(server: Server, tmp_path: Path, save) -> None:
    server.content = archive(tmp_path / "channels", save, {"0": "T2", "1": "ADC"})
    folder = fetch(server, tmp_path / "data")
    listing = list_cases(folder)
    assert listing.channels == ("T2", "ADC")
    assert [path.name for path in listing.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [
        f"{name}_000{i}.nii.gz" for name in "ab" for i in (0, 1)
    ]
    second = nib.load(listing.cases[0].images[1])
    np.testing.assert_array_equal(second.get_fdata().ravel(), np.arange(1, 48, 2))
    assert second.affine[2, 2] == 3


def test_what_a_killed_run_left_is_removed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    (tmp_path / f".{NAME}.here.{2**22 + 1}.x").mkdir()  # above the largest process id
    (tmp_path / f".{NAME}.here.{os.getpid()}.y").mkdir()
    fetch(server, tmp_path)
    hidden = {name for name in os.listdir(tmp_path) if name.startswith(".")}
    assert hidden == {f".{NAME}.here.{os.getpid()}.y"}


@pytest.mark.parametrize("name", ["Task04_Hippocampus", "task04", "hippocampus", "Hippocampus"])
def test_names(name: str) -> None:
    assert task_name(name) == NAME


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean 'hippocampus'\?; expected one of Task01_BrainTumour"):
        task_name("hipocampus")


def test_the_command_shows_the_licence_and_asks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monai.apps.DecathlonDataset.md5", {NAME: hashlib.md5(server.content).hexdigest()})
    words = ["fetch", "hippocampus", "--url", f"http://127.0.0.1:{server.server_port}/x.tar", "--output", str(tmp_path)]
    asked = CliRunner().invoke(app, words)
    assert isinstance(asked.exception, InputError)
    assert "give --accept-licence" in str(asked.exception)
    assert "CC BY-SA 4.0" in asked.output
    assert not (tmp_path / NAME).exists()
    server.sent = 5
    broken = CliRunner().invoke(app, [*words, "--accept-licence"])
    assert broken.exit_code == 1
    assert broken.stderr.splitlines()[1].startswith("Error: http://127.0.0.1")
    server.sent = None
    done = CliRunner().invoke(app, [*words, "--accept-licence"])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{tmp_path / NAME}: complete; look at it with `medseg data check")
