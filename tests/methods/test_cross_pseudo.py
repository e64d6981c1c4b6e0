from __future__ import annotations

import pytest
import torch
from eight_voxels import FULL, IMAGES, Fixed, Recorded, batch

from medseg.methods import CrossPseudo, Models, Progress

INSIDE = torch.tensor([True] * 6 + [False] * 2)


@pytest.mark.parametrize(("factors", "agree"), [((1.0, -2.0), 0), ((1.0, 2.0), 1)])
def test_each_learns_what_the_other_is_sure_of(factors: tuple[float, float], agree: int) -> None:
    """The students' own logits against the other's label, on the strong view and inside the volume alone."""
    loss, students = Recorded(), tuple(Fixed(factor).train() for factor in factors)
    one, models = batch(IMAGES, INSIDE.tolist()), Models(students)
    method = CrossPseudo(loss, threshold=0.8, ramp=FULL)
    output = method.losses(one, models, Progress(3, 9))
    strong = torch.tensor(IMAGES) + 0.5
    for (heads, label, kept, _), own, other in zip(loss.asked[2:], factors, factors[::-1], strict=True):
        p = torch.sigmoid(other * strong)
        torch.testing.assert_close(heads[0][0, 1].ravel(), own * strong)
        assert torch.equal(label.ravel(), (p > 0.5).long())
        assert torch.equal(kept.ravel(), (torch.maximum(p, 1 - p) >= 0.8) & INSIDE)
    assert set(output.terms) == {"labelled", "labelled_second", "cross", "cross_second"}
    assert output.weights == {"cross": 1, "cross_second": 1}
    first_learns = loss.asked[2]
    assert output.diagnostics["kept_share"] == pytest.approx(int(first_learns[2].sum()) / 6)
    assert output.diagnostics["agreement_share"] == agree
    found = method.pseudo_label(one, models)
    assert torch.equal(found.label, first_learns[1])
    assert torch.equal(found.kept, first_learns[2])
