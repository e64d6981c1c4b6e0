from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.nn import functional as F

from medseg.inference.sliding_window import sliding_window
from medseg.inference.windows import gaussian_profile, window_starts

sizes = st.tuples(*[st.integers(1, 13)] * 3)


def _identity(x: Tensor) -> Tensor:
    return x


def _mean_of_neighbours(x: Tensor) -> Tensor:
    """Zeros come in at a window's border, so windows disagree there and the weights matter."""
    return F.avg_pool3d(x, 3, stride=1, padding=1)


def _volume(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@settings(deadline=None)
@given(size=st.integers(1, 300), patch=st.integers(1, 64), overlap=st.floats(0, 0.95))
@example(size=7, patch=1, overlap=0.9)
def test_windows_cover_an_axis_exactly(size: int, patch: int, overlap: float) -> None:
    size = max(size, patch)
    starts = window_starts(size, patch, overlap)
    assert starts[0] == 0
    assert starts[-1] + patch == size
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(1 <= gap <= max(patch * (1 - overlap), 1) + 1 for gap in gaps)
    assert max(gaps, default=0) <= patch
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_no_more_windows_than_needed() -> None:
    assert window_starts(8, 8, 0.5) == [0]
    assert window_starts(16, 8, 0.5) == [0, 4, 8]
    assert window_starts(16, 8, 0) == [0, 8]
    assert window_starts(22, 10, 0.7) == [0, 3, 6, 9, 12]  # 10 * (1 - 0.7) is not 3 in floating point
    assert window_starts(5, 1, 0.5) == [0, 1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(shape=sizes, patch=sizes, overlap=st.floats(0, 0.8), batch=st.integers(1, 5))
@example(shape=(1, 1, 1), patch=(8, 8, 8), overlap=0.5, batch=2)
@example(shape=(1, 13, 7), patch=(1, 5, 8), overlap=0.5, batch=2)
def test_identity_gives_the_volume_whatever_the_shapes(
    shape: tuple[int, ...], patch: tuple[int, ...], overlap: float, batch: int
) -> None:
    volume = _volume(2, *shape)
    result = sliding_window(volume, _identity, patch, overlap, batch)
    torch.testing.assert_close(result, volume, rtol=1e-5, atol=1e-5)


def test_one_window_is_the_direct_forward() -> None:
    volume = _volume(1, 9, 7, 8)
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    result = sliding_window(volume, network, (9, 7, 8))
    assert not result.requires_grad
    torch.testing.assert_close(result, network(volume[None])[0].detach())


def test_a_small_volume_is_padded_with_its_edge_on_both_sides() -> None:
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    volume = torch.arange(1.0, 4.0).reshape(1, 1, 1, 3)
    torch.testing.assert_close(sliding_window(volume, network, (2, 1, 6)), volume)
    (window,) = seen
    assert window[0, 0, :, 0].tolist() == [[1, 1, 2, 3, 3, 3]] * 2


def _monai(volume: Tensor, **options: object) -> Tensor:
    return sliding_window_inference(
        volume[None], (8, 8, 8), 3, _mean_of_neighbours, overlap=0.5, mode="gaussian", **options
    )[0]


def test_agrees_with_monai_to_rounding_with_the_same_windows_and_weights() -> None:
    volume = _volume(2, 16, 12, 20)  # multiples of half a patch: MONAI's windows are evenly spaced too
    profile = gaussian_profile(8)
    weights = profile[:, None, None] * profile[:, None] * profile
    ours = sliding_window(volume, _mean_of_neighbours, (8, 8, 8), overlap=0.5, batch=3)
    torch.testing.assert_close(ours, _monai(volume, roi_weight_map=weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 12, 20), (17, 11, 21)])
def test_agrees_with_monai_gaussian_mode(shape: tuple[int, ...]) -> None:
    """Within 0.03 of values of spread 0.2, and nearer to the network applied to the whole volume at once.

    MONAI's weights have a floor of 0.001 and its last window is shifted back where ours are evenly spaced:
    along the volume's edges the floor makes a window's border, where it knows least, count as much as
    another's middle.
    """
    volume = _volume(2, *shape)
    ours = sliding_window(volume, _mean_of_neighbours, (8, 8, 8), overlap=0.5)
    theirs, whole = _monai(volume), _mean_of_neighbours(volume[None])[0]
    assert _rms(ours - theirs) < 0.03
    assert _rms(ours - whole) < 0.1 * _rms(theirs - whole)


def _rms(x: Tensor) -> float:
    return x.pow(2).mean().sqrt().item()


def test_windows_that_disagree_pass_into_each_other() -> None:
    calls = iter(range(3))

    def network(x: Tensor) -> Tensor:
        return torch.full_like(x, float(next(calls)))

    line = sliding_window(torch.zeros(1, 64, 1, 1), network, (32, 1, 1), overlap=0.5, batch=1)[0, :, 0, 0]
    assert line[8].item() == pytest.approx(0, abs=0.01)
    assert line[23:25].mean().item() == pytest.approx(0.5)  # halfway between two centres
    assert line[31:33].mean().item() == pytest.approx(1)
    assert line[56].item() == pytest.approx(2, abs=0.01)
    assert line.diff().min() >= 0
    assert line.diff().max() < 0.25


def test_sums_in_float32_whatever_the_network_gives() -> None:
    volume = _volume(1, 24, 9, 9)
    result = sliding_window(volume, lambda x: x.bfloat16(), (8, 8, 8), overlap=0.75)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, volume.bfloat16().float(), rtol=1e-5, atol=1e-6)


def test_batches_and_progress() -> None:
    calls, seen = [], []

    def network(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.repeat(1, 4, 1, 1, 1)

    volume = _volume(1, 16, 8, 8)
    result = sliding_window(volume, network, (8, 8, 8), batch=2, progress=lambda *done: seen.append(done))
    assert result.shape == (4, 16, 8, 8)
    assert calls == [2, 1]
    assert seen == [(2, 3), (3, 3)]


def test_a_meta_tensor_gives_a_plain_one() -> None:
    volume = _volume(1, 9, 9, 9)
    result = sliding_window(MetaTensor(volume), _identity, (8, 8, 8))
    assert type(result) is Tensor
    torch.testing.assert_close(result, volume)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 1, 4, 4, 4), {}, "volume must be"),
        ((1, 0, 4, 4), {}, "volume must be"),
        ((1, 4, 4, 4), {"patch": (4, 4)}, "three sizes"),
        ((1, 4, 4, 4), {"patch": (4, 4, 0)}, "three sizes"),
        ((1, 4, 4, 4), {"overlap": 1.0}, r"overlap must be in \[0, 1\)"),
        ((1, 4, 4, 4), {"batch": 0}, "batch must be"),
        ((1, 4, 4, 4), {"network": lambda x: x[..., :2]}, r"found \(1, 1, 4, 4, 2\)"),
    ],
)
def test_exception(shape, arguments, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        sliding_window(torch.zeros(shape), **({"network": _identity, "patch": (4, 4, 4)} | arguments))
