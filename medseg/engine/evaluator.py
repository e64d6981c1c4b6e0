"""Whole volumes through a network: judged where they have a label, written where a folder is given."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Evaluator
from rich.console import Console
from torch import nn

from medseg import ranks
from medseg.data.description import IGNORE_NAME
from medseg.data.volume import suffix_of, write_segmentation
from medseg.engine.calibration import probability_buffer, with_calibration
from medseg.engine.precision import Autocast
from medseg.errors import InputError
from medseg.files import make_folder, write_text
from medseg.inference.inferer import PlannedInferer
from medseg.inference.volumes import VolumeItem, segment
from medseg.metrics.judge import judge
from medseg.metrics.measures import TOLERANCE_MM
from medseg.metrics.report import ClassResult, Summary, as_json, summarise
from medseg.plan import Plan
from medseg.report.tables import metrics_table

__all__ = ["CaseOutput", "VolumeEvaluator", "WriteSegmentations", "show_evaluation"]


@dataclass(frozen=True)
class CaseOutput:
    """One volume's prediction: label values on its own grid, and how it was judged (empty without a label)."""

    item: VolumeItem
    labels: np.ndarray
    results: tuple[ClassResult, ...]


class VolumeEvaluator(Evaluator):
    """MONAI's evaluator over whole volumes: sliding window, back to the file's own grid, Dice and HD95 in mm there.

    Args:
        network: may be exchanged between runs through the attribute of this name.
        val_data_loader: gives `VolumeItem`s.
        plan: classes and windows.
        inferer: applies the network to a volume.
        autocast: the precision in which the network is called.
        classes: of the cohort; voxels of a class named `ignore` are left out of the judgement.
        val_handlers: with the state's `output`, a `CaseOutput`, after each volume.

    After a run, `state.results` maps case names to class results and `state.summary` sums them up.
    """

    def __init__(
        self,
        network: nn.Module,
        val_data_loader: Iterable[VolumeItem],
        plan: Plan,
        inferer: PlannedInferer,
        autocast: Autocast,
        classes: Mapping[int, str] | None = None,
        val_handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(autocast.device, val_data_loader, val_handlers=None, decollate=False)
        self.logger.addFilter(lambda row: "terminating due to exception" not in row.getMessage())  # it is raised, too
        self.network = network
        self.plan = plan
        self.inferer = inferer
        self.autocast = autocast
        self.tolerance_mm: float | None = None
        self.ignore = [value for value, name in (classes or {}).items() if name == IGNORE_NAME]
        for handler in val_handlers or ():
            handler.attach(self)

    def evaluate(
        self, network: nn.Module | None = None, tolerance_mm: float | None = None
    ) -> tuple[Summary, dict[str, list[ClassResult]]]:
        """Runs over all volumes with `network`, by default the one given at construction. Several processes may have a
        share of the volumes each; all of them get the results of all, as one process would.

        Args:
            network: to be judged.
            tolerance_mm: None finds Dice and HD95 only, as during training; a number all measures (see `judge`).

        Returns:
            The summary, and class results by case name.
        """
        own = self.network
        self.network = own if network is None else network
        self.tolerance_mm = tolerance_mm
        self.state.results = {}
        try:
            ranks.all_or_none(self._run_share)
        finally:
            self.network, self.tolerance_mm = own, None
        self.state.results = dict(ranks.interleaved(list(self.state.results.items())))
        self.state.summary = summarise(self.state.results)
        return self.state.summary, self.state.results

    def _run_share(self) -> None:
        if len(self.data_loader):  # fewer cases than processes leave some without
            self.run()

    def _iteration(self, engine: Any, batchdata: VolumeItem) -> CaseOutput:  # noqa: ARG002  # MONAI's signature
        item = batchdata
        wanted = item.reference is not None and self.tolerance_mm is not None
        buffer = probability_buffer(self.plan, item.grid.canonical) if wanted else None
        with torch.no_grad(), self.autocast():
            found = segment(item, [self.network.eval()], self.inferer, self.plan, buffer)
        labels = found.labels
        results: list[ClassResult] = []
        if item.reference is not None:
            reference, judged, keep = item.reference, labels, None
            if self.ignore:
                keep = ~np.isin(reference, self.ignore)
                reference, judged = np.where(keep, reference, 0), np.where(keep, labels, 0)
            results = self._judged(judged, reference.astype(np.int64), item)
            if found.probabilities is not None:
                results = with_calibration(results, self.plan, found.probabilities, judged, reference, keep)
            self.state.results[item.name] = results
        return CaseOutput(item, labels, tuple(results))

    def _judged(self, labels: np.ndarray, reference: np.ndarray, item: VolumeItem) -> list[ClassResult]:
        """By class, or by region where there are regions: they may overlap, so each is judged as a mask of its own.
        What nobody looked for in the case is not judged."""
        spacing = item.geometry.spacing
        known = set(self.plan.classes) if item.annotated is None else set(item.annotated)
        if not self.plan.regions:
            classes = {value: name for value, name in sorted(self.plan.classes.items()) if value and value in known}
            return judge(labels, reference, spacing, classes, self.tolerance_mm)
        return [
            result
            for region in self.plan.regions
            if known >= set(region.values)
            for result in judge(
                np.isin(labels, region.values),
                np.isin(reference, region.values),
                spacing,
                {1: region.name},
                self.tolerance_mm,
            )
        ]


class WriteSegmentations:
    """A handler that writes each prediction to `folder` on the input's own grid, each file whole or not at all.

    Args:
        folder: made where absent.
        suffix: of the files written; None keeps the input's format.
    """

    def __init__(self, folder: str | os.PathLike[str], suffix: str | None = ".nii.gz") -> None:
        self.folder = make_folder(folder)
        self.suffix = suffix

    def attach(self, engine: Any) -> None:
        """Attaches to the end of every iteration, and of the run, which says how many were written."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._say)

    def __call__(self, engine: Any) -> None:
        """Writes the state's output."""
        output: CaseOutput = engine.state.output
        item = output.item
        write_segmentation(self.path(item.name, item.path), output.labels, like=item.path)

    def _say(self, engine: Any) -> None:
        Console().print(
            f"{engine.state.iteration} segmentations written to {self.folder}", highlight=False, soft_wrap=True
        )

    def path(self, name: str, image: Path) -> Path:
        """Where the segmentation of the case `name` with the file `image` is written."""
        return self.folder / f"{name}{self.suffix or suffix_of(image.name) or '.nii.gz'}"


def show_evaluation(evaluator: VolumeEvaluator, title: str, file: str | os.PathLike[str] | None = None) -> None:
    """Runs the evaluator, prints its table and writes summary and cases as JSON where a file is given.

    Raises:
        InputError: `title` is "test": those cases are judged once, by a command that records it.
    """
    if title == "test":
        raise InputError("split test: judged once and recorded, by: medseg evaluate RUN --split test")
    summary, results = evaluator.evaluate(tolerance_mm=TOLERANCE_MM)
    if file is not None:
        make_folder(Path(file).parent)
        write_text(file, json.dumps(as_json({"split": title, "summary": summary, "cases": results}), indent=1))
    Console().print(metrics_table(title, summary))
