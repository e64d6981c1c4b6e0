"""The cases of the loss contracts: one for every exported loss, made by looking, and a few with other options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medseg import losses

__all__ = ["CASES", "Case", "Inputs", "apart_from", "by_kind", "draw", "value", "value_and_gradient"]

CLASSES = 3


@dataclass(frozen=True)
class Case:
    """A loss to be held to the contracts; `name` is that of the exported class."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    classes: int = CLASSES

    def build(self, **more: Any) -> nn.Module:
        """A new module."""
        options = {**self.options, **more}
        return BUILDERS.get(self.name, getattr(losses, self.name))(**options)

    @property
    def kind(self) -> str:
        """ "segmentation", "composite" (returns LossTerms), "pair" (two predictions) or "single" (one)."""
        if self.name in BUILDERS:
            return "composite"
        names = list(inspect.signature(getattr(losses, self.name).forward).parameters)
        return {"logits target": "segmentation", "logits mask": "single", "a b": "pair"}[" ".join(names[1:3])]

    @property
    def activation(self) -> str | None:
        return self.options.get("activation")

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        if self.classes != CLASSES:
            options = f"{options}one channel"
        return f"{self.name}({options})" if options else self.name


def _compound(**options: Any) -> nn.Module:
    parts = {"dice": losses.DiceLoss(**options), "ce": losses.CrossEntropyLoss(**options)}
    return losses.CompoundLoss(parts, {"ce": 0.5})


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "CompoundLoss": _compound,
    "DeepSupervisionLoss": lambda **options: losses.DeepSupervisionLoss(losses.DiceCELoss(**options)),
    "SampleRoutedLoss": lambda **options: losses.SampleRoutedLoss(
        losses.RegionL1Loss(**options), losses.CrossEntropyLoss(**options)
    ),
}

# beside the defaults: options under which a loss takes another path
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "TverskyLoss": [{"alpha": 0.3, "beta": 0.7}, {"batch": True}, {"absent": "smooth", "smooth": 1.0}],
    "DiceLoss": [
        {"squared": True},
        {"squared": True, "smooth": 1.0, "absent": "smooth"},
        {"activation": "sigmoid"},
        {"activation": "none"},
        {"class_weight": [1.0, 2.0, 3.0]},
        {"include_background": False},
    ],
    "CrossEntropyLoss": [
        {"activation": "sigmoid"},
        {"activation": "none"},
        {"label_smoothing": 0.1},
        {"activation": "sigmoid", "label_smoothing": 0.1},
        {"class_weight": [1.0, 2.0, 3.0]},
        {"activation": "sigmoid", "class_weight": [1.0, 2.0, 3.0]},
    ],
    "FocalLoss": [
        {"gamma": 0.5},
        {"gamma": 0.0},
        {"gamma": 1.5, "activation": "sigmoid", "alpha": 0.25},
        {"activation": "none"},
    ],
    "DiceCELoss": [{"squared": True, "label_smoothing": 0.1}, {"activation": "sigmoid"}],
    "DiceFocalLoss": [{"activation": "sigmoid"}],
    "ComboLoss": [{"activation": "sigmoid"}],
    "GeneralizedDiceLoss": [{"absent": "smooth"}],
    "LovaszLoss": [{"activation": "sigmoid"}, {"per_image": False}, {"activation": "none"}],
    "RegionL1Loss": [{"smooth": True}, {"region": "band", "width": 1}, {"region": "band", "invert": True}],
    "FeatureCosineLoss": [{"along": "voxels"}],
    "EntropyLoss": [{"activation": "sigmoid"}, {"activation": "none"}],
    "ConsistencyLoss": [{"measure": "kl"}, {"measure": "cosine"}, {"measure": "kl", "activation": "sigmoid"}],
}

_NAMES = [name for name in losses.__all__ if name.endswith("Loss")]
CASES = [Case(name, options) for name in _NAMES for options in [{}, *VARIANTS.get(name, [])]]
# one channel is read with sigmoid, and integer labels as its probability
CASES += [Case(name, classes=1) for name in _NAMES if name != "FeatureCosineLoss"]


def by_kind(*kinds: str) -> list[Case]:
    """The cases of these kinds."""
    return [case for case in CASES if case.kind in kinds]


def apart_from(exempt: dict[str, str], cases: list[Case] = CASES) -> list[Case]:
    """The cases but those that a key of `exempt` names, by class or by class and options."""
    return [case for case in cases if case.name not in exempt and str(case) not in exempt]


@dataclass
class Inputs:
    """What a loss is called with: logits or features, target or second prediction (None for one), mask."""

    x: Tensor
    other: Tensor | None
    mask: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same change of all that is there."""
        mask = None if self.mask is None else change(self.mask)
        return Inputs(change(self.x), None if self.other is None else change(self.other), mask)


def draw(
    case: Case,
    shape: tuple[int, ...] = (6, 7, 5),
    *,
    batch: int = 2,
    classes: int | None = None,
    soft: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Inputs:
    """Random inputs without a mask; every class is in every sample where the volume has room."""
    generator = torch.Generator().manual_seed(seed)
    classes = case.classes if classes is None else classes
    x = torch.randn(batch, classes, *shape, generator=generator, dtype=torch.float64).to(dtype)
    if case.activation == "none":
        x = x.softmax(1) if classes > 1 else x.sigmoid()
    if case.kind == "single":
        return Inputs(x, None)
    if case.kind == "pair":
        other = torch.randn(batch, classes, *shape, generator=generator, dtype=torch.float64).to(dtype)
        return Inputs(x, other.softmax(1) if case.activation == "none" else other)
    if soft:
        y = torch.randn(batch, classes, *shape, generator=generator, dtype=torch.float64).to(dtype)
        return Inputs(x, y.softmax(1) if classes > 1 else y.sigmoid())
    return Inputs(x, torch.randint(0, max(classes, 2), (batch, 1, *shape), generator=generator))


def value(loss: nn.Module, inputs: Inputs) -> Tensor:
    """The scalar of any loss."""
    arguments = [inputs.x] if inputs.other is None else [inputs.x, inputs.other]
    found = loss(*arguments, inputs.mask)
    return found.total if isinstance(found, losses.LossTerms) else found


def value_and_gradient(loss: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The scalar and its gradient by the first input."""
    x = inputs.x.detach().clone().requires_grad_()
    found = value(loss, Inputs(x, inputs.other, inputs.mask))
    (gradient,) = torch.autograd.grad(found, x)
    return found.detach(), gradient
