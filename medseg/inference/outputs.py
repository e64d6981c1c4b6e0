"""The files of a prediction: segmentation, record and, where asked for, probabilities and uncertainty, each whole."""

from __future__ import annotations

import dataclasses
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
from medseg.data.volume import strip_suffix, write_segmentation
from medseg.errors import InputError
from medseg.files import write_text, writing
from medseg.inference.findings import Findings
from medseg.inference.reduce import PROBABILITY_STEP
from medseg.inference.volumes import Prediction, VolumeItem

__all__ = ["Outputs"]

SegWriter = Callable[[Path, NDArray[Any], VolumeItem], None]


@dataclass(frozen=True)
class Outputs:
    """Where the files of each case go, and whether they are there already.

    Beside `NAME.nii.gz` stands the record `NAME.json`, written last: a case is finished where its record names the same
    model, settings and input and all its files are there.

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
        image = case.images[0]
        own = image.name[len(strip_suffix(image.name)) :] or ".nii.gz"
        return self.folder / f"{case.name}{self.suffix or own}"

    def files(self, case: Case) -> list[Path]:
        """All files of a case but the record."""
        return [
            self.segmentation(case),
            *([self._beside(case.name, "probabilities")] if self.probabilities else []),
            *([self._beside(case.name, "uncertainty")] if self.uncertainty else []),
            *([self.folder / f"{case.name}.dcm"] if self.dicom_seg else []),
        ]

    def finished(self, case: Case) -> bool:
        """Whether the case needs no further work.

        Raises:
            InputError: there is a segmentation that is not of this model, input and settings.
        """
        target, record = self.segmentation(case), self._record(case.name)
        if not target.exists():
            return False
        try:
            said = json.loads(record.read_text(encoding="utf-8"))
            same = said["model"] == self.model and said["settings"] == list(self.settings)
            same = same and said["input"] == _digest(case)
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise InputError(
                f"{target}: exists already, and is not of this model, input and settings; pass --overwrite, or choose "
                "another --output"
            )
        return all(path.exists() for path in self.files(case))

    def write(self, case: Case, item: VolumeItem, prediction: Prediction, findings: Findings) -> None:
        """Writes all files of a case, the record last.

        Raises:
            InputError: a file cannot be written.
        """
        self._record(case.name).unlink(missing_ok=True)  # while files are exchanged the case is not finished
        like = case.images[0]
        write_segmentation(self.segmentation(case), prediction.labels, like=like)
        if prediction.probabilities is not None:
            _write_values(
                self._beside(case.name, "probabilities"), prediction.probabilities, item.geometry, PROBABILITY_STEP
            )
        if prediction.uncertainty is not None:
            _write_values(self._beside(case.name, "uncertainty"), prediction.uncertainty, item.geometry, 1.0)
        if self.dicom_seg:
            self.dicom_seg(self.folder / f"{case.name}.dcm", prediction.labels, item)
        record = {
            "case": case.name,
            "images": [str(path) for path in case.images],
            "segmentation": self.segmentation(case).name,
            "model": self.model,
            "settings": list(self.settings),
            "input": _digest(case),
            "spacing_mm": list(item.geometry.spacing),
            **findings.as_json(),
        }
        write_text(self._record(case.name), json.dumps(record, indent=1) + "\n")

    def but(self, **fields: Any) -> Outputs:
        """The same with other fields."""
        return dataclasses.replace(self, **fields)

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _beside(self, name: str, what: str) -> Path:
        return self.folder / f"{name}_{what}.nii.gz"


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
