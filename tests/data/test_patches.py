from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.data.cache import IGNORE, CaseCache, PreparedCase
from medseg.data.case import Case
from medseg.data.patches import PatchDataset
from medseg.data.stored import Stored
from medseg.data.targets import Foreground, positions_by_class, voxels_by_class
from medseg.errors import InputError

Make = Callable[..., PatchDataset]


class Prepared:
    """A cache of arrays that are prepared already."""

    plan = SimpleNamespace(label_values=(0, 1, 2), channels=("value", "x", "y", "z"))

    def prepare(self, cases: list[PreparedCase], kind: str) -> list[PreparedCase]:
        return cases


def prepared(shape: tuple[int, int, int], value: float = 0, labels: np.ndarray | None = None) -> PreparedCase:
    """Channel 0 is `value`, channels 1 to 3 are the voxel's position."""
    images = np.stack([np.full(shape, value), *np.indices(shape)]).astype(np.float32)
    images.setflags(write=False)
    if labels is None:
        return PreparedCase(str(value), shape, Stored(images))
    counts, positions = positions_by_class(Stored(labels))
    foreground = Foreground(counts, positions)
    return PreparedCase(str(value), shape, Stored(images), Stored(labels), foreground, voxels_by_class(labels))


def dataset(
    cases: list[PreparedCase], patch: tuple[int, int, int] = (8, 8, 8), batch: int = 2, **options: object
) -> PatchDataset:
    options = {"seed": 0, **options}
    return PatchDataset(cases, Prepared(), patch, batch, **options)  # type: ignore[arg-type]


def labelled(shape: tuple[int, int, int] = (20, 16, 12)) -> PreparedCase:
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 2:5, 2:5], labels[14, 12, 9] = 1, 2
    return prepared(shape, 0, labels)


def test_a_patch_is_a_box_of_its_case() -> None:
    case = labelled()
    assert case.labels is not None
    patches = dataset([case])
    starts = set()
    for step in range(50):
        item = patches[step, 0]
        assert item["image"].shape == (4, 8, 8, 8)
        assert item["label"].shape == item["mask"].shape == (1, 8, 8, 8)
        assert (item["image"].dtype, item["label"].dtype, item["mask"].dtype) == (
            torch.float32,
            torch.uint8,
            torch.bool,
        )
        start = item["image"][1:, 0, 0, 0].int().tolist()
        box = tuple(slice(s, s + 8) for s in start)
        assert np.array_equal(item["image"], case.images.array()[(slice(None), *box)])
        assert np.array_equal(item["label"][0], case.labels.array()[box])
        assert item["mask"].all()
        starts.add(tuple(start))
    assert len(starts) > 20


@given(st.integers(0, 2**31), st.integers(0, 10_000), st.integers(0, 3))
def test_an_item_is_a_function_of_seed_step_and_slot(seed: int, step: int, slot: int) -> None:
    cases = [labelled(), prepared((9, 9, 9), 1), prepared((30, 10, 10), 2)]
    one, other = (dataset(cases, batch=4, seed=seed) for _ in range(2))
    for elsewhere in [(0, 0), (step + 1, slot), (step, 3 - slot)]:
        _ = other[elsewhere]  # what was drawn before has no influence
    for name, tensor in one[step, slot].items():
        assert torch.equal(tensor, other[step, slot][name])


def test_seeds_steps_slots_and_purposes_differ() -> None:
    def start(step: int = 0, slot: int = 0, **options: object) -> tuple[float, ...]:
        case = prepared((60, 60, 60))
        return tuple(dataset([case], batch=4, **options)[step, slot]["image"][1:, 0, 0, 0].tolist())

    found = [start(), start(step=1), start(slot=1), start(seed=1), start(purpose="unlabelled")]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("cases", "batch"), [(1, 1), (3, 2), (5, 2), (7, 16), (4, 4)])
def test_each_lap_visits_each_case_once(cases: int, batch: int) -> None:
    patches = dataset([prepared((8, 8, 8), value) for value in range(cases)], batch=batch)
    laps = 12
    visits = [int(patches[divmod(n, batch)]["image"][0, 0, 0, 0]) for n in range(cases * laps)]
    orders = [tuple(visits[lap * cases : (lap + 1) * cases]) for lap in range(laps)]
    assert all(sorted(order) == list(range(cases)) for order in orders)
    if cases > 2:
        assert len(set(orders)) > laps // 3  # each lap has an order of its own


def test_patches_lie_evenly_where_nothing_is_labelled() -> None:
    """Every start between 0 and 20 - 8 along an axis is as likely, the ends included."""
    patches = dataset([prepared((20, 8, 9))], batch=1)
    starts = [tuple(patches[step, 0]["image"][1:, 0, 0, 0].int().tolist()) for step in range(2600)]
    counts = Counter(start[0] for start in starts)
    assert sorted(counts) == list(range(13))
    assert max(abs(count - 200) for count in counts.values()) < 60  # four standard deviations of about 14
    assert {start[1] for start in starts} == {0}
    assert {start[2] for start in starts} == {0, 1}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_patches_around_a_class(share: float) -> None:
    """Both classes evenly, although one has 27 voxels and the other one; in the middle of the patch where there is
    room around them."""
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[20:23, 20:23, 20:23], labels[45, 45, 45] = 1, 2
    patches = dataset([prepared(labels.shape, 0, labels)], batch=1, foreground=share)
    middles = Counter(int(patches[step, 0]["label"][0, 4, 4, 4]) for step in range(400))
    assert middles[1] + middles[2] == pytest.approx(400 * share, abs=40 if 0 < share < 1 else 4)
    assert abs(middles[1] - middles[2]) < 4 * np.sqrt(400 * share + 1)


