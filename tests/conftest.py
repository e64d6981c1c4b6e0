"""What many tests share: a cohort of tiny phantoms, one training run on it, the real volumes where they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# first calls of compiled code exceed any deadline, and CI must draw the same examples twice
settings.register_profile("medseg", deadline=None, derandomize=True)
settings.load_profile("medseg")


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """The folder of real volumes: MEDSEG_DATA, or ../shared/data; None where it is absent."""
    root = Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
    return root if root.is_dir() else None


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of 32x32x16 voxels: 2 labelled, 2 unlabelled, 1 validation, 1 test."""
    from medseg.data.phantoms import write_cohort

    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    write_cohort(folder, labelled=2, unlabelled=2, validation=1, test=1, shape=(32, 32, 16))
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps with the default method on `tiny_cohort`."""
    from medseg.cli.main import main

    folder = tmp_path_factory.mktemp("run")
    options = ["--data", tiny_cohort, "--network", "small", "--steps", 4, "--set", "val_interval=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["medseg", "train", *map(str, options), "--output", str(folder / "run")])
        patch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code in (0, None)
    return folder / "run"
