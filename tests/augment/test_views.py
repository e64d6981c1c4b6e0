from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.augment import Augment, Batch, GeometryAugment, IntensityAugment, Targets

SPACING = (1.0, 1.0, 2.0)
CLASSES = Targets(8)
PLAIN = IntensityAugment(share=0.0)


def raw(samples: int, seed: int, channels: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(samples, channels, 10, 8, 6, generator=generator)
    return {"image": image, "label": (image[:, :1].abs() * 2).byte(), "mask": image[:, :1] > -1.5}


def tensors(batch: Batch) -> dict[str, Tensor]:
    found = {f"labelled {name}": tensor for name, tensor in vars(batch.labelled).items() if isinstance(tensor, Tensor)}
    if batch.unlabelled is not None:
        found |= {
            f"unlabelled {name}": tensor
            for name, tensor in vars(batch.unlabelled).items()
            if isinstance(tensor, Tensor)
        }
    return found


def test_what_a_batch_holds() -> None:
    batch = Augment(0, SPACING, CLASSES)(raw(3, 0), raw(2, 1), 5)
    found = tensors(batch)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in found.items()} == {
        "labelled image": ((3, 2, 10, 8, 6), torch.float32),
        "labelled weak": ((3, 2, 10, 8, 6), torch.float32),
        "labelled label": ((3, 1, 10, 8, 6), torch.int64),
        "labelled mask": ((3, 1, 10, 8, 6), torch.bool),
        "unlabelled weak": ((2, 2, 10, 8, 6), torch.float32),
        "unlabelled strong": ((2, 2, 10, 8, 6), torch.float32),
        "unlabelled mask": ((2, 1, 10, 8, 6), torch.bool),
    }
    assert all(tensor.isfinite().all() for tensor in found.values())


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(0, 10**5))
def test_a_batch_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    one = Augment(seed, SPACING, CLASSES)
    other = Augment(seed, SPACING, CLASSES)
    other(raw(2, 3), raw(1, 4), step + 1)  # what was drawn before has no influence
    for name, tensor in tensors(one(raw(2, 0), raw(2, 1), step)).items():
        assert torch.equal(tensor, tensors(other(raw(2, 0), raw(2, 1), step))[name])


def test_steps_and_seeds_differ() -> None:
    images = [
        Augment(seed, SPACING, CLASSES)(raw(1, 0), None, step).labelled.image for seed in range(3) for step in range(3)
    ]
    assert len({tuple(image.ravel()[:50].tolist()) for image in images}) > 6  # some samples are left as they are


def test_the_labelled_part_does_not_depend_on_the_unlabelled_one() -> None:
    """Methods are compared on the same labelled batches."""
    augment = Augment(0, SPACING, CLASSES)
    with_both, alone = augment(raw(2, 0), raw(3, 1), 4), augment(raw(2, 0), None, 4)
    assert alone.unlabelled is None
    for name, tensor in tensors(alone).items():
        assert torch.equal(tensor, tensors(with_both)[name])


def test_a_sample_does_not_depend_on_those_beside_it() -> None:
    augment, many = Augment(0, SPACING, CLASSES), raw(4, 0)
    few = {name: tensor[:2] for name, tensor in many.items()}
    for name, tensor in tensors(augment(few, few, 7)).items():
        assert torch.equal(tensor, tensors(augment(many, many, 7))[name][:2])


def test_weak_and_strong_view_share_their_geometry() -> None:
    geometry = GeometryAugment(flip_axes=(0, 1, 2), share=1.0)
    batch = Augment(0, SPACING, CLASSES, geometry, PLAIN, PLAIN)(raw(2, 0), raw(2, 1), 0)
    assert batch.unlabelled is not None
    assert torch.equal(batch.unlabelled.weak, batch.unlabelled.strong)
    assert torch.equal(batch.labelled.weak, batch.labelled.image)
    assert not torch.allclose(batch.unlabelled.weak, raw(2, 1)["image"])
    # the two parts turn by themselves
    same = Augment(0, SPACING, CLASSES, geometry, PLAIN, PLAIN)(raw(2, 0), raw(2, 0), 0)
    assert same.unlabelled is not None
    assert not torch.allclose(same.labelled.weak, same.unlabelled.weak)


