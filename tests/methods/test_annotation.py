from __future__ import annotations

import pytest
import torch

from medseg.losses import CrossEntropyLoss, DiceCELoss, DiceLoss
from medseg.methods.annotation import only_annotated

SHAPE = (2, 4, 3, 4, 2)
LIVER = torch.tensor([[True, True, False, False], [True, True, True, True]]).view(2, 4, 1, 1, 1)


def logits() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float32).requires_grad_()


def test_the_background_takes_what_nobody_looked_for() -> None:
    x = logits()
    p, seen = x.detach().softmax(1), only_annotated(x, LIVER).detach().softmax(1)
    torch.testing.assert_close(seen[1], p[1])  # all annotated: as it was
    torch.testing.assert_close(seen[0, 0], p[0, 0] + p[0, 2] + p[0, 3])
    torch.testing.assert_close(seen[0, 1], p[0, 1])
    assert float(seen[0, 2:].max()) < 1e-12


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss(), DiceCELoss()])
def test_a_case_of_the_liver_teaches_only_the_liver(loss: torch.nn.Module) -> None:
    """The loss is that of a two-class task, background against liver; moving probability among what nobody looked for
    changes nothing."""
    x = logits()
    target = (torch.rand(1, 1, *SHAPE[2:], generator=torch.Generator().manual_seed(1)) > 0.6).long()
    one, where = x[:1], LIVER[:1]
    value = loss(only_annotated(one, where), target)
    two = torch.cat([one[:, [0, 2, 3]].logsumexp(1, keepdim=True), one[:, 1:2]], 1)
    assert float(value.detach()) == pytest.approx(float(loss(two, target).detach()), abs=1e-6)
    (gradient,) = torch.autograd.grad(value, x)
    inside = one[:, [0, 2, 3]].softmax(1)
    shares = gradient[:1, [0, 2, 3]] / gradient[:1, [0, 2, 3]].sum(1, keepdim=True)
    torch.testing.assert_close(shares, inside, rtol=1e-3, atol=1e-3)  # all of it through their sum


def test_label_smoothing_stays_within_what_is_spoken_of() -> None:
    """Its gradient is that of background against liver, the smoothed target of the background that of all it stands
    for; logits as a whole are not moved."""
    x = logits()
    target = (torch.rand(1, 1, *SHAPE[2:], generator=torch.Generator().manual_seed(1)) > 0.6).long()
    one = x[:1]
    (gradient,) = torch.autograd.grad(CrossEntropyLoss(label_smoothing=0.2)(only_annotated(one, LIVER[:1]), target), x)
    two = torch.cat([one[:, [0, 2, 3]].logsumexp(1, keepdim=True), one[:, 1:2]], 1)
    smoothed = 0.8 * torch.cat([target == 0, target == 1], 1) + 0.2 * torch.tensor([3 / 4, 1 / 4]).view(1, 2, 1, 1, 1)
    (expected,) = torch.autograd.grad(CrossEntropyLoss()(two, smoothed), x)
    torch.testing.assert_close(gradient, expected)


def test_regions_that_were_not_looked_for_cost_nothing() -> None:
    x, target = logits(), torch.zeros(SHAPE)
    target[:, 1, :2] = 1
    where = torch.tensor([[False, True, False, False], [True, True, True, True]]).view(2, 4, 1, 1, 1)
    value = DiceCELoss(activation="sigmoid")(only_annotated(x, where, overlapping=True), target)
    (gradient,) = torch.autograd.grad(value, x)
    assert not gradient[0, [0, 2, 3]].any()
    assert gradient[0, 1].any()
    assert gradient[1].any(1).any(1).any(1).all()


def test_annotation_may_differ_within_a_patch() -> None:
    """As in an image into which a box of another was pasted; coarser heads see it on their grid."""
    where = LIVER[:1].expand(1, 4, 3, 4, 2).clone()
    where[..., 1] = True
    x = logits()[:1]
    found = only_annotated(x, where).detach().softmax(1)
    torch.testing.assert_close(found[..., 1], x.detach().softmax(1)[..., 1])
    assert float(found[0, 2:, ..., 0].max()) < 1e-12
    coarse = only_annotated(torch.randn(1, 4, 3, 2, 1), where)
    assert coarse.shape == (1, 4, 3, 2, 1)
