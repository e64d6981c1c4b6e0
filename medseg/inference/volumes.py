"""Whole volumes, prepared for the network, with what is needed to bring a prediction back to their own grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from medseg.data.cache import CaseCache
from medseg.data.case import Case, load_case, load_labels
from medseg.data.geometry import Geometry
from medseg.data.limits import refuse_large
from medseg.data.preprocess import Grid, plan_grid, prepare_images, to_native
from medseg.errors import InputError
from medseg.inference.findings import intensity_spans
from medseg.inference.head import split
from medseg.inference.inferer import PlannedInferer
from medseg.inference.postprocess import clean
from medseg.inference.reduce import reduce_rows
from medseg.inference.resample import native_rows
from medseg.inference.sliding_window import Slab
from medseg.plan import Plan

__all__ = ["Prediction", "VolumeDataset", "VolumeItem", "labels_of", "predict_labels", "prepared_item", "segment"]


@dataclass(frozen=True)
class VolumeItem:
    """One volume.

    Attributes:
        name: the case's name.
        path: the first channel's file.
        images: (C, X, Y, Z) float32 on the plan's grid, normalised.
        grid: the way back.
        geometry: the file's own grid.
        reference: label values (X, Y, Z) on the file's own grid, None where the case has no label.
        annotated: the label values that it speaks of; None: of all.
        spans: the 5th and 95th percentile of each channel in the file's units; None where not asked for.
    """

    name: str
    path: Path
    images: np.ndarray
    grid: Grid
    geometry: Geometry
    reference: np.ndarray | None
    annotated: tuple[int, ...] | None = None
    spans: list[tuple[float, float]] | None = None


class VolumeDataset(Dataset[VolumeItem]):
    """The volumes of `data`, one item a case.

    Args:
        data: the cases.
        plan: how they are prepared.
        cache: where the images of validation cases are kept, prepared now; None prepares them each time.
        classes: label values to names where labels may hold more than the plan's classes (`ignore`).
        spans: whether items say their intensities' ranges; only without a cache.

    Raises:
        InputError: on access, or at once with a cache, a file cannot be read, has another number of channels than the
            plan, or is too large on the plan's grid.
    """

    def __init__(
        self,
        data: Sequence[Case],
        plan: Plan,
        cache: CaseCache | None = None,
        classes: Mapping[int, str] | None = None,
        spans: bool = False,
    ) -> None:
        self.data = data
        self.spans = spans
        self.plan = plan
        self.cache = cache
        self.classes = dict(classes or plan.classes)
        if cache is not None:
            cache.prepare(data, "validation")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> VolumeItem:
        if index >= len(self.data):
            raise IndexError(index)
        case = self.data[index]
        if len(case.images) != len(self.plan.channels):
            raise InputError(
                f"{case.images[0]}: case {case.name} has {len(case.images)} channels, expected "
                f"{len(self.plan.channels)} ({', '.join(c.name for c in self.plan.channels)})"
            )
        if self.cache is not None:
            geometry = case.geometry()
            prepared = self.cache.case(case)
            images = prepared.images.whole(prepared.shape)
            reference = load_labels(case, geometry, self.classes) if case.label else None
        else:
            raw, reference, geometry = load_case(case, self.classes)
            item = prepared_item(case.name, case.images[0], raw, geometry, self.plan, self.spans)
            return dataclasses.replace(item, reference=reference, annotated=case.annotated)
        grid = plan_grid(geometry, self.plan.spacing)
        return VolumeItem(case.name, case.images[0], images, grid, geometry, reference, case.annotated)


def prepared_item(
    name: str, path: Path, raw: np.ndarray, geometry: Geometry, plan: Plan, spans: bool = True
) -> VolumeItem:
    """The volume `raw` (C, X, Y, Z) in its file's units, prepared.

    Raises:
        InputError: on the plan's grid it would not fit into memory.
    """
    grid = plan_grid(geometry, plan.spacing)
    padded = [max(pair) for pair in zip(grid.target, plan.patch_size, strict=True)]  # to one window at least
    refuse_large(path, (len(raw), *padded), f"at {plan.spacing} mm it has")
    images = prepare_images(raw, grid, plan)
    return VolumeItem(name, path, images, grid, geometry, None, spans=intensity_spans(raw) if spans else None)


@dataclass(frozen=True)
class Prediction:
    """What was found in a volume, on the file's own grid.

    Attributes:
        labels: label values (X, Y, Z), uint8 where they fit, else uint16.
        confidence: by label value found, the mean probability of its voxels before post-processing.
        probabilities: uint16 (X, Y, Z, K) in steps of `PROBABILITY_STEP`, one a class or region; None where not wanted.
        uncertainty: float32 (X, Y, Z) in [0, 1]; None where not wanted.
    """

    labels: np.ndarray
    confidence: dict[int, float]
    probabilities: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


def segment(
    item: VolumeItem,
    networks: Sequence[Callable[[Tensor], Tensor]],
    inferer: PlannedInferer,
    plan: Plan,
    probabilities: np.ndarray | None = None,
    uncertainty: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """The networks' mean prediction of a volume in one pass, post-processed as the plan says.

    Nothing of the size of all classes times the volume is held, except `probabilities`.

    Args:
        item: the prepared volume.
        networks: in evaluation mode, on the inferer's device.
        inferer: the windows.
        plan: classes or regions, post-processing.
        probabilities: uint16 (K, *item.grid.canonical) to be filled, in memory or on disk; None leaves them out.
        uncertainty: whether it is wanted.
        progress: called with the windows done and all windows.
    """
    grid = item.grid
    parts = split(networks, inferer.mirrored_axes)
    slabs = inferer.stream(torch.from_numpy(item.images), parts.body, progress)
    rows = native_rows(slabs, grid.target, grid.canonical, inferer.elements, plan.outputs)
    device = inferer.device or "cpu"
    found = reduce_rows(rows, grid.canonical, plan, parts.head, probabilities, uncertainty, device)
    return Prediction(
        _finished(found.labels, grid, item.geometry, plan),
        found.confidence,
        None if probabilities is None else to_native(np.moveaxis(probabilities, 0, -1), grid),
        None if found.uncertainty is None else to_native(found.uncertainty, grid),
    )


def labels_of(logits: Tensor, geometry: Geometry, plan: Plan) -> np.ndarray:
    """Label values (X, Y, Z) on the grid of `geometry` from whole logits (K, X, Y, Z) on the plan's grid, as `segment`
    finds them."""
    grid = plan_grid(geometry, plan.spacing)
    whole = Slab(0, 0, logits.shape[1], logits.float(), None)
    rows = native_rows([whole], grid.target, grid.canonical, values=plan.outputs)
    return _finished(reduce_rows(rows, grid.canonical, plan, device=logits.device).labels, grid, geometry, plan)


def _finished(labels: np.ndarray, grid: Grid, geometry: Geometry, plan: Plan) -> np.ndarray:
    labels = np.ascontiguousarray(to_native(labels, grid))
    if plan.postprocessing:
        labels = clean(labels, plan.postprocessing, geometry.spacing)
    return labels if labels.dtype == np.uint8 else labels.astype(np.uint16)


def predict_labels(item: VolumeItem, network: nn.Module, inferer: PlannedInferer, plan: Plan) -> np.ndarray:
    """Label values (X, Y, Z) on the volume's own grid; puts the network in evaluation mode."""
    return segment(item, [network.eval()], inferer, plan).labels
