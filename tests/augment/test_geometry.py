from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.augment import GeometryAugment, apply_geometry, inverse

ISOTROPIC = (1.0, 1.0, 1.0)
spacings = st.tuples(*[st.floats(0.3, 6)] * 3)


def volume(shape: tuple[int, ...], seed: int = 0, samples: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(samples, 1, *shape)).astype(np.float32))


def everywhere(image: Tensor) -> Tensor:
    return torch.ones_like(image[:, :1], dtype=torch.bool)


def no_label(image: Tensor) -> Tensor:
    return torch.zeros_like(image[:, :1], dtype=torch.uint8)


def turn(axis: int, degrees: float) -> np.ndarray:
    a, b = (i for i in range(3) if i != axis)
    matrix, angle = np.eye(3), math.radians(degrees)
    matrix[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return matrix


def in_voxels(matrix: np.ndarray, spacing: tuple[float, ...]) -> Tensor:
    mm = np.diag(spacing)
    return torch.from_numpy(np.linalg.inv(mm) @ matrix @ mm).float()[None]


def positions(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """Of each voxel, in mm from the middle of the patch: (*shape, 3)."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


# ---- what is drawn


@given(st.integers(0, 2**31), st.integers(0, 10**5), st.integers(1, 4))
def test_matrices_are_a_function_of_seed_step_and_sample(seed: int, step: int, samples: int) -> None:
    augment = GeometryAugment(flip_axes=(0, 1, 2))
    matrices = augment.draw(seed, step, range(samples), ISOTROPIC, "x")
    assert matrices.shape == (samples, 3, 3)
    assert matrices.dtype == torch.float32
    assert torch.equal(matrices, augment.draw(seed, step, range(samples), ISOTROPIC, "x"))
    # more samples beside it change none of a batch
    assert torch.equal(augment.draw(seed, step, range(samples + 3), ISOTROPIC, "x")[:samples], matrices)


def test_samples_steps_seeds_and_purposes_differ() -> None:
    augment = GeometryAugment(share=1.0)
    found = [
        *augment.draw(0, 0, range(3), ISOTROPIC, "x"),
        *(
            augment.draw(*key, ISOTROPIC, purpose)[0]
            for *key, purpose in [(1, 0, [0], "x"), (0, 1, [0], "x"), (0, 0, [0], "y")]
        ),
    ]
    assert len({tuple(matrix.ravel().tolist()) for matrix in found}) == len(found)


@given(spacings, st.integers(0, 1000))
def test_matrices_are_rotations_scalings_and_flips_in_mm(spacing: tuple[float, ...], step: int) -> None:
    augment = GeometryAugment(rotation=30, scale=(0.5, 2.0), flip_axes=(0, 2), share=0.8)
    mm = np.diag(spacing)
    for matrix in augment.draw(0, step, range(3), spacing, "x").double().numpy():
        turned = mm @ matrix @ np.linalg.inv(mm)
        scale = np.cbrt(abs(np.linalg.det(turned)))
        assert 0.5 - 1e-5 <= scale <= 2 + 1e-5
        assert np.allclose(turned / scale @ (turned / scale).T, np.eye(3), atol=1e-4)
        # angles of 30 degrees leave each axis on its side; flips are of the first and third alone
        assert (np.abs(np.diag(turned)) / scale > 0.3).all()
        assert turned[1, 1] > 0


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_of_samples_that_are_turned_and_that_are_scaled(share: float) -> None:
    matrices = GeometryAugment(share=share).draw(0, 0, range(400), ISOTROPIC, "x").double()
    scaled = (torch.linalg.det(matrices).sub(1).abs() > 1e-4).double().mean()
    turned = (
        ((matrices / torch.linalg.det(matrices)[:, None, None] ** (1 / 3) - torch.eye(3)).abs() > 1e-4).any(2).any(1)
    )
    assert scaled == pytest.approx(share, abs=0.1)
    assert turned.double().mean() == pytest.approx(share, abs=0.1)
    both = ((matrices - torch.eye(3)).abs() > 1e-4).any(2).any(1).double().mean()
    assert both == pytest.approx(1 - (1 - share) ** 2, abs=0.1)  # drawn one by one


def test_scaling_is_even_in_logarithms_and_larger_means_larger() -> None:
    matrices = GeometryAugment(rotation=0, scale=(0.5, 2.0), share=1.0).draw(0, 0, range(500), ISOTROPIC, "x")
    factors = 1 / matrices[:, 0, 0]  # output to input positions: a smaller step is a larger image
    assert factors.min() >= 0.5
    assert factors.max() <= 2
    assert factors.log().mean() == pytest.approx(0, abs=0.08)
    assert (factors > 1).float().mean() == pytest.approx(0.5, abs=0.07)


def test_flips_are_mirrored_half_of_the_time() -> None:
    augment = GeometryAugment(rotation=0, scale=(1, 1), flip_axes=(0, 2))
    diagonals = augment.draw(0, 0, range(400), ISOTROPIC, "x").diagonal(dim1=1, dim2=2)
    assert (diagonals[:, 1] == 1).all()
    for axis in (0, 2):
        assert (diagonals[:, axis] == -1).float().mean() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    "options", [{"scale": (0, 1)}, {"scale": (2, 1)}, {"share": 3}, {"bend": -1}, {"flip_axes": (3,)}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*, found"):
        GeometryAugment(**options)


def test_nothing_to_draw_is_the_identity() -> None:
    for augment in (GeometryAugment(share=0), GeometryAugment(rotation=0, scale=(1, 1))):
        assert torch.equal(augment.draw(0, 0, range(3), (0.7, 1, 3), "x"), torch.eye(3).expand(3, 3, 3))


# ---- how it is applied


@settings(max_examples=25)
@given(st.tuples(*[st.integers(1, 13)] * 3), st.integers(1, 3))
def test_the_identity_gives_the_input_back(shape: tuple[int, int, int], channels: int) -> None:
    image = volume(shape, samples=2).repeat(1, channels, 1, 1, 1)
    label = torch.randint(0, 200, (2, 1, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mask = label > 80
    matrices = torch.eye(3).repeat(2, 1, 1)
    matrices[1, 0, 1] = 1e-9  # the first is left alone, this one is sampled
    moved = apply_geometry(image, label, mask, matrices)
    assert torch.equal(moved.image[0], image[0])
    assert torch.allclose(moved.image, image, atol=1e-5)
    assert torch.equal(moved.label, label)
    assert torch.equal(moved.mask, mask)
    assert (moved.image.dtype, moved.label.dtype, moved.mask.dtype) == (torch.float32, torch.uint8, torch.bool)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(8, 6, 4), (7, 5, 3)])
def test_flips(axes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    image = volume(shape)
    label = (image * 50).abs().byte()
    matrix = torch.diag(torch.tensor([-1.0 if axis in axes else 1.0 for axis in range(3)]))[None]
    moved = apply_geometry(image, label, label > 20, matrix)
    dims = [axis + 2 for axis in axes]
    assert torch.allclose(moved.image, image.flip(dims), atol=1e-5)
    assert torch.equal(moved.label, label.flip(dims))
    assert torch.equal(moved.mask, (label > 20).flip(dims))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns(axis: int, quarters: int) -> None:
    image = volume((9, 9, 9))
    label = (image * 50).abs().byte()
    moved = apply_geometry(image, label, label > 20, in_voxels(turn(axis, 90 * quarters), ISOTROPIC))
    a, b = (i + 2 for i in range(3) if i != axis)
    # output x comes from input R x: content turns by -90 degrees from axis a towards axis b
    expected = torch.rot90(image, -quarters, (a, b))
    assert torch.allclose(moved.image, expected, atol=1e-4)
    assert torch.equal(moved.label, torch.rot90(label, -quarters, (a, b)))


@given(st.integers(0, 10_000), spacings, st.tuples(*[st.integers(6, 14)] * 3))
def test_image_label_and_mask_move_together(step: int, spacing: tuple[float, ...], shape: tuple[int, int, int]) -> None:
    """A box as image, as label and as mask: the label is the image at a half, but where voxels lie on the threshold."""
    box = torch.zeros(1, 1, *shape)
    box[0, 0, shape[0] // 4 : -2, 1 : -(shape[1] // 4), 2:-2] = 1
    augment = GeometryAugment(rotation=40, scale=(0.7, 1.4), flip_axes=(0, 1, 2), share=0.9)
    moved = apply_geometry(box, box.byte(), box.bool(), augment.draw(1, step, range(1), spacing, "x"))
    assert torch.equal(moved.label.bool(), moved.mask)
    # nearest and linear interpolation agree where the linear value is beyond what one of eight neighbours can do
    assert moved.label[moved.image > 7 / 8].all()
    assert not (moved.label.bool() & (moved.image < 1 / 8)).any()
    assert (moved.label.float() - moved.image).abs().mean() < 0.15


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.5, 3.0), (4.0, 1.0, 1.0)])
@pytest.mark.parametrize("degrees", [15, 45, 60])
def test_rotations_are_rotations_in_mm(spacing: tuple[float, ...], degrees: float) -> None:
    """A ball stays itself, and a rod turns by the angle, whatever the voxels."""
    shape = tuple(int(40 // s) | 1 for s in spacing)
    where = positions(shape, spacing)
    ball = torch.from_numpy(np.linalg.norm(where, axis=-1) <= 16).byte()[None, None]
    for axis in range(3):
        matrix = in_voxels(turn(axis, degrees), spacing)
        moved = apply_geometry(ball.float(), ball, ball.bool(), matrix)
        overlap = 2 * (moved.label & ball).sum() / (moved.label.sum() + ball.sum())
        assert overlap > 0.9  # the surface is one of voxels
        # a plane through the middle: its normal is turned the other way
        normal = np.eye(3)[(axis + 1) % 3]
        slope = torch.from_numpy(where @ normal).float()[None, None]
        turned = apply_geometry(slope, ball, ball.bool(), matrix).image[0, 0].double().numpy()
        inner = np.linalg.norm(where, axis=-1) < 14
        assert np.allclose(turned[inner], (where @ (turn(axis, degrees).T @ normal))[inner], atol=1e-3)


@pytest.mark.parametrize("spacing", [ISOTROPIC, (0.7, 1.5, 3.0)])
def test_the_inverse_undoes_a_turn(spacing: tuple[float, ...]) -> None:
    shape = tuple(int(40 // s) | 1 for s in spacing)
    where = positions(shape, spacing)
    image = torch.from_numpy(np.sin(where @ [0.2, 0.1, 0.15])).float()[None, None].expand(4, 1, *shape)
    label = torch.from_numpy((np.abs(where) < 7).all(-1)).byte()[None, None].expand(4, 1, *shape)
    matrices = GeometryAugment(flip_axes=(0, 1, 2), share=1.0).draw(0, 0, range(4), spacing, "x")
    moved = apply_geometry(image, label, label >= 0, matrices)
    back = apply_geometry(*moved, inverse(matrices))
    inner = torch.from_numpy(np.linalg.norm(where, axis=-1) < 12)
    assert (moved.image - image)[..., inner].abs().mean() > 0.1
    assert (back.image - image)[..., inner].abs().max() < 0.1
    assert 2 * (back.label & label).sum() / (back.label.sum() + label.sum()) > 0.9


def test_zooming_in_enlarges() -> None:
    where = positions((21, 21, 21), ISOTROPIC)
    ball = torch.from_numpy(np.linalg.norm(where, axis=-1) <= 4.2).byte()[None, None]
    matrix = torch.eye(3)[None] / 2
    moved = apply_geometry(ball.float(), ball, ball.bool(), matrix)
    expected = torch.from_numpy(np.linalg.norm(where, axis=-1) <= 8.4).byte()[None, None]
    assert 2 * (moved.label & expected).sum() / (moved.label.sum() + expected.sum()) > 0.9


@pytest.fixture
def halved() -> tuple[Tensor, Tensor]:
    """The matrix that makes a patch half as large, and what then lies inside of 8x8x8 voxels."""
    inside = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    inside[..., 2:6, 2:6, 2:6] = True
    return 2 * torch.eye(3)[None], inside


def test_all_three_go_on_as_their_edge(halved: tuple[Tensor, Tensor]) -> None:
    image = volume((8, 8, 8)) + 5
    label = torch.arange(8).view(1, 1, 8, 1, 1).expand(image.shape).byte()
    moved = apply_geometry(image, label, everywhere(image), halved[0])
    assert torch.equal(moved.image[0, 0, 0, 0, 0], image[0, 0, 0, 0, 0])  # no zeros come in
    assert torch.equal(moved.image[0, 0, -1, -1, -1], image[0, 0, -1, -1, -1])
    assert moved.label[0, 0, [0, 1, 6, 7], 0, 0].tolist() == [0, 0, 7, 7]


def test_foreground_that_continues_outside_is_masked(halved: tuple[Tensor, Tensor]) -> None:
    image = volume((8, 8, 8))
    moved = apply_geometry(image, torch.full_like(no_label(image), 3), everywhere(image), halved[0])
    assert torch.equal(moved.mask, halved[1])


def test_background_that_continues_outside_is_known(halved: tuple[Tensor, Tensor]) -> None:
    image = volume((8, 8, 8))
    assert apply_geometry(image, no_label(image), everywhere(image), halved[0]).mask.all()
    # unless it was masked at the edge
    mask = everywhere(image)
    mask[:, :, 0] = False
    moved = apply_geometry(image, no_label(image), mask, halved[0])
    assert not moved.mask[:, :, :2].any()
    assert moved.mask[:, :, 4:].all()


def test_what_was_masked_stays_masked() -> None:
    image = volume((8, 8, 8))
    mask = everywhere(image)
    mask[:, :, :3] = False
    matrices = GeometryAugment(share=1.0).draw(0, 0, range(1), ISOTROPIC, "x")
    label = torch.ones_like(no_label(image))
    moved = apply_geometry(image, label, mask, matrices)
    whole = apply_geometry(image, label, everywhere(image), matrices)
    assert not (moved.mask & ~whole.mask).any()
    assert 0 < moved.mask.sum() < whole.mask.sum()


def test_each_sample_has_its_own_matrix() -> None:
    image = volume((8, 8, 8), samples=3)
    label = (image * 50).abs().byte()
    matrices = GeometryAugment(share=1.0, flip_axes=(0, 1)).draw(5, 0, range(3), ISOTROPIC, "x")
    matrices[1] = torch.eye(3)
    together = apply_geometry(image, label, label > 9, matrices)
    for i in range(3):
        alone = apply_geometry(image[i : i + 1], label[i : i + 1], label[i : i + 1] > 9, matrices[i : i + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_of_them[i])


def test_inputs_are_not_changed() -> None:
    image = volume((6, 6, 6))
    label, mask = (image * 50).abs().byte(), image > 0
    copies = [tensor.clone() for tensor in (image, label, mask)]
    apply_geometry(image, label, mask, GeometryAugment(share=1.0).draw(0, 0, range(1), ISOTROPIC, "x"))
    assert all(torch.equal(a, b) for a, b in zip((image, label, mask), copies, strict=True))


def test_a_bend_that_is_the_same_everywhere_shifts_by_its_voxels() -> None:
    image = volume((8, 9, 10))
    shifts = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1, 1).expand(1, 3, 5, 5, 5)
    moved = apply_geometry(image, (image > 0).byte(), image > -1, torch.eye(3)[None], shifts)
    there, here = (..., slice(7), slice(2, None), slice(7)), (..., slice(1, None), slice(7), slice(3, None))
    assert torch.allclose(moved.image[there], image[here], atol=1e-5)
    assert torch.equal(moved.label[there], (image > 0).byte()[here])
    assert torch.equal(moved.mask[there], (image > -1)[here])


def test_bends_are_drawn_in_mm_for_their_share() -> None:
    augment, spacing = GeometryAugment(bend=2.0, share=0.5), (1.0, 2.0, 4.0)
    bends = augment.draw_bends(0, 0, range(200), spacing, "x")
    assert bends is not None
    bent = bends.flatten(1).any(1)
    assert bent.float().mean() == pytest.approx(0.5, abs=0.1)
    assert bends[bent].transpose(0, 1).flatten(1).std(1).tolist() == pytest.approx([2, 1, 0.5], rel=0.05)
    again = augment.draw_bends(0, 0, range(3), spacing, "x")
    assert again is not None
    assert torch.equal(again, bends[:3])
    assert GeometryAugment().draw_bends(0, 0, range(3), spacing, "x") is None


def test_label_values_are_never_mixed() -> None:
    label = torch.zeros(1, 1, 12, 12, 12, dtype=torch.int64)
    label[..., 4:8, :] = 9
    label[..., 8:, :] = 200
    matrices = GeometryAugment(rotation=45, share=1.0).draw(3, 0, range(1), ISOTROPIC, "x")
    moved = apply_geometry(label.float(), label, label >= 0, matrices)
    assert set(moved.label.unique().tolist()) == {0, 9, 200}
    assert moved.label.dtype == torch.int64
