"""What many tests share: a cohort of tiny phantoms, one training run on it, the real volumes where they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

# first calls of compiled code exceed any deadline, and CI must draw the same examples twice
settings.register_profile("medseg", deadline=None, derandomize=True)
settings.load_profile("medseg")

if TYPE_CHECKING:
    from medseg.plan import Plan

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real volumes: MEDSEG_DATA, or ../shared/data; skips where it is absent."""
    root = Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
    if not root.is_dir():
        pytest.skip("no real volumes: set MEDSEG_DATA to their folder, or put them into ../shared/data")
    return root


@pytest.fixture(scope="session")
def small_plan() -> Callable[..., Plan]:
    """`small_plan(**fields)`: a valid plan of two stages of 4 and 8 channels and patches of 16x16x8 voxels, one
    channel normalised by z-score and two classes, unless fields say otherwise. `network` may be a mapping."""
    from medseg.plan import ChannelPlan, Plan

    def small_plan(**fields: Any) -> Plan:
        network = {"filters": (4, 8), "strides": ((1, 1, 1), (2, 2, 2)), "kernels": ((3, 3, 3),) * 2, "heads": 0}
        return Plan(
            **{
                "name": "small",
                "channels": (ChannelPlan(name="MRI", normalisation="zscore"),),
                "classes": {0: "background", 1: "organ"},
                "spacing": (1.0, 1.0, 1.0),
                "patch_size": (16, 16, 8),
                "batch_size": 2,
                **fields,
                "network": network | fields.get("network", {}),
            }
        )

    return small_plan


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
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(sys, "argv", ["medseg", "train", *map(str, options), "--output", str(folder / "run")])
        patch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code in (0, None)
    return folder / "run"


@pytest.fixture
def save_dicom() -> Callable[..., Path]:
    """Saves a series as DICOM: `save_dicom(folder, stored values (X, Y, Z))`, one file a slice, 0.5 x 0.75 mm, 2 mm
    apart, rescaled by `slope(z)` and -1000. `slices` are those written; `header` are attributes over the usual ones."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def save_dicom(
        folder: Path,
        array: np.ndarray,
        slices: Iterable[int] | None = None,
        slope: Callable[[int], float] = lambda z: 1.0,
        **header: object,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for z in range(array.shape[2]) if slices is None else slices:
            part = Dataset()
            part.file_meta = FileMetaDataset()
            part.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            part.SOPClassUID = part.file_meta.MediaStorageSOPClassUID = CTImageStorage
            part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{z + 1}"
            part.Modality, part.SeriesDescription = "CT", "abdomen"
            part.StudyInstanceUID, part.SeriesInstanceUID, part.InstanceNumber = "1.2.3", "1.2.3.4", z
            part.ImagePositionPatient = [10, 20, -5 + 2 * z]
            part.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            part.PixelSpacing = [0.75, 0.5]  # rows come first
            part.Columns, part.Rows = array.shape[:2]
            part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
            part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 16, 15, 1
            part.RescaleIntercept, part.RescaleSlope = -1000, slope(z)
            part.PixelData = array[:, :, z].T.astype("<i2").tobytes()
            for name, value in header.items():
                setattr(part, name, value)
            # names against the order of the slices
            part.save_as(folder / f"IM{99 - z:02}.dcm", enforce_file_format=True)
        return folder

    return save_dicom


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of the test's own, where the defaults write to `runs/` and no other store of runs is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def medseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`medseg("train", "--steps", 3)` gives exit code, standard output and standard error."""
    from medseg.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medseg", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run
