"""The streamed way from a volume to labels against the plain one, which holds everything."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from medseg.data.geometry import Geometry
from medseg.data.preprocess import Grid, plan_grid, to_native
from medseg.inference.ensemble import Ensemble
from medseg.inference.head import split
from medseg.inference.inferer import PlannedInferer
from medseg.inference.reduce import PROBABILITY_STEP
from medseg.inference.resample import native_rows
from medseg.inference.sliding_window import sliding_window, stream
from medseg.inference.volumes import VolumeItem, predict_labels, segment
from medseg.inference.windows import gaussian_profile, outer, window_starts
from medseg.networks.unet import planned_unet
from medseg.plan import Plan, Region

sizes = st.tuples(*[st.integers(1, 13)] * 3)
MakePlan = Callable[..., Plan]


def _volume(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _blur(x: Tensor) -> Tensor:
    """Zeros come in at a window's border, so windows disagree there and the weights matter."""
    return torch.cat([F.conv3d(x, torch.full((1, 1, 3, 3, 3), 1 / 27), padding=1), x.roll(1, dims=2)], dim=1)


def _plain(volume: Tensor, network: Callable[[Tensor], Tensor], patch: Sequence[int], overlap: float) -> Tensor:
    """All windows of a volume not smaller than the patch, in float64, with sums and weights of the whole volume."""
    weights = outer([gaussian_profile(p) for p in patch]).double()
    total: Any = 0
    norm = torch.zeros(volume.shape[1:], dtype=torch.float64)
    starts = [window_starts(n, p, overlap) for n, p in zip(volume.shape[1:], patch, strict=True)]
    for corner in itertools.product(*starts):
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        output = network(volume[(slice(None), *window)][None])[0].double()
        if isinstance(total, int):
            total = torch.zeros((len(output), *volume.shape[1:]), dtype=torch.float64)
        total[(slice(None), *window)] += output * weights
        norm[window] += weights
    return (total / norm).float()


@settings(max_examples=40)
@given(shape=sizes, patch=sizes, overlap=st.floats(0, 0.8), batch=st.integers(1, 5))
@example(shape=(13, 3, 4), patch=(4, 3, 4), overlap=0.0, batch=3)
@example(shape=(1, 13, 7), patch=(1, 5, 8), overlap=0.5, batch=2)
def test_slabs_follow_each_other_and_are_the_plain_result(
    shape: tuple[int, ...], patch: tuple[int, ...], overlap: float, batch: int
) -> None:
    patch = tuple(min(p, n) for p, n in zip(patch, shape, strict=True))
    volume, at, seen = _volume(1, *shape), 0, []
    expected = _plain(volume, _blur, patch, overlap)
    for slab in stream(volume, _blur, patch, overlap, batch):
        assert (slab.start, slab.covered) == (at, None)
        assert slab.stop - slab.start <= patch[slab.axis]
        seen.append(slab.axis)
        at = slab.stop
        part = expected.narrow(slab.axis + 1, slab.start, slab.stop - slab.start)
        torch.testing.assert_close(slab.values, part, rtol=1e-5, atol=1e-5)
    assert at == shape[seen[0]]
    assert len(set(seen)) == 1


def test_the_layout_of_the_output_does_not_matter() -> None:
    volume = _volume(1, 11, 9, 10)
    inner = sliding_window(volume, lambda x: _blur(x).contiguous(memory_format=torch.channels_last_3d), (4, 4, 4))
    assert torch.equal(inner, sliding_window(volume, _blur, (4, 4, 4)))