def test_voxels_at_the_border_are_reached_without_leaving_the_volume() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[0, 19, 10] = 1
    patches = dataset([prepared(labels.shape, 0, labels)], foreground=1.0)
    for step in range(20):
        item = patches[step, 0]
        assert item["mask"].all()
        assert item["label"][0].sum() == 1
        assert item["image"][1:, 0, 0, 0].tolist() == [0, 12, 6]


def test_an_unlabelled_volume_smaller_than_the_patch_is_padded_and_masked() -> None:
    patches = dataset([prepared((5, 12, 3))], (8, 8, 8))
    offsets = set()
    for step in range(60):
        item = patches[step, 0]
        mask = item["mask"][0]
        assert mask.sum() == 5 * 8 * 3
        inside = [mask.any(dim=tuple({0, 1, 2} - {axis})).nonzero().ravel() for axis in range(3)]
        offsets.add((int(inside[0][0]), int(inside[2][0])))
        box = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in inside)
        assert mask[box].all()
        assert item["image"][1][box][:, 0, 0].tolist() == list(range(5))  # all of the short axes, in its place
        # outside, the image goes on as its edge
        assert set(item["image"][1].unique().tolist()) == set(range(5))
        first, last = int(inside[0][0]), int(inside[0][-1])
        assert (item["image"][1][:first] == 0).all()
        assert (item["image"][1][last:] == 4).all()
    assert {x for x, _ in offsets} == {0, 1, 2, 3}
    assert {z for _, z in offsets} == {0, 1, 2, 3, 4, 5}


def test_outside_a_labelled_volume_only_background_goes_on() -> None:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[-1, :, :3] = 1  # cut by the end of the volume along the first axis
    labels[:, :, 6:] = IGNORE
    patches = dataset([prepared(labels.shape, 0, labels)], (8, 8, 8))
    for step in range(20):
        item = patches[step, 0]
        label, mask = item["label"][0], item["mask"][0]
        start = int((item["image"][1, :, 0, 0] > 0).nonzero()[0]) - 1  # the ramp 0, 1, 2, 3 begins before its 1
        before, inside, after = slice(0, start), slice(start, start + 4), slice(start + 4, 8)
        assert torch.equal(label[inside], torch.from_numpy(labels))
        assert mask[inside, :, :6].all()
        assert mask[before, :, :6].all()
        assert mask[after, :, 3:6].all()
        assert not mask[after, :, :3].any()
        assert not mask[:, :, 6:].any()
        assert not label[before, :, :6].any()
        assert (label[after, :, :3] == 1).all()


def test_what_the_label_ignores_is_masked() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[:3], labels[3:5] = IGNORE, 1
    item = dataset([prepared(labels.shape, 0, labels)])[0, 0]
    assert not item["mask"][0, :3].any()
    assert item["mask"][0, 3:].all()
    assert (item["label"][0, :3] == IGNORE).all()
    assert (item["label"][0, 3:5] == 1).all()


def test_an_unlabelled_case_has_a_mask_and_no_label() -> None:
    item = dataset([prepared((5, 9, 9))])[0, 0]
    assert (item["label"] == IGNORE).all()
    assert item["mask"].sum() == 5 * 8 * 8


def test_items_may_be_written_to(tmp_path: Path, small_plan: Callable) -> None:
    """The cache is memory-mapped and read-only; a patch is the batch's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    image, label = folder / "a.nii.gz", folder / "a_label.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32), np.eye(4)), image)
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4)), label)
    plan = small_plan()
    patches = PatchDataset(
        [Case("a", (image,), label)], CaseCache(tmp_path / "cache", plan, plan.classes), (8, 8, 8), 1, 0
    )
    before = {name: tensor.clone() for name, tensor in patches[0, 0].items()}
    for tensor in patches[0, 0].values():
        tensor.zero_()
    for name, tensor in patches[0, 0].items():
        assert torch.equal(tensor, before[name])


def test_voxels_of_each_class() -> None:
    ignoring = np.full((4, 4, 4), IGNORE, np.uint8)
    ignoring[0, 0] = [0, 0, 2, 2]
    patches = dataset([labelled((20, 16, 12)), prepared((4, 4, 4), 0, ignoring), prepared((9, 9, 9))])
    assert patches.class_voxels == [20 * 16 * 12 - 28 + 2, 27, 1 + 2]
    assert dataset([]).class_voxels == [0, 0, 0]


def test_length_and_emptiness() -> None:
    assert len(dataset([labelled(), labelled()])) == 2
    assert len(dataset([])) == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    patch=st.tuples(*[st.integers(1, 10)] * 3),
    fill=st.sampled_from([0, 1, 2, IGNORE]),
    foreground=st.sampled_from([0.0, 0.5, 1.0]),
    step=st.integers(0, 1000),
)
def test_any_volume_and_any_patch(
    shape: tuple[int, int, int], patch: tuple[int, int, int], fill: int, foreground: float, step: int
) -> None:
    labels = np.full(shape, fill, np.uint8)
    item = dataset([prepared(shape, 0, labels)], patch, foreground=foreground)[step, 0]
    assert item["image"].shape == (4, *patch)
    inside = int(np.prod(np.minimum(shape, patch)))
    assert item["mask"].sum() == {0: np.prod(patch), IGNORE: 0}.get(fill, inside)
    assert (item["label"] == fill).all()


@pytest.mark.parametrize("batch", [0, 1.5])
def test_a_batch_is_a_positive_whole_number(batch: int) -> None:
    with pytest.raises(InputError, match=f"{batch} labelled patches a step"):
        dataset([prepared((8, 8, 8))], batch=batch)
