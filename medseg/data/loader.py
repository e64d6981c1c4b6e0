"""The labelled and the unlabelled loader, read together step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from itertools import count
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from medseg import ranks
from medseg.data.patches import PatchDataset
from medseg.errors import InputError, dead_worker

__all__ = ["CaseShare", "PairedLoader", "RawBatch"]


class RawBatch(TypedDict):
    """What the loader gives for one step: patches before augmentation, on the CPU, the names of their cases, and the
    names of those that could not be read and in whose place others are."""

    step: int
    labelled: dict[str, Tensor]
    unlabelled: dict[str, Tensor] | None
    cases: NotRequired[list[str]]
    bad: NotRequired[list[str]]


class PairedLoader:
    """Endless batches from `first_step` on: what step n gives does not depend on where one began.

    Of several processes each reads its share of the step's slots, so that together they read what one would.

    Args:
        labelled: patches with labels.
        unlabelled: patches of unlabelled cases; may be empty where the method needs none.
        needs_unlabelled: whether the method needs them; they are read only then.
        workers: processes a loader; 0 reads in the training process, best on few cores.
        pin_memory: for copies to a GPU.

    Raises:
        InputError: there are no unlabelled cases and they are needed, or a batch cannot be shared evenly.
    """

    def __init__(
        self,
        labelled: PatchDataset,
        unlabelled: PatchDataset | None = None,
        needs_unlabelled: bool = False,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if needs_unlabelled and not unlabelled:
            raise InputError(
                "the method needs unlabelled cases and the cohort has none; lower the label budget (--labelled N), add "
                "images without labels, or choose the method supervised"
            )
        self.labelled = labelled
        self.unlabelled = unlabelled if needs_unlabelled else None
        for dataset in filter(None, (self.labelled, self.unlabelled)):
            if dataset.batch_size % ranks.size():
                raise InputError(
                    f"{dataset.batch_size} {dataset.purpose} patches a step cannot be shared evenly by {ranks.size()} "
                    f"processes; use {ranks.evenly(dataset.batch_size)}, or --runtime distributed, which rounds up"
                )
        if workers < 0:
            raise InputError(f"workers is {workers}; expected a number of processes from 0")
        self.workers = workers
        self.pin_memory = pin_memory
        self.first_step = 0

    def __iter__(self) -> Iterator[RawBatch]:
        labelled = iter(self._loader(self.labelled))
        unlabelled = iter(self._loader(self.unlabelled)) if self.unlabelled is not None else None
        for step in count(self.first_step):
            cases: list[str] = []
            bad: list[str] = []
            # yielded as it is made: what is kept here would stay in memory while the next one is read
            yield {
                "step": step,
                "labelled": self._read(labelled, self.labelled, step, cases, bad),
                "unlabelled": None
                if unlabelled is None or self.unlabelled is None
                else self._read(unlabelled, self.unlabelled, step, cases, bad),
                "cases": cases,
                "bad": bad,
            }

    def _read(
        self, batches: Iterator[dict[str, Tensor]], dataset: PatchDataset, step: int, cases: list[str], bad: list[str]
    ) -> dict[str, Tensor]:
        """The next patches without the numbers of their cases, whose names are added to `cases`, or of those in whose
        place they are to `bad`."""
        patches = _next(batches, self.workers > 0)
        for slot, number in zip(patches["slot"].tolist(), patches.pop("case").tolist(), strict=True):
            planned = dataset.planned(step, slot)
            cases.append(dataset.data[number].name)
            if number != planned:
                bad.append(dataset.data[planned].name)
        return patches

    def _loader(self, dataset: PatchDataset) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            dataset,
            batch_sampler=_StepSampler(self.first_step, ranks.share(range(dataset.batch_size))),
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # what __getitems__ gives is the batch
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # of its own: it would draw a number from torch's at each start
        )


def _as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def _next(batches: Iterator[dict[str, Tensor]], receiving: bool) -> dict[str, Tensor]:
    try:
        return next(batches)
    except InputError as error:  # of a worker, whose traceback torch adds to the line
        line = str(error).strip().splitlines()[-1]
        raise InputError(line.rpartition("InputError: ")[2]) from error
    except (RuntimeError, OSError, EOFError) as error:
        died = dead_worker(error, receiving)
        if died is None:
            raise
        raise died from error


class CaseShare(Sampler[int]):
    """The indices of `data` that are this process's share of the cases."""

    def __init__(self, data: Sized) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        return iter(ranks.share(range(len(self.data))))

    def __len__(self) -> int:
        return len(ranks.share(range(len(self.data))))


class _StepSampler(Sampler[list[tuple[int, int]]]):
    """Indices (step, slot) of these slots of each step's batch, endlessly."""

    def __init__(self, first_step: int, slots: Sequence[int]) -> None:
        self.first_step = first_step
        self.slots = slots

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in count(self.first_step):
            yield [(step, slot) for slot in self.slots]