@settings(max_examples=40)
@given(have=sizes, want=st.tuples(*[st.integers(1, 20)] * 3), inner=st.booleans(), elements=st.integers(1, 500))
def test_rows_on_the_own_grid_are_trilinear(
    have: tuple[int, int, int], want: tuple[int, int, int], inner: bool, elements: int
) -> None:
    volume = _volume(2, *have)
    layout = torch.channels_last_3d if inner else torch.contiguous_format
    slabs = stream(volume, lambda x: x.contiguous(memory_format=layout), [min(4, n) for n in have], batch=1)
    result = torch.full((2, *want), torch.nan)
    for rows in native_rows(slabs, have, want, elements):
        part = rows.values.reshape(2, -1, rows.length)
        result.movedim(rows.axis + 1, 1)[:, rows.plane, rows.first : rows.first + part.shape[1]] = part
    expected = F.interpolate(volume[None], want, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def _item(shape: tuple[int, int, int], affine: np.ndarray, plan: Plan) -> VolumeItem:
    geometry = Geometry(shape, affine)
    grid = plan_grid(geometry, plan.spacing)
    return VolumeItem("a", None, _volume(len(plan.channels), *grid.target).numpy(), grid, geometry, None)  # type: ignore[arg-type]


TURNED = np.array([[0, 0, 1.6, 0], [-0.8, 0, 0, 5], [0, 1.2, 0, 7], [0, 0, 0, 1]])
NINE = dict(enumerate("012345678"))


def _plain_logits(item: VolumeItem, networks: Sequence[Callable[[Tensor], Tensor]], plan: Plan) -> Tensor:
    with torch.no_grad():
        volume = torch.from_numpy(item.images)
        return torch.stack([_plain(volume, n, plan.patch_size, plan.inference.overlap) for n in networks]).mean(0)


def _plain_labels(logits: Tensor, grid: Grid) -> np.ndarray:
    native = F.interpolate(logits[None], grid.canonical, mode="trilinear", align_corners=False)[0]
    return to_native(native.argmax(0).numpy(), grid)


@pytest.mark.parametrize(("members", "mirror"), [(1, True), (2, False), (3, False)])
def test_labels_are_those_of_the_plain_method(small_plan: MakePlan, members: int, mirror: bool) -> None:
    """Nine classes and last maps of four channels, so that these are blended; the file's axes are turned and its grid
    is another one; voxels in which the two best classes are closer than rounding may differ."""
    plan = small_plan(classes=NINE, inference={"overlap": 0.4, "mirror_axes": (0, 2)})
    networks = [planned_unet(plan, seed=i).eval() for i in range(members)]
    item = _item((24, 20, 31), TURNED, plan)
    flips = [[], [2], [4], [2, 4]] if mirror else [[]]
    seen = [lambda x, n=n: sum(n(x.flip(f)).flip(f) for f in flips) / len(flips) for n in networks]
    logits = _plain_logits(item, seen, plan)
    expected = _plain_labels(logits, item.grid)
    inferer = PlannedInferer(plan, mirror=mirror)
    assert (split(networks).head is not None) == (4 * members < 9)
    found = segment(item, networks, inferer, plan, uncertainty=True)
    assert np.array_equal(predict_labels(item, Ensemble(networks), inferer, plan), found.labels)
    native = F.interpolate(logits[None], item.grid.canonical, mode="trilinear", align_corners=False)[0]
    best = native.topk(2, dim=0).values
    ties = to_native((best[0] - best[1] < 1e-4).numpy(), item.grid)
    assert found.labels.shape == item.geometry.shape
    assert len(np.unique(found.labels)) > 3
    assert np.array_equal(found.labels[~ties], expected[~ties])
    assert ties.mean() < 0.01

    p = native.softmax(0)
    entropy = (-(p * p.log()).sum(0) / np.log(9)).numpy()
    assert np.isclose(found.uncertainty.mean(), entropy.mean(), atol=1e-4)
    of_best = p.amax(0)[native.argmax(0) == 3].mean().item()
    assert found.confidence[3] == pytest.approx(of_best, abs=1e-3)


def test_probabilities_lie_on_the_own_grid(small_plan: MakePlan) -> None:
    plan = small_plan(classes=NINE)
    network = planned_unet(plan, seed=1).eval()
    item = _item((24, 20, 31), TURNED, plan)
    room = np.zeros((9, *item.grid.canonical), np.uint16)
    found = segment(item, [network], PlannedInferer(plan), plan, probabilities=room)
    assert found.probabilities is not None
    assert found.probabilities.shape == (*item.geometry.shape, 9)
    p = found.probabilities * PROBABILITY_STEP
    assert np.allclose(p.sum(-1), 1, atol=1e-3)
    assert (np.take_along_axis(p, found.labels[..., None].astype(int), -1)[..., 0] >= p.max(-1) - 1e-4).all()


def test_regions_are_painted_in_their_order(small_plan: MakePlan) -> None:
    regions = (Region(name="whole", values=(1, 7), painted=1), Region(name="core", values=(7,), painted=7))
    plan = small_plan(classes={0: "b", 1: "edge", 7: "core"}, regions=regions)
    network = lambda x: torch.cat([x, x.roll(1, 3)], dim=1)  # noqa: E731
    item = _item((16, 17, 9), np.eye(4), plan)
    logits = _plain_logits(item, [network], plan)
    expected = np.where(logits[1] > 0, 7, np.where(logits[0] > 0, 1, 0))
    found = segment(item, [network], PlannedInferer(plan), plan)
    assert np.array_equal(found.labels, expected)
    assert set(found.confidence) == {1, 7}
    assert all(0.5 < p < 1 for p in found.confidence.values())


def test_windows_outside_the_body_are_left_out(small_plan: MakePlan) -> None:
    plan = small_plan(patch_size=(8, 8, 8), network={"strides": ((1, 1, 1), (2, 2, 2))})
    calls = []

    def network(x: Tensor) -> Tensor:
        calls.append(len(x))
        return torch.cat([1 - x, x], dim=1)

    item = _item((48, 16, 16), np.eye(4), plan)
    item.images[:] = 0
    item.images[:, 20:26, 6:10, 6:10] = 2
    everywhere = segment(item, [network], PlannedInferer(plan), plan)
    all_windows = sum(calls)
    calls.clear()
    skipping = segment(item, [network], PlannedInferer(plan, skip_outside=True), plan)
    assert sum(calls) < all_windows / 2
    assert everywhere.labels.sum() == 6 * 4 * 4
    assert np.array_equal(skipping.labels, everywhere.labels)

    item.images[:] = 0  # nothing of a body: one window, all background, also for a network that sees an organ in air
    alone = segment(item, [lambda x: torch.cat([x, x + 1], 1)], PlannedInferer(plan, skip_outside=True), plan)
    assert (alone.labels[8:] == 0).all()


def test_memory_grows_with_the_slab_not_with_the_volume(small_plan: MakePlan) -> None:
    """The peak of what torch has allocated at once, by its profiler."""
    classes = 64
    plan = small_plan(classes={i: str(i) for i in range(classes)}, inference={"overlap": 0.2, "batch": 1})
    network = planned_unet(plan).eval()
    peaks = []
    for length in (48, 144):
        item = _item((length, 32, 16), np.eye(4), plan)
        with torch.profiler.profile(profile_memory=True) as profile:
            segment(item, [network], PlannedInferer(plan), plan)
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        peaks.append(int(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).max()))
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 0.35 * (144 * 32 * 16 * classes * 4)


