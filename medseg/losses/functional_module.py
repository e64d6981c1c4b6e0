"""The thin modules: arguments stored, the function called."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medseg.losses.checks import Absent, Activation, Denominator, Reduction, check_choice
from medseg.losses.class_weights import WeightScheme
from medseg.losses.region_sums import region_sums
from medseg.losses.terms import LossTerms
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["FunctionLoss", "RegionSumsLoss", "WeightedPartsLoss"]

_CHOICES: dict[str, Any] = {"absent": Absent, "denominator": Denominator, "reduction": Reduction}


class FunctionLoss(nn.Module):
    """A loss function with its keyword arguments as attributes of the same names.

    A subclass repeats the signature, for readers and tools, and hands its `locals()` up: names that the function
    does not know are left aside. `class_weight` becomes a buffer, so that it follows the module to a device; it
    is not part of the state.

    Args:
        activation: "softmax" (default for K > 1), "sigmoid" (default for K = 1), or "none" where the input is
            probabilities already.
        include_background: False leaves class 0 out.
        class_weight: (K,) weights of the mean over classes, class 0 included whatever include_background says; or
            "inverse_frequency" or "effective_number", which `fit_to_task` turns into weights (see `class_weights`).
        reduction: "mean" over samples; "sum"; "none" gives the values per sample and class (B, K).
        ignore_index: Voxels of this label are masked out. It means nothing for probabilities of K > 1.
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
            if name == "class_weight" and isinstance(value, str):
                check_choice(name, value, WeightScheme)
            if name == "class_weight" and value is not None and not isinstance(value, str):
                self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32), persistent=False)
            else:
                setattr(self, name, value)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function.

        Raises:
            ValueError: `class_weight` still names a scheme.
        """
        scheme = getattr(self, "class_weight", None)
        if isinstance(scheme, str):
            raise ValueError(f"class_weight {scheme!r} needs the voxels of each class: see medseg.losses.fit_to_task")
        return {name: getattr(self, name) for name in self._names}

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of `logits` (B, K, D, H, W) against `target`: index labels (B, 1, D, H, W) of an integer dtype or
        probabilities (B, K, D, H, W). `mask` (B, 1, D, H, W), bool or weights, says which voxels count; a sample of
        which none does costs 0, with a gradient of 0.

        Raises:
            TypeError, ValueError: a dtype or shape is another one, or weights are not one a class.
        """
        return type(self).function(logits, target, mask, **self.arguments())

    def extra_repr(self) -> str:
        """The arguments, for `print`."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)


class RegionSumsLoss(FunctionLoss):
    """A loss that is a small function of `RegionSums`, so that several can share one pass over the volume.

    Args:
        smooth: s, added above and below the fraction bar.
        absent: "skip" leaves a class without a target voxel in the kept region out of its sample's mean; "smooth"
            keeps it and relies on `smooth`, for which 1 is then sensible: with 1e-5 a rightly absent class costs 1.
        batch: True adds the sums of the samples up before the ratio; of several processes each those of its own.
    """

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

    def rest(self, without: Sequence[str] = ()) -> dict[str, Any]:
        """The arguments of the function that do not say how the volume is read, and are not in `without`."""
        left = {"activation", "ignore_index", *without}
        return {name: value for name, value in self.arguments().items() if name not in left}


class WeightedPartsLoss(RegionSumsLoss):
    """A loss of several named parts: `forward` gives the weighted total, `terms` the parts by name too."""

    @abstractmethod
    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        """The parts before their weights."""

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """The weight of each part."""

    def of(self, sums: RegionSums) -> Tensor:
        return self.terms_of(sums).total

    def terms_of(self, sums: RegionSums, name: str = "") -> LossTerms:  # noqa: ARG002 the parts have names
        """Total and parts, given the sums."""
        parts, weights = self.parts(sums), self.weights()
        weighted = [weights[part] * value for part, value in parts.items()]
        return LossTerms(sum(weighted[1:], start=weighted[0]), parts)

    def terms(self, logits: Tensor, target: Tensor, mask: Tensor | None = None) -> LossTerms:
        """The total, which is what `forward` returns, and the parts by name."""
        sums = region_sums(
            logits, target, mask, self.wanted(), activation=self.activation, ignore_index=self.ignore_index
        )
        return self.terms_of(sums)
