"""The files of a prediction: segmentation, record and, where asked for, probabilities and uncertainty, each whole."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Case
from medseg.data.digests import file_digest
from medseg.data.geometry import Geometry
from medseg.data.volume import suffix_of, write_segmentation
from medseg.errors import InputError
from medseg.files import write_text, writing
from medseg.inference.dicom_tree import source
from medseg.inference.findings import Findings
from medseg.inference.reduce import PROBABILITY_STEP
from medseg.inference.volumes import Prediction, VolumeItem

__all__ = ["Outputs"]

SegWriter = Callable[[Path, NDArray[Any], VolumeItem], None]


@dataclass(frozen=True)
class Outputs:
    """Where the files of each case go, and whether they are there already.

    Beside `NAME.nii.gz` stands the record `NAME.json`. It is written first, saying that the case is not finished, and
    once more when all else is there: so what a killed process leaves is known, and done again.

    Args:
        folder: of all files; exists.
        model: the digest of the model.
        settings: further words for what changes the result, such as mirroring.
        suffix: of segmentations; None keeps the input's format (DICOM series become NIfTI).
        probabilities, uncertainty: whether these are written too.
        dicom_seg: writes a DICOM segmentation of a prediction as `NAME.dcm`; None writes none.
    """

    folder: Path
    model: str
    settings: tuple[str, ...] = ()
    suffix: str | None = ".nii.gz"
    probabilities: bool = False
    uncertainty: bool = False
    dicom_seg: SegWriter | None = None

    def segmentation(self, case: Case) -> Path:
        """The segmentation's file."""
        return self.folder / f"{case.name}{self.suffix or suffix_of(case.images[0].name) or '.nii.gz'}"

    def files(self, case: Case) -> list[Path]:
        """All files of a case but the record."""
        return [
            self.segmentation(case),
            *([self._beside(case.name, "probabilities")] if self.probabilities else []),
            *([self._beside(case.name, "uncertainty")] if self.uncertainty else []),
            *([self.folder / f"{case.name}.dcm"] if self.dicom_seg else []),
        ]

    def wanted(self, case: Case, overwrite: bool = False) -> bool:
        """Whether the case is to be predicted: it is not finished, or `overwrite` says so.

        Raises:
            InputError: without `overwrite`, there is a file that is not of this model, input and settings; in any case,
                a `NAME.json` that is no record; the input cannot be read.
        """
        said = _said(self._record(case.name))
        if overwrite:
            return True
        there = [file for file in self.files(case) if file.exists()]
        same = bool(said) and said["model"] == self.model and said["settings"] == list(self.settings)
        if not there:
            return True
        if not (same and said["input"] == _digest(case)):
            raise InputError(
                f"{there[0]}: exists already, and is not of this model, input and settings; pass --overwrite, or "
                "choose another --output"
            )
        return not said.get("finished", True) or len(there) < len(self.files(case))

    def write(self, case: Case, item: VolumeItem, prediction: Prediction, findings: Findings) -> None:
        """Writes all files of a case, the record first and last.

        Raises:
            InputError: a file cannot be written.
        """
        path = self._record(case.name)
        _said(path)
        record = {
            "case": case.name,
            "finished": False,
            "images": [str(source(image)) for image in case.images],
            "segmentation": self.segmentation(case).name,
            "model": self.model,
            "settings": list(self.settings),
            "input": _digest(case),
            "spacing_mm": list(item.geometry.spacing),
        }
        write_text(path, json.dumps(record, indent=1) + "\n")
        write_segmentation(self.segmentation(case), prediction.labels, like=case.images[0])
        if prediction.probabilities is not None:
            _write_values(
                self._beside(case.name, "probabilities"), prediction.probabilities, item.geometry, PROBABILITY_STEP
            )
        if prediction.uncertainty is not None:
            _write_values(self._beside(case.name, "uncertainty"), prediction.uncertainty, item.geometry, 1.0)
        if self.dicom_seg:
            self.dicom_seg(self.folder / f"{case.name}.dcm", prediction.labels, item)
        write_text(path, json.dumps({**record, "finished": True, **findings.as_json()}, indent=1) + "\n")

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _beside(self, name: str, what: str) -> Path:
        return self.folder / f"{name}_{what}.nii.gz"


def _said(path: Path) -> dict[str, Any]:
    """What a record says, empty where there is none. Another file of that name is never replaced: it may be what
    describes the image."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict) or not {"model", "settings", "input"} <= said.keys():
        raise InputError(f"{path}: exists, and is no record of a prediction; choose another --output")
    return said


def _digest(case: Case) -> str:
    return hashlib.sha256(b"".join(file_digest(path) for path in case.images)).hexdigest()


def _write_values(path: Path, values: NDArray[Any], geometry: Geometry, step: float) -> None:
    """Writes (X, Y, Z[, K]) as compressed NIfTI plane by plane in steps of `step`; nibabel would make float64 of it."""
    header = nib.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header.set_sform(geometry.affine, code=1)
    header.set_qform(geometry.affine, code=1)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = step, 0
    header["magic"], header["vox_offset"] = b"n+1", 352
    with (
        writing(path) as temporary,
        temporary.open("wb") as raw,
        # no name and no time in it: equal values give equal bytes
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as file,
    ):
        file.write(header.binaryblock + bytes(4))
        for plane in _planes(values):
            file.write(np.asarray(plane).tobytes(order="F"))


def _planes(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for volume in np.moveaxis(values, -1, 0) if values.ndim == 4 else values[None]:
        yield from np.moveaxis(volume, 2, 0)
