from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from medseg.cli.evaluate import evaluate
from medseg.errors import InputError

runner = CliRunner()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    for name in ("a", "b"):
        labels = np.zeros((8, 8, 8), dtype=np.uint8)
        labels[2:6, 2:6, 2:6] = 1
        _write(tmp_path / "ref" / f"{name}.nii", labels)
        _write(tmp_path / "pred" / f"{name}.nii.gz", labels if name == "a" else labels * 0)
    return str(tmp_path / "pred"), str(tmp_path / "ref")


def _write(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), path)


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(evaluate)
    return runner.invoke(app, list(arguments))


def test_prints_each_case_and_the_summary(folders: tuple[str, str]) -> None:
    result = _run(*folders, "--classes", "1=[b]liver")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["a", "[b]liver", "1.000", "0.00", "0.064", "0.064"] in lines
    assert ["b", "[b]liver", "0.000", "13.86", "0.064", "0", "missed"] in lines
    assert ["mean", "0.500", "6.93", "2/2", "1"] in lines
    assert result.stderr == ""


def test_long_names_stay_whole_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "hospital_of_a_town_" * 5 + "1"
    for folder in ("pred", "ref"):
        _write(tmp_path / folder / f"{name}.nii", np.ones((4, 4, 4), dtype=np.uint8))
    result = _run(str(tmp_path / "pred"), str(tmp_path / "ref"))
    assert result.exit_code == 0, result.output
    assert next(line.split()[0] for line in result.stdout.splitlines() if "hospital" in line) == name


def test_writes_json_and_csv(folders: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    more = [tmp_path / "deep" / "x.json", tmp_path / "y.csv"]
    result = _run(*folders, "--output", str(out), "--json", str(more[0]), "--csv", str(more[1]))
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.csv", "evaluation.json"]
    assert json.loads((out / "evaluation.json").read_text())["summary"]["dice"]["mean"] == 0.5
    assert more[0].read_text() == (out / "evaluation.json").read_text()
    assert more[1].read_text() == (out / "evaluation.csv").read_text()


def test_warns_of_what_was_not_judged(folders: tuple[str, str]) -> None:
    labels = np.full((8, 8, 8), 4, dtype=np.uint8)
    _write(Path(folders[0]) / "extra.nii", labels)
    _write(Path(folders[0]) / "b.nii.gz", labels)
    result = _run(*folders, "--classes", "1=liver")
    assert result.exit_code == 0, result.output
    assert "no reference, so not judged: extra" in " ".join(result.stderr.split())
    assert "were not judged: 4" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{pred}", "{tmp}/nowhere"), "no such file or folder"),
        (("{ref}/a.nii", "{ref}"), "two files or two folders"),
        (("{pred}", "{ref}", "--classes", "liver"), "--classes"),
        (("{pred}", "{ref}", "--output", "{ref}/a.nii"), "not a writable folder"),
        (("{pred}", "{ref}", "--json", "{ref}/a.nii/x.json"), "not a writable folder"),
    ],
)
def test_bad_input(folders: tuple[str, str], tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    pred, ref = folders
    result = _run(*(text.format(pred=pred, ref=ref, tmp=tmp_path) for text in arguments))
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_an_unreadable_prediction_leaves_no_output(folders: tuple[str, str], tmp_path: Path) -> None:
    (Path(folders[0]) / "b.nii.gz").write_bytes(b"not a volume")
    result = _run(*folders, "--output", str(tmp_path / "out"))
    assert isinstance(result.exception, InputError)
    assert "b.nii.gz" in str(result.exception)
    assert not list(tmp_path.glob("out/*"))
