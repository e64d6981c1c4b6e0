"""Stores of runs: where the default one is, how it is made, what is said of broken ones, and how runs are found."""

from __future__ import annotations

import os
from collections import UserList
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medseg.errors import InputError
from medseg.tracking import Tracker, annotate, default_uri, list_runs, store_problem
from medseg.tracking.store import make_local


def test_a_store_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.db import utils

    def stopped(_: Any) -> None:
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path / 'mlruns.db'}"

    tracker = Tracker(tmp_path, "first", uri)
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", stopped)
        with pytest.raises(KeyboardInterrupt):
            tracker.start({})
    assert tracker.finish("KILLED") == ""
    assert not list(tmp_path.glob("*mlruns.db*"))
    assert not list(tmp_path.glob(".*"))


def test_whatever_a_store_raises_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"no database" * 99)
    for uri, said in (
        (f"sqlite:///{tmp_path / 'no.db'}", "file is not a database"),
        ("mssql+absent://a@127.0.0.1:9/b", "absent"),  # a driver that is not installed
    ):
        for call in (
            list_runs,
            lambda uri: annotate(uri, "1", {"a": "b"}),
            lambda uri: Tracker(tmp_path, uri=uri).start({}),
        ):
            with pytest.raises(InputError, match=said) as refused:
                call(uri)
            assert "\n" not in str(refused.value)


def test_all_runs_of_a_large_store_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store gives no more than it is asked for, and says where to go on."""
    runs = [
        SimpleNamespace(
            info=SimpleNamespace(run_id=f"{i:04}", run_name="", experiment_id="1", status="FINISHED", start_time=0,
                                 end_time=1, artifact_uri=""),
            data=SimpleNamespace(params={}, metrics={}, tags={"medseg.sweep": "a"} if i % 2 else {}),
        )
        for i in range(3000)
    ]  # fmt: skip

    class Client:
        def __init__(self, uri: str) -> None:
            self.experiments = [SimpleNamespace(experiment_id="1", name="a")]

        def search_experiments(self) -> list[Any]:
            return self.experiments

        def search_runs(self, _: Any, wanted: str, max_results: int, page_token: str | None) -> Any:
            begin = int(page_token or 0)
            page: Any = UserList(runs[begin : begin + max_results])
            page.token = str(begin + max_results) if begin + max_results < len(runs) else None
            return page

    monkeypatch.setattr("mlflow.MlflowClient", Client)
    assert [run.id for run in list_runs("http://store")] == [run.info.run_id for run in runs[::2]]
    assert [run.id for run in list_runs("http://store", most=3)] == ["0000", "0002", "0004"]
    assert [run.id for run in list_runs("http://store", ids=["2999"])] == ["2999"]


def test_the_default_store_is_one_for_all_runs_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == f"sqlite:///{tmp_path / 'runs' / 'mlruns.db'}"
    assert store_problem() == (default_uri(), "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert default_uri() == "http://tracking"


def test_a_store_is_made_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    uri = f"sqlite:///{tmp_path / 'mlruns.db'}"
    make_local(uri)
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns.db"]
    assert list_runs(uri) == []
