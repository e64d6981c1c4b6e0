"""What a method would teach of the validation cases if they had no label, against their labels."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from medseg.augment import Batch, Unlabelled
from medseg.data.patches import PatchDataset
from medseg.engine.iteration import Iteration

__all__ = ["PseudoLabelCheck"]


class PseudoLabelCheck:
    """Pseudo-labels of validation cases, made as those of the unlabelled ones are, against the true labels. A teacher
    that goes wrong is seen here, and not only in what the student becomes.

    Args:
        iteration: whose method makes them.
        dataset: patches of the validation cases with their labels; empty where nothing is to be looked at.
        patches: how many are looked at, the same ones each time.
    """

    def __init__(self, iteration: Iteration, dataset: PatchDataset, patches: int = 32) -> None:
        self.iteration = iteration
        self.dataset = dataset
        self.steps = math.ceil(patches / dataset.batch_size)

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Over all patches together:

        `pseudo_label_dice`: of the voxels kept, the mean over classes (or regions) that are there;
        `pseudo_label_kept_share`: of all voxels whose label is known;
        `pseudo_label_kept_foreground`: of those whose label is not background.

        What is undefined is left out; empty where the method teaches nothing or there are no cases.
        """
        steps = range(self.steps) if len(self.dataset) else ()
        counts = [found for step in steps if (found := self._counts(step)) is not None]
        if not counts:
            return {}
        overlap, pseudo, true, known = torch.stack(counts).sum(0).cpu().unbind(1)
        shares = {
            "pseudo_label_dice": (2 * overlap[1:] / (pseudo + true)[1:]).nanmean(),
            "pseudo_label_kept_share": true[0] / known[0],
            "pseudo_label_kept_foreground": true[1:].sum() / known[1:].sum(),
        }
        return {name: float(value) for name, value in shares.items() if value.isfinite()}

    def _counts(self, step: int) -> Tensor | None:
        """(1 + classes, 4) float64, first of all voxels, then of each class: overlap, predicted and true voxels among
        those kept, and all true ones."""
        patches = self.dataset.__getitems__([(step, slot) for slot in range(self.dataset.batch_size)])
        batch = self.iteration.batch({"step": step, "labelled": patches, "unlabelled": None})
        known = batch.labelled
        with self.iteration.autocast():
            found = self.iteration.method.pseudo_label(_hidden(batch), self.iteration.models)
        if found is None:
            return None
        first = 0 if batch.targets.overlapping else 1
        pairs = zip(batch.targets.classes_of(found.label), batch.targets.classes_of(known.label), strict=True)
        rows = [_row(known.mask, found.kept, known.mask, known.mask)]
        for channel, (pseudo, true) in enumerate(pairs, start=first):
            looked_for = known.mask if known.annotated is None else known.mask & known.annotated[:, [channel]]
            rows.append(_row(looked_for, found.kept, pseudo, true))
        return torch.stack(rows)


def _row(looked_for: Tensor, kept: Tensor, pseudo: Tensor, true: Tensor) -> Tensor:
    judged = looked_for & kept
    found = (judged & pseudo & true, judged & pseudo, judged & true, looked_for & true)
    return torch.stack([voxels.sum() for voxels in found]).double()


def _hidden(batch: Batch) -> Batch:
    """The labelled images as unlabelled ones; where a method mixes labelled images in, those of the next sample."""
    known = batch.labelled
    shifted = {name: x.roll(1, 0) for name, x in vars(known).items() if isinstance(x, Tensor)}
    mates = replace(known, **shifted)  # type: ignore[arg-type]  # names of tensors only
    return replace(batch, labelled=mates, unlabelled=Unlabelled(known.weak, known.image, known.mask, known.slots))
