"""`medseg suggest`, and its corrected labels back in training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest

from medseg.data.runfile import read_run_file

Command = Callable[..., tuple[int, str, str]]


def test_suggestions_are_ranked_and_their_labels_go_back_in(
    medseg: Command, tiny_run: Path, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = read_run_file(tiny_run)
    unlabelled = {case.name: case for case in record.cases["unlabelled"]}
    code, out, err = medseg("suggest", tiny_run, "--output", "next", "--count", 1)
    assert (code, err) == (0, "")
    with open("next/suggestions.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == set(unlabelled)
    assert [int(row["rank"]) for row in rows] == list(range(1, len(unlabelled) + 1))
    first = rows[0]["case"]
    assert out.splitlines()[1].split() == ["rank", "case", "score", "uncertainty", "disagreement", "novelty"]
    shown = dict(zip(("rank", "case", "score"), out.splitlines()[2].split(), strict=False))
    assert shown == {"rank": "1", "case": first, "score": f"{float(rows[0]['score']):.3f}"}
    assert [path.name for path in Path("next/labels").iterdir()] == [f"{first}.nii.gz"]
    label, image = nib.load(f"next/labels/{first}.nii.gz"), nib.load(unlabelled[first].images[0])
    assert label.shape == image.shape
    assert (label.affine == image.affine).all()

    code, _, err = medseg("suggest", tiny_run, "--output", "next")
    assert code == 2
    assert "may hold corrections" in err

    budget = ("--data", tiny_cohort, "--labelled", record.params["labelled"], "--method", "supervised")
    code, out, err = medseg("train", *budget, "--corrected", "next/labels", "--dry-run", "--network", "small")
    assert code == 0, err
    assert f"{len(record.cases['labelled']) + 1} labelled" in out
