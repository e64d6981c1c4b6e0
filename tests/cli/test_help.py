"""Every command explains itself with an example, and `doctor` says what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer


def _commands() -> list[tuple[str, ...]]:
    """All there are, as they are typed."""
    from medseg.cli.main import app, register

    def below(group: typer.Typer, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for command in group.registered_commands:
            assert command.callback is not None
            yield (*name, command.name or command.callback.__name__.replace("_", "-"))
        for further in group.registered_groups:
            assert further.typer_instance is not None
            yield from below(further.typer_instance, (*name, str(further.name)))

    register()
    return list(below(app))


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    from medseg.cli.main import main

    monkeypatch.setattr(sys, "argv", ["medseg", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_help_has_an_example(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert _run(monkeypatch, *command, "--help") == 0
    out = capsys.readouterr().out
    assert "Example:" in out
    assert f"medseg {' '.join(command)}" in out


def test_commands_are_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        _run(monkeypatch, "--version")
    assert len(_commands()) == len(set(_commands())) > 15


def test_doctor_finds_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert _run(monkeypatch, "doctor") == 0
    out = capsys.readouterr().out
    for name in ("torch", "monai", "mlflow", "bf16", "MLflow store", "disk"):
        assert name in out
    assert "wrong" not in out


def test_doctor_names_a_store_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert _run(monkeypatch, "doctor") == 1
    out = capsys.readouterr().out
    assert "127.0.0.1:9" in out
    assert "MLFLOW_TRACKING_URI" in out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import medseg

    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == f"medseg {medseg.__version__}"
