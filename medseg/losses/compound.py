"""Sums of named losses with constant or scheduled weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.region_sums import region_sums
from medseg.losses.terms import LossTerms, loss_terms
from medseg.losses.wanted import Wanted

__all__ = ["CompoundLoss"]

Weight = float | Callable[[float], float]


class CompoundLoss(nn.Module):
    """A weighted sum of named losses; weights are numbers or functions of the step such as `Ramp`.

    Formula: sum_i weight_i(step) loss_i

    Errors: Those of its members, by their weights.

    Choose it: To combine losses that no ready-made one combines, or to move from one to another over a run, as
        lambda(t) CE + (1 - lambda(t)) Dice.

    Members that are functions of the same region sums (overlap, cross entropy, focal) share one softmax and
    one pass over the volume. The terms of a composite member are named "member.term".

    Args:
        losses: name -> loss.
        weights: name -> number or function of the step; 1 for names left out. A member whose weight is 0 at a
            step is still computed, so that it is tracked.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, Weight] | None = None) -> None:
        super().__init__()
        if not losses:
            raise ValueError("losses is empty; name at least one loss")
        unknown = sorted(set(weights or {}) - set(losses))
        if unknown:
            raise ValueError(f"weights for {unknown}, which are not among the losses {sorted(losses)}")
        self.losses = nn.ModuleDict(losses)
        self.weights: dict[str, Weight] = {name: (weights or {}).get(name, 1.0) for name in losses}

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        step: float = 0,
        hard: Sequence[bool] | None = None,
    ) -> LossTerms:
        """The total and named terms at `step`. Shapes as for the members, none of which reduces to "none"; `hard` is
        for a `SampleRoutedLoss` among them."""
        found: dict[str, LossTerms] = {}
        for names in self._groups():
            members = {name: self.losses[name] for name in names}
            found.update(_together(members, logits, target, mask, step, hard))
        parts = []
        terms: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            parts.append((weight(step) if callable(weight) else weight) * found[name].total)
            for term, value in found[name].terms.items():
                terms[name if term == name else f"{name}.{term}"] = value
        return LossTerms(sum(parts[1:], start=parts[0]), terms)

    def _groups(self) -> list[list[str]]:
        """The names of the members; those that read the volume alike are together."""
        groups: dict[Any, list[str]] = {}
        for name, loss in self.losses.items():
            alike = isinstance(loss, RegionSumsLoss)
            groups.setdefault((loss.activation, loss.ignore_index) if alike else name, []).append(name)
        return list(groups.values())


def _together(
    members: Mapping[str, nn.Module],
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    step: float,
    hard: Sequence[bool] | None,
) -> dict[str, LossTerms]:
    first = next(iter(members.values()))
    if not isinstance(first, RegionSumsLoss):
        return {
            name: loss_terms(loss, logits, target, mask, step, name=name, hard=hard) for name, loss in members.items()
        }
    alike = cast(Mapping[str, RegionSumsLoss], members)
    wanted = Wanted()
    for loss in alike.values():
        wanted = wanted | loss.wanted()
    sums = region_sums(logits, target, mask, wanted, activation=first.activation, ignore_index=first.ignore_index)
    return {name: loss.terms_of(sums, name) for name, loss in alike.items()}
