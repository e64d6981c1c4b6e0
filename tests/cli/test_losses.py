"""The list of losses, and what is said of each."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from medseg import losses as family
from medseg.cli.losses import losses
from medseg.errors import InputError
from medseg.losses.describe import describe
from medseg.report.configs import short_name
from medseg.share import overlay_folder

NAMES = [name for name in family.__all__ if name.endswith("Loss")]


def _run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(losses)
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_lists_every_loss_and_every_overlay() -> None:
    lines = [line.split()[0] for line in _run().splitlines() if line.strip()]
    assert {short_name(name) for name in NAMES} <= set(lines)
    assert {file.stem for file in (overlay_folder() / "loss").glob("*.yaml")} <= set(lines)


@pytest.mark.parametrize("name", NAMES)
def test_shows_formula_parameters_and_advice(name: str) -> None:
    output = " ".join(_run(name).split())
    loss = describe(getattr(family, name))
    assert {"Formula", "Errors", "Choose it"} <= set(loss.sections)
    if name not in ("CompoundLoss", "SampleRoutedLoss"):  # whose parts have sources
        assert "Source" in loss.sections
    for text in [loss.summary, *loss.sections.values()]:
        assert text in output
    for parameter in loss.parameters:
        assert parameter.meaning, f"{parameter.name} is not explained"
        assert parameter.name in output
    assert _run(short_name(name)) == _run(name)


@pytest.mark.parametrize("name", ["boundary", "adaptive"])
def test_shows_an_overlay_and_its_loss(name: str) -> None:
    output = _run(name)
    assert (overlay_folder() / "loss" / f"{name}.yaml").read_text().splitlines()[0] in output
    assert "medseg.losses.CompoundLoss" in output


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(InputError, match="'tverski'; did you mean 'tversky'"):
        _run("tverski")
