from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.data import load_cohort
from medseg.errors import InputError


def test_cases_with_a_corrected_label_are_labelled(tiny_cohort: Path, tmp_path: Path) -> None:
    before = load_cohort(tiny_cohort, labelled=1)
    name = before.unlabelled[0].name
    shutil.copy(tiny_cohort / "labelsTr" / f"{name}.nii.gz", tmp_path / f"{name}.NII.gz")
    (tmp_path / f"._{name}.nii.gz").touch()  # macOS leaves such
    after = load_cohort(tiny_cohort, labelled=1, corrected=tmp_path)
    assert [case.name for case in after.labelled] == [before.labelled[0].name, name]
    assert after.labelled[1].label == tmp_path / f"{name}.NII.gz"
    assert [case.name for case in after.unlabelled] == [case.name for case in before.unlabelled[1:]]
    assert all(case.label is None for case in after.unlabelled)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, cohort: None, "no label there; expected NAME.nii.gz"),
        (lambda folder, cohort: (folder / "nobody.nii.gz").touch(), "nobody is no unlabelled training case"),
        (lambda folder, cohort: (folder / f"{cohort.labelled[0].name}.mha").touch(), "is no unlabelled training case"),
        (
            lambda folder, cohort: [(folder / f"{cohort.unlabelled[0].name}{s}").touch() for s in (".mha", ".nii.gz")],
            "a second label of case",
        ),
        (lambda folder, cohort: folder.rmdir(), "no folder of labels"),
    ],
)
def test_wrong_folders(make: Callable[..., object], message: str, tiny_cohort: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    make(folder, load_cohort(tiny_cohort, labelled=1))
    with pytest.raises(InputError, match=message):
        load_cohort(tiny_cohort, labelled=1, corrected=folder)
