"""Every command explains itself with an example, and `doctor` says what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import typer

import medseg as package

Command = Callable[..., tuple[int, str, str]]


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


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_help_has_an_example(command: tuple[str, ...], medseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = medseg(*command, "--help")
    assert code == 0
    assert "Example:" in out
    assert f"medseg {' '.join(command)}" in out.partition("Example:")[2]


def test_names_of_overlays_are_in_the_help(medseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = medseg("train", "--help")
    for name in ("large, plain, small", "hippocampus, left_atrium", "compiled, cpu, cuda"):
        assert name in out


def test_commands_are_registered_once(medseg: Command) -> None:
    for _ in range(2):
        medseg("--version")
    assert len(_commands()) == len(set(_commands())) > 15


@pytest.mark.usefixtures("elsewhere")
def test_doctor_finds_nothing_wrong(medseg: Command) -> None:
    code, out, _ = medseg("doctor")
    assert code == 0
    for name in ("torch", "monai", "mlflow", "bf16", "MLflow store", "disk"):
        assert name in out
    assert "wrong" not in out


def test_doctor_names_a_store_that_does_not_answer(medseg: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, out, _ = medseg("doctor")
    assert code == 1
    assert "127.0.0.1:9" in out
    assert "MLFLOW_TRACKING_URI" in out


def test_version(medseg: Command) -> None:
    assert medseg("--version") == (0, f"medseg {package.__version__}\n", "")
