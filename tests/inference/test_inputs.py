"""What is named on the command line becomes cases, each under a name of its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.inference.dicom_tree import safe_name
from medseg.inference.inputs import find_inputs, unlabelled_cases


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["amos_0001", "PANCREAS_0012"], ["PANCREAS_0012", "amos_0001"]),
        (["liver_0000", "spleen_0000"], ["liver", "spleen"]),  # nnU-Net's names
        (["case_0000", "case_0001", "case_0002"], ["case_0000", "case_0001", "case_0002"]),
        (["a", "a_0000"], ["a", "a_0000"]),
        (["2021", "_0000", "a_00000"], ["2021", "_0000", "a_00000"]),
    ],
)
def test_one_channel_keeps_the_numbers_of_cases(files: list[str], names: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / f"{name}.nii.gz").touch()
    found = find_inputs([tmp_path], 1)
    assert sorted(case.name for case in found.cases) == sorted(names)
    assert not found.problems
    assert all(len(case.images) == 1 for case in found.cases)


def test_several_channels_are_numbered(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000"):
        (tmp_path / f"{name}.nii.gz").touch()
    found = find_inputs([tmp_path], 2)
    assert [case.name for case in found.cases] == ["a"]
    assert "case b has channel files [0]" in found.problems["b"]


def test_one_name_twice_is_a_problem_of_the_second(tmp_path: Path) -> None:
    for name in ("x/a", "y/a", "y/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    found = find_inputs([tmp_path / "x", tmp_path / "y", tmp_path / "x" / "a.nii.gz"], 1)
    assert [case.images[0] for case in found.cases] == [tmp_path / "x/a.nii.gz", tmp_path / "y/b.nii.gz"]
    (problem,) = found.problems.values()
    assert problem.startswith(f"{tmp_path}/y/a.nii.gz: the same case name as {tmp_path}/x/a.nii.gz")


def test_folders_that_cannot_be_read_are_named(
    save_dicom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed", "open"):
        save_dicom(tmp_path / "tree" / name, np.zeros((3, 3, 2), np.int16))
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)  # root may read everything
    found = find_inputs([tmp_path / "tree"], 1)
    assert [case.name for case in found.cases] == ["open"]
    said = f"{tmp_path}/tree/closed: a folder that cannot be read (Permission denied)"
    assert [problem.split(";")[0] for problem in found.problems.values()] == [said]
    monkeypatch.setattr(Path, "iterdir", lambda path: refused(path))
    with pytest.raises(InputError, match="closed: a folder that cannot be read"):
        find_inputs([tmp_path / "tree" / "closed"], 1)


def test_long_names_stay_apart(save_dicom: Any, tmp_path: Path) -> None:
    """As TCIA's archives are laid out: what tells series apart comes last."""
    study = f"PAT_0003/1.3.6.1.4.1.14519.5.2.1.{'7' * 40}/1.3.6.1.4.1.14519.5.2.1.{'8' * 38}"
    array = np.zeros((3, 3, 2), np.int16)
    for number in (1, 2):
        save_dicom(tmp_path / "tree" / f"{study}{number}", array)
    found = find_inputs([tmp_path / "tree"], 1)
    assert not found.problems
    assert len({case.name for case in found.cases}) == 2
    assert all(case.name.startswith("PAT_0003_1.3.6") and len(case.name) <= 100 for case in found.cases)
    assert len(safe_name("\u00e4" * 300).encode()) <= 100
    assert safe_name("\u00e4" * 300) != safe_name("\u00e4" * 301)
    assert safe_name("a" * 100) == "a" * 100


def test_unlabelled_cases_of_several_channels(tmp_path: Path) -> None:
    for name in ("images/a_0000", "images/a_0001", "images/b_0000", "images/b_0001", "labels/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    (case,) = unlabelled_cases(tmp_path, ["CT", "PET"]).cases
    assert (case.name, [path.name for path in case.images]) == ("b", ["b_0000.nii.gz", "b_0001.nii.gz"])
    with pytest.raises(InputError, match=r"case a has 2 image file\(s\), but there are 3 modalities"):
        unlabelled_cases(tmp_path, ["T1", "T2", "FLAIR"])
    for path in tmp_path.glob("images/*_0001*"):
        path.unlink()
    (case,) = (c for c in unlabelled_cases(tmp_path, ["T1", "T2"]).cases if c.name.startswith("b"))
    assert case.stacked  # one file that holds all channels
