"""The Python face of medseg: a model that predicts, and what it found.

model = medseg.load_model("runs/first/model")
found = model.predict("scan.nii.gz")
print(found.volumes_ml, found.flags)
found.save("segmentation.nii.gz")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from medseg.data.case import load_case
from medseg.data.geometry import MOST_SHEAR, Geometry
from medseg.data.itk import write_itk
from medseg.data.nifti import write_nifti
from medseg.data.volume import SUFFIXES, strip_suffix, write_segmentation
from medseg.engine.precision import Autocast, Precision, pick_device
from medseg.errors import InputError
from medseg.inference.findings import Findings, find_flags
from medseg.inference.inferer import PlannedInferer
from medseg.inference.inputs import one_case
from medseg.inference.model import Model
from medseg.inference.model import load_model as read_model
from medseg.inference.reduce import PROBABILITY_STEP
from medseg.inference.volumes import prepared_item, segment
from medseg.plan import Plan

__all__ = ["ImageLike", "Precision", "Segmentation", "Segmenter", "load_model"]


class ImageLike(Protocol):
    """An image with voxels and affine, such as nibabel's."""

    @property
    def dataobj(self) -> Any: ...
    @property
    def affine(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model found in a volume, on the volume's own grid.

    Attributes:
        labels: label values (X, Y, Z).
        geometry: shape, affine (RAS+, mm) and spacing.
        classes: names by label value, background included.
        findings: millilitres, components and confidence by class, and the flags.
        probabilities: (X, Y, Z, K) float32, one a class or region; None where not asked for.
        uncertainty: (X, Y, Z) float32, 0 is certain and 1 a guess; None where not asked for.
        source: the file that was read; None where the image was in memory.
    """

    labels: NDArray[Any]
    geometry: Geometry
    classes: dict[int, str]
    findings: Findings
    probabilities: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None
    source: Path | None = None

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres by class."""
        return {name: found.ml for name, found in self.findings.classes.items()}

    @property
    def flags(self) -> tuple[str, ...]:
        """What should make somebody look twice; empty where nothing does."""
        return tuple(flag.text for flag in self.findings.flags)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a class or region is, (X, Y, Z); of regions that overlap, each is whole.

        Raises:
            KeyError: none of that name.
        """
        if name in self.findings.classes:
            return np.isin(self.labels, self.findings.classes[name].values)
        if name != self.classes[0]:
            raise KeyError(f"{name!r}; the classes are {self.classes[0]}, {', '.join(self.findings.classes)}")
        return np.asarray(self.labels == 0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the label map as NIfTI, NRRD, MHA or MHD by the suffix, whole or not at all.

        Raises:
            InputError: another suffix, or the file cannot be written.
        """
        path = Path(path)
        if self.source is not None:
            write_segmentation(path, self.labels, like=self.source)
        elif path.name.lower().endswith((".nii", ".nii.gz")):
            write_nifti(path, self.labels, self.geometry.affine)
        elif strip_suffix(path.name) != path.name:
            write_itk(path, self.labels, self.geometry)
        else:
            raise InputError(f"{path}: unknown file type, expected one of {', '.join(SUFFIXES)}")


class Segmenter:
    """A model ready to predict. `load_model` makes one.

    Args:
        model: one network or an ensemble, on `device`.
        device: where it is.
        precision: `auto` is bf16 where the hardware has it.
        mirror: whether each window is also seen mirrored along the plan's axes; None does so on GPUs.
    """

    def __init__(
        self, model: Model, device: torch.device, precision: Precision = "auto", mirror: bool | None = None
    ) -> None:
        self.model = model
        self.inferer = PlannedInferer(model.plan, device, mirror)
        self.autocast = Autocast(device, precision)

    @property
    def plan(self) -> Plan:
        """Channels, classes, spacing and all else that belongs to the weights."""
        return self.model.plan

    def predict(
        self,
        image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ImageLike | ArrayLike,
        affine: ArrayLike | None = None,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
    ) -> Segmentation:
        """Segments one volume.

        Args:
            image: a file or the folder of a DICOM series; of a model with several channels a list of them in the plan's
                order (files `NAME_0000`, `NAME_0001`, ... in any); or a nibabel image in mm; or an array (X, Y, Z) or
                (C, X, Y, Z) with its `affine`.
            affine: 4x4, from voxel indices of an array to RAS+ millimetres.
            probabilities, uncertainty: whether they are wanted.

        Raises:
            InputError: a file cannot be read or does not fit the model, or an array is not finite, has no affine, a
                singular or sheared one, or other axes.
        """
        source: Path | None = None
        if isinstance(image, str | os.PathLike) or _are_paths(image):
            paths = [image] if isinstance(image, str | os.PathLike) else image
            raw, geometry, source = self._read([Path(path) for path in paths])  # type: ignore[arg-type, union-attr]
        else:
            raw, geometry = self._given(image, affine)
        item = prepared_item("image", source or Path("image"), raw, geometry, self.plan)
        room = np.zeros((self.plan.outputs, *item.grid.canonical), np.uint16) if probabilities else None
        with self.autocast():
            found = segment(item, self.model.networks, self.inferer, self.plan, room, uncertainty)
        findings = find_flags(found.labels, found.confidence, geometry, self.plan, item.spans)
        values = None if found.probabilities is None else (found.probabilities * np.float32(PROBABILITY_STEP))
        classes = {0: self.plan.classes[0], **{f.value: name for name, f in findings.classes.items()}}
        return Segmentation(found.labels, geometry, classes, findings, values, found.uncertainty, source)

    def _read(self, paths: list[Path]) -> tuple[NDArray[np.float32], Geometry, Path]:
        case = one_case(paths, len(self.plan.channels))
        raw, _, geometry = load_case(case, self.plan.classes)
        return raw, geometry, case.images[0]

    def _given(self, image: Any, affine: ArrayLike | None) -> tuple[NDArray[np.float32], Geometry]:
        if hasattr(image, "dataobj"):
            image, affine = np.asarray(image.dataobj), image.affine
        array = np.asarray(image, np.float32)
        array = array[None] if array.ndim == 3 else array
        wanted = len(self.plan.channels)
        if array.ndim != 4 or len(array) != wanted or not array.size:
            raise InputError(f"image: an array of shape {array.shape}, expected (X, Y, Z) or ({wanted}, X, Y, Z)")
        if affine is None or np.shape(affine) != (4, 4):
            raise InputError("image: an array needs its affine, 4x4 from voxel indices to millimetres (RAS+)")
        geometry = Geometry((array.shape[1], array.shape[2], array.shape[3]), np.asarray(affine, float))
        if geometry.is_singular:
            raise InputError("image: its affine is singular: the voxel axes do not span space")
        if geometry.shear > MOST_SHEAR:
            raise InputError(f"image: its voxel axes are sheared by {geometry.shear:.1f} degrees; resample it first")
        if not np.isfinite(array).all():
            raise InputError("image: voxels are NaN or infinite; replace them, for instance by the background's value")
        return array, geometry


def load_model(
    path: str | os.PathLike[str], device: str = "auto", precision: Precision = "auto", mirror: bool | None = None
) -> Segmenter:
    """Reads a model.

    Args:
        path: a model folder, the folder of a run, or an ensemble's.
        device: auto, cpu, cuda, cuda:1.
        precision, mirror: see `Segmenter`.

    Raises:
        InputError: there is no model, or it is broken; loading one runs no code.
    """
    folder = Path(path)
    where = pick_device(device)
    return Segmenter(read_model(folder, where), where, precision, mirror)


def _are_paths(image: object) -> bool:
    return isinstance(image, list | tuple) and bool(image) and all(isinstance(p, str | os.PathLike) for p in image)