def test_a_call_with_a_batch_is_that_of_monai(small_plan: MakePlan) -> None:
    plan = small_plan()
    volume = _volume(1, 20, 16, 8)
    inferer, network = PlannedInferer(plan), planned_unet(plan).eval()
    assert torch.equal(inferer(volume[None], network)[0], inferer(volume, network))
    with pytest.raises(ValueError, match="batch of 2"):
        inferer(torch.stack([volume, volume]), network)


def test_an_ensemble_needs_a_member() -> None:
    with pytest.raises(ValueError, match="at least one"):
        split([])


def test_all_that_predicts_mirrors_alike(small_plan: MakePlan) -> None:
    from medseg.share import bundle_folder

    plan = small_plan(inference={"mirror_axes": (0, 2)})
    axes = {device: PlannedInferer(plan, device).mirrored_axes for device in (None, "cpu", "cuda:1")}
    assert axes == {None: (), "cpu": (), "cuda:1": (0, 2)}
    assert PlannedInferer(plan, "cuda", mirror=False).mirrored_axes == ()
    read = {name: yaml.safe_load((bundle_folder() / f"configs/{name}.yaml").read_text())
            for name in ("train", "evaluate", "inference")}  # fmt: skip
    assert read["evaluate"]["mirror"] is None
    assert read["inference"]["mirror"] is None
    assert read["train"]["train"]["inferer"]["mirror"] is False  # a validation is one of many
