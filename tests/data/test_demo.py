from __future__ import annotations

from pathlib import Path

import pytest

from medseg.data import demo_cohort, load_cohort
from medseg.errors import InputError


def test_the_default_cohort_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = demo_cohort()
    assert folder == "runs/phantoms"
    cohort = load_cohort(folder)
    # 4 labelled, 12 unlabelled, 4 validation and 4 test cases: what the README says
    parts = (cohort.labelled, cohort.unlabelled, cohort.validation, cohort.test)
    assert [len(part) for part in parts] == [4, 12, 4, 4]
    before = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}
    assert demo_cohort() == folder
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")} == before


def test_another_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scan.nii.gz").touch()
    with pytest.raises(InputError, match="exists and holds no phantoms"):
        demo_cohort(tmp_path / "mine")
