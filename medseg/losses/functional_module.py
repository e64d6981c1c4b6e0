"""The thin modules: arguments stored, the function called."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medseg.losses.checks import Absent, Activation, Denominator, Reduction, check_choice
from medseg.losses.region_sums import region_sums
from medseg.losses.terms import LossTerms
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["FunctionLoss", "RegionSumsLoss", "WeightedPartsLoss"]

_CHOICES: dict[str, Any] = {"absent": Absent, "denominator": Denominator, "reduction": Reduction}


class FunctionLoss(nn.Module):
    """A loss function with its keyword arguments as attributes of the same names.

    A subclass repeats the signature, for readers and tools, and hands its `locals()` up: names that the
    function does not know are left aside. `class_weight` becomes a buffer, so that it follows the module to a
    device; it is not part of the state.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        known = inspect.signature(type(self).function).parameters.values()
        self._names = [p.name for p in known if p.kind is inspect.Parameter.KEYWORD_ONLY]
        if arguments.get("activation") is not None:
            check_choice("activation", arguments["activation"], Activation)
        for name in self._names:
            value = arguments[name]
            if name in _CHOICES:
                check_choice(name, value, _CHOICES[name])
            if name == "class_weight" and value is not None:
                self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32), persistent=False)
            else:
                setattr(self, name, value)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        return {name: getattr(self, name) for name in self._names}

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of `logits` (B, K, D, H, W) against `target` over the voxels that `mask` keeps."""
        return type(self).function(logits, target, mask, **self.arguments())

    def extra_repr(self) -> str:
        """The arguments, for `print`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())


class RegionSumsLoss(FunctionLoss):
    """A loss that is a small function of `RegionSums`, so that several can share one pass over the volume."""

    activation: Activation | None
    ignore_index: int | None

    @abstractmethod
    def wanted(self) -> Wanted:
        """The sums that `of` needs."""

    @abstractmethod
    def of(self, sums: RegionSums) -> Tensor:
        """The loss, given the sums."""

    def terms_of(self, sums: RegionSums, name: str) -> LossTerms:
        """Total and terms, given the sums; one term called `name` for a loss of one value."""
        value = self.of(sums)
        return LossTerms(value, {name: value})

    def rest(self) -> dict[str, Any]:
        """The arguments of the function that do not say how the volume is read."""
        return {k: v for k, v in self.arguments().items() if k not in ("activation", "ignore_index")}


class WeightedPartsLoss(RegionSumsLoss):
    """A loss of several named parts with weights: `forward` gives the total, `terms` the parts too."""

    weights: ClassVar[Mapping[str, str]]  # the name of a part -> the argument that is its weight

    @abstractmethod
    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        """The parts before their weights."""

    def of(self, sums: RegionSums) -> Tensor:
        return self.terms_of(sums).total

    def terms_of(self, sums: RegionSums, name: str = "") -> LossTerms:  # noqa: ARG002 the parts have names
        """Total and parts, given the sums."""
        parts = self.parts(sums)
        weighted = [getattr(self, self.weights[part]) * value for part, value in parts.items()]
        return LossTerms(sum(weighted[1:], start=weighted[0]), parts)

    def terms(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> LossTerms:
        """The total, which `forward` returns, with the parts by name."""
        return self.terms_of(
            region_sums(
                logits,
                target,
                mask,
                self.wanted(),
                activation=self.activation,
                ignore_index=self.ignore_index,
            )
        )

    def rest(self) -> dict[str, Any]:
        """The arguments of the parts: those of the function without reading and weights."""
        return {k: v for k, v in super().rest().items() if k not in self.weights.values()}
