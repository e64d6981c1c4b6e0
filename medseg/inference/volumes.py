"""Whole volumes, prepared for the network, with what is needed to bring a prediction back to their own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from medseg.data.cache import CaseCache
from medseg.data.cohort import Case, load_case
from medseg.data.preprocess import Grid, logits_from_grid, plan_grid, prepare_images
from medseg.data.volume import Geometry, read_geometry, read_labels
from medseg.errors import InputError
from medseg.inference.inferer import PlannedInferer
from medseg.plan import Plan

__all__ = ["VolumeDataset", "VolumeItem", "predict_labels"]


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
    """

    name: str
    path: Path
    images: np.ndarray
    grid: Grid
    geometry: Geometry
    reference: np.ndarray | None


class VolumeDataset(Dataset[VolumeItem]):
    """The volumes of `data`, one item a case.

    Args:
        data: the cases.
        plan: how they are prepared.
        cache: where prepared images are kept; None prepares them each time.
        classes: label values to names where labels may hold more than the plan's classes (`ignore`).

    Raises:
        InputError: on access, a file cannot be read, or has another number of channels than the plan.
    """

    def __init__(
        self,
        data: Sequence[Case],
        plan: Plan,
        cache: CaseCache | None = None,
        classes: Mapping[int, str] | None = None,
    ) -> None:
        self.data = data
        self.plan = plan
        self.cache = cache
        self.classes = dict(classes or plan.classes)

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
            geometry = read_geometry(case.images[0])
            prepared = self.cache.case(case)
            images = prepared.images.whole(prepared.shape)
            reference = read_labels(case.label).array if case.label else None
        else:
            raw, reference, geometry = load_case(case, self.classes)
            images = prepare_images(raw, plan_grid(geometry, self.plan.spacing), self.plan)
        grid = plan_grid(geometry, self.plan.spacing)
        return VolumeItem(case.name, case.images[0], images, grid, geometry, reference)


@torch.no_grad()
def predict_labels(item: VolumeItem, network: nn.Module, inferer: PlannedInferer, plan: Plan) -> np.ndarray:
    """Label values (X, Y, Z), uint8 where they fit, on the volume's own grid; puts the network in evaluation mode."""
    network.eval()
    logits = inferer(torch.from_numpy(item.images), network)
    values = np.array(plan.label_values, np.uint8 if max(plan.label_values) < 2**8 else np.uint16)
    return values[logits_from_grid(logits, item.grid)]
