"""What composites return, and how any loss is asked for it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["LossTerms", "loss_terms"]


class LossTerms(NamedTuple):
    """What a composite returns.

    total: the scalar to minimise, the weighted sum of the terms.
    terms: the value of each named term **before** its weight, for tracking.
    """

    total: Tensor
    terms: dict[str, Tensor]


def loss_terms(
    loss: nn.Module,
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    step: float = 0,
    *,
    name: str = "loss",
    hard: Sequence[bool] | None = None,
) -> LossTerms:
    """Calls any loss and returns its total and named terms; a loss of one value is one term called `name`.

    `step` and `hard`, which samples have hard targets, reach the losses whose `forward` has a parameter of this name. A
    loss with a method `terms`, such as `DiceCELoss`, has that called instead of `forward`, which returns the total.
    """
    terms = getattr(loss, "terms", None)
    call = loss if terms is None else terms
    known = inspect.signature(terms or loss.forward).parameters
    given: dict[str, Any] = {key: value for key, value in (("step", step), ("hard", hard)) if key in known}
    result = call(logits, target, mask, **given)
    return result if isinstance(result, LossTerms) else LossTerms(result, {name: result})