def test_only_grey_values_set_the_views_apart() -> None:
    """A strong view that only shifts: the difference to the weak one is one number a sample and channel."""
    shift = IntensityAugment(gamma=(1, 1), contrast=(1, 1), brightness=0.5, blur=0, noise=0, share=1.0)
    batch = Augment(0, SPACING, CLASSES, GeometryAugment(share=1.0), shift, shift)(raw(2, 0), raw(2, 1), 3)
    assert batch.unlabelled is not None
    for weak, varied in [
        (batch.unlabelled.weak, batch.unlabelled.strong),
        (batch.labelled.weak, batch.labelled.image),
    ]:
        difference = (varied - weak).flatten(2)
        assert difference.std(2).max() < 1e-5
        assert len(difference.mean(2).unique()) == 4


def test_label_and_mask_lie_on_the_image() -> None:
    """Labels are bands of the first channel: after any turn they still are, where no edge was interpolated."""
    smooth = raw(4, 0)
    ramp = torch.linspace(0, 9, 10).view(1, 1, 10, 1, 1).expand(4, 1, 10, 8, 6)
    smooth = {"image": ramp.clone(), "label": (ramp >= 5).byte(), "mask": ramp > 2.5}
    batch = Augment(0, SPACING, CLASSES, GeometryAugment(share=1.0, flip_axes=(0,)), PLAIN)(smooth, None, 1)
    image, label, mask = batch.labelled.image, batch.labelled.label, batch.labelled.mask
    assert (label[(image > 5.6) & mask] == 1).all()
    assert (label[(image < 3.9) & mask] == 0).all()
    assert not mask[image < 1.9].any()
    assert label.any()


def test_what_comes_from_outside() -> None:
    """Known where background continues; of unlabelled images never, whatever stands in the place of their label."""
    zoomed = GeometryAugment(rotation=0, scale=(0.5, 0.5), share=1.0)
    everything = raw(2, 0) | {"mask": torch.ones(2, 1, 10, 8, 6, dtype=torch.bool)}
    for value, known in ((0, 1.0), (3, 1 / 8)):
        part = everything | {"label": torch.full((2, 1, 10, 8, 6), value, dtype=torch.uint8)}
        batch = Augment(0, SPACING, CLASSES, zoomed, PLAIN)(part, part, 0)
        assert batch.unlabelled is not None
        assert batch.labelled.mask.float().mean() == pytest.approx(
            known, abs=0.08
        )  # voxels on the very edge count as inside
        assert batch.unlabelled.mask.float().mean() == pytest.approx(1 / 8, abs=0.08)
        assert not batch.labelled.label[~batch.labelled.mask].any()  # what is not known has no class


def test_inputs_are_not_changed_and_nothing_asks_for_gradients() -> None:
    first, second = raw(2, 0), raw(2, 1)
    copies = [{name: tensor.clone() for name, tensor in part.items()} for part in (first, second)]
    first["image"].requires_grad_()
    batch = Augment(0, SPACING, CLASSES)(first, second, 0)
    assert not any(tensor.requires_grad for tensor in tensors(batch).values())
    for part, copy in zip((first, second), copies, strict=True):
        assert all(torch.equal(part[name], copy[name]) for name in part)


def test_rotations_go_by_the_spacing() -> None:
    turn = GeometryAugment(rotation=30, scale=(1, 1), share=1.0)
    isotropic = Augment(0, (1.0, 1.0, 1.0), CLASSES, turn, PLAIN)(raw(1, 0), None, 0).labelled.image
    thick = Augment(0, (1.0, 1.0, 4.0), CLASSES, turn, PLAIN)(raw(1, 0), None, 0).labelled.image
    scaled = Augment(0, (3.0, 3.0, 3.0), CLASSES, turn, PLAIN)(raw(1, 0), None, 0).labelled.image
    assert not torch.allclose(isotropic, thick)
    assert torch.allclose(isotropic, scaled, atol=1e-4)


def test_regions_of_which_some_classes_were_not_drawn_are_empty() -> None:
    """Such a region is judged as rightly absent; where one of its classes was drawn nonetheless it would be missed."""
    regions = Targets(4, regions=((1, 2), (3,)))
    drawn = torch.tensor([[True, True, False, True], [True, True, True, True]])
    one = Augment(0, SPACING, regions, GeometryAugment(share=0.0), PLAIN)({**raw(2, 0), "annotated": drawn}, None, 0)
    whole = Augment(0, SPACING, regions, GeometryAugment(share=0.0), PLAIN)(raw(2, 0), None, 0).labelled.label
    assert whole.flatten(2).any(2).all()
    assert not one.labelled.label[0, 0].any()
    assert torch.equal(one.labelled.label[0, 1], whole[0, 1])
    assert torch.equal(one.labelled.label[1], whole[1])
