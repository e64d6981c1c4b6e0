"""Patches of prepared cases: which case, and where, as a pure function of (seed, step, slot)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medseg.data.cache import IGNORE, CaseCache, PreparedCase
from medseg.data.case import Case
from medseg.data.soft import background_first
from medseg.data.stored import Stored
from medseg.data.targets import SOFT_STEPS
from medseg.errors import InputError
from medseg.randomness import generator, permutation

__all__ = ["PatchDataset"]


class PatchDataset(Dataset[dict[str, Tensor]]):
    """One patch for each index (step, slot), slot 0 to `batch_size` - 1.

    Cases come in laps, each lap in an order of its own, so that all are seen equally often.

    Args:
        data: the cases.
        cache: where they are prepared; done here, at construction.
        patch_size: (D, H, W) voxels.
        batch_size: patches a step.
        seed: of the run.
        foreground: the share of patches that are placed around a voxel of a class drawn evenly from those that the
            case has; the others, and cases without labels, anywhere in the body's box.
        purpose: what sets this dataset's randomness apart from another's.
        skip_bad: another case stands in for one that cannot be read; otherwise that is an InputError.

    Items:
        image (C, *patch) float32; label (1, *patch) uint8, class indices or `IGNORE`; mask (1, *patch) bool. Outside
        the volume image and label continue their edge. The mask is False where the label is `IGNORE`, and outside
        the volume unless background continues there: so the network learns what volumes end in, and no organ is
        made up. Of soft labels label is (K, *patch) float32, probabilities of all classes.
        annotated (K,) bool, where some cases are annotated in part: the classes that were looked for.
        slot () int64: the index's own, by which augmentation draws. case () int64: the place of its case in `data`.
        An unlabelled case's label is `IGNORE` throughout and its mask says what lies inside the volume.
    """

    def __init__(
        self,
        data: Sequence[Case],
        cache: CaseCache,
        patch_size: Sequence[int],
        batch_size: int,
        seed: int,
        foreground: float = 0.5,
        purpose: str = "labelled",
        skip_bad: bool = False,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                f"{batch_size} {purpose} patches a step; expected a positive whole number "
                "(labelled_batch, unlabelled_batch)"
            )
        self.data = data
        self.cache = cache
        self.patch_size = np.asarray(patch_size)
        self.batch_size = batch_size
        self.seed = seed
        self.foreground = foreground
        self.purpose = purpose
        self.skip_bad = skip_bad
        self.values = cache.plan.label_values
        self._bad: set[int] = set()
        self.cases = self._prepared() if data else []
        self.partial = any(case.annotated is not None for case in self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        image = self._images(1)[0]
        return {"image": image} | self._fill(index, image)

    def _fill(self, index: tuple[int, int], image: Tensor) -> dict[str, Tensor]:
        """Reads the patch into `image`, and returns what else the item has."""
        step, slot = index
        problem: InputError | None = None
        for turn in range(len(self.cases)):
            number = self.planned(step, slot, turn)
            if number in self._bad:
                continue
            try:
                return self._case_patch(number, step, slot, image)
            except InputError as error:
                problem = InputError(f"case {self.data[number].name}: {error}")
                problem.__cause__ = error
            if not self.skip_bad:
                raise problem
            self._bad.add(number)
        raise problem or InputError(f"none of the {len(self.cases)} cases can be read; check the disk")

    def __getitems__(self, indices: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """The items of `indices` as one batch (B, ...), filled one by one, so that they are not in memory twice."""
        batch = {"image": self._images(len(indices))}
        for place, index in enumerate(indices):
            for name, tensor in self._fill(index, batch["image"][place]).items():
                if not place:
                    batch[name] = tensor.new_empty((len(indices), *tensor.shape))
                batch[name][place] = tensor
        return batch

    def planned(self, step: int, slot: int, turn: int = 0) -> int:
        """The number of the case in `data` that patch `slot` of step `step` is from; of the one that stands in for it
        where it cannot be read, with `turn` 1, 2, ..."""
        lap, place = divmod(step * self.batch_size + slot, len(self.cases))
        order = _order(self.seed, lap, len(self.cases), self.purpose)
        return int(order[(place + turn) % len(order)])

    @property
    def class_voxels(self) -> list[int]:
        """Voxels of each class over all labelled cases, on the plan's grid; for class weights."""
        return [sum(case.class_voxels.get(index, 0) for case in self.cases) for index in range(len(self.values))]

    def _prepared(self) -> list[PreparedCase]:
        try:
            return self.cache.prepare(self.data, self.purpose)
        except InputError:
            if not self.skip_bad:
                raise
        found = []  # which of them it is, one by one
        for number, case in enumerate(self.data):
            try:
                found.append(self.cache.case(case))
            except InputError:
                self._bad.add(number)
                found.append(PreparedCase(case.name, (0, 0, 0), Stored(np.empty((0, 0, 0, 0)))))
        return found

    def _images(self, number: int) -> Tensor:
        return torch.empty((number, len(self.cache.plan.channels), *self.patch_size))

    def _case_patch(self, number: int, step: int, slot: int, image: Tensor) -> dict[str, Tensor]:
        try:
            patch = self._patch(self.cases[number], step, slot, image)
        except OSError:  # cleared from the cache, or replaced, while we read it
            self.cases[number] = self.cache.case(self.data[number])
            patch = self._patch(self.cases[number], step, slot, image)
        patch["case"] = torch.tensor(number)
        if self.partial:
            looked_for = self.cases[number].annotated
            patch["annotated"] = torch.tensor([looked_for is None or not v or v in looked_for for v in self.values])
        return patch

    def _patch(self, case: PreparedCase, step: int, slot: int, image: Tensor) -> dict[str, Tensor]:
        start = self._start(case, generator(self.seed, step, slot, f"{self.purpose} patch"))
        case.images.box(start, self.patch_size, out=image.numpy())
        label, mask = self._target(case, start)
        return {"label": torch.from_numpy(label), "mask": torch.from_numpy(mask), "slot": torch.tensor(slot)}

    def _target(self, case: PreparedCase, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Label (1, or K where it is soft, *patch) and mask (1, *patch) of the patch from `start`."""
        inside = _inside(case.shape, start, self.patch_size)
        if case.labels is None:
            return np.full(inside.shape, IGNORE, np.uint8), inside
        if case.soft is not None:
            soft = background_first(case.soft.box(start, self.patch_size) / np.float32(SOFT_STEPS))
            return soft, inside | (soft[:1] > 0.5)
        label = case.labels.box(start, self.patch_size)[None]
        known = label != IGNORE
        if not inside.all():
            known &= inside | (label == 0)
        return label, known

    def _start(self, case: PreparedCase, random: np.random.Generator) -> np.ndarray:
        """The patch's first voxel; negative where the volume is smaller than the patch."""
        room = np.array(case.shape) - self.patch_size
        first, last = np.minimum(room, 0), np.maximum(room, 0)
        # inside the body, or around it where the patch is larger
        begin, end = case.body
        ends = np.clip([begin, end - self.patch_size], first, last)
        start = random.integers(ends.min(0), ends.max(0), endpoint=True)
        if case.foreground.counts and random.random() < self.foreground:
            centre = case.foreground.draw(random)
            start = np.where(room > 0, np.clip(centre - self.patch_size // 2, first, last), start)
        return start


@lru_cache(maxsize=8)
def _order(seed: int, lap: int, length: int, purpose: str) -> np.ndarray:
    return permutation(seed, lap, length, f"{purpose} order")


def _inside(shape: Sequence[int], start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(1, *size) bool: which voxels of the box from `start` lie in a volume of `shape`."""
    inside = np.zeros((1, *size), bool)
    low, high = np.maximum(-start, 0), np.minimum(np.array(shape) - start, size)
    inside[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return inside
