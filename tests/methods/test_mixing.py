from __future__ import annotations

from dataclasses import replace

import torch
from eight_voxels import Fixed, Recorded

from medseg.augment import Batch, BoxMix, DrawKey, Labelled, Targets, Unlabelled
from medseg.methods import CopyPaste, Models, Progress, Ramp
from medseg.methods.mixing import Pairs
from medseg.methods.teaching import Taught

SHAPE = (6, 5, 4)


def batch(n: int = 3, m: int = 2) -> Batch:
    image = torch.arange(float(n)).view(n, 1, 1, 1, 1).expand(n, 1, *SHAPE)
    other = -1 - torch.arange(float(m)).view(m, 1, 1, 1, 1).expand(m, 1, *SHAPE)
    ones = torch.ones(n, 1, *SHAPE, dtype=torch.bool)
    labelled = Labelled(image, image + 0.5, image.long(), ones, None, range(n))
    unlabelled = Unlabelled(other, other - 0.5, ones[:1].expand(m, 1, *SHAPE), range(m))
    return Batch(labelled, unlabelled, Targets(9), DrawKey(1, 2))


def pseudo(m: int = 2) -> Taught:
    kept = torch.ones(m, 1, *SHAPE, dtype=torch.bool)
    kept[:, :, 0] = False
    return Taught(torch.full((m, 1, *SHAPE), 7), kept, kept)


def test_both_directions_hold_every_voxel_once() -> None:
    one = batch()
    pairs = Pairs.of(one, BoxMix())
    mixed = pairs.mixed(pseudo(), 0.5)
    assert len(mixed.image) == 4
    assert pairs.alone.image.unique().tolist() == [2]
    assert list(pairs.alone.slots) == [2]
    assert one.unlabelled is not None
    a, b = pairs.apart(mixed.image)
    assert torch.equal(a, one.labelled.image[:2])
    assert torch.equal(b, one.unlabelled.strong)
    label_a, label_b = pairs.apart(mixed.label)
    assert torch.equal(label_a, one.labelled.label[:2])
    assert label_b.unique().tolist() == [7]
    weight_a, weight_b = pairs.apart(mixed.mask)
    assert weight_a.unique().tolist() == [1]
    assert weight_b[:, :, 0].unique().tolist() == [0]
    assert weight_b[:, :, 1:].unique().tolist() == [0.5]


def test_what_a_label_does_not_speak_of_stays_with_its_voxels() -> None:
    one = batch()
    liver = torch.zeros(3, 9, 1, 1, 1, dtype=torch.bool)
    liver[:, :2] = True
    pairs = Pairs.of(replace(one, labelled=replace(one.labelled, annotated=liver)), BoxMix())
    mixed = pairs.mixed(pseudo(), 1.0)
    assert mixed.annotated is not None
    a, b = pairs.apart(mixed.annotated)
    assert b.all()
    assert torch.equal(a, liver[:2].expand_as(a))


def test_labelled_images_among_themselves() -> None:
    found = Pairs.among_labelled(batch(), BoxMix()).labelled
    for i in range(3):
        assert set(found.image[i].unique().tolist()) == {float(i), float((i - 1) % 3)}
        assert torch.equal(found.image[i].long(), found.label[i])
        assert torch.equal(found.weak[i], found.image[i] + 0.5)


def test_a_start_may_be_of_labelled_images_among_themselves() -> None:
    one = batch()
    for mixed_start, expected in ((False, one), (True, Pairs.among_labelled(one, BoxMix()))):
        student, loss = Fixed(1.0).train(), Recorded()
        method = CopyPaste(loss, ramp=Ramp(start=1.0), mixed_start=mixed_start)
        method.losses(one, Models((student,)), Progress(0, 9))
        assert torch.equal(student.seen[0], expected.labelled.image)
        assert torch.equal(loss.asked[0][1], expected.labelled.label)


def test_pairs_are_those_of_the_whole_batch_on_every_process() -> None:
    whole = Pairs.of(batch(4, 4), BoxMix())
    one = batch(4, 4)
    assert one.unlabelled is not None

    def some(part):  # type: ignore[no-untyped-def]
        return replace(part, **{k: v[1::2] for k, v in vars(part).items() if v is not None})

    rank = Pairs.of(replace(one, labelled=some(one.labelled), unlabelled=some(one.unlabelled)), BoxMix())
    assert torch.equal(rank.box, whole.box[1::2])
