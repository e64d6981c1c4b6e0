"""What every loss checks first: options, shapes and dtypes. Values are checked where labels are read."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

__all__ = [
    "Absent",
    "Activation",
    "Denominator",
    "Reduction",
    "activation_for",
    "check_choice",
    "check_logits",
    "check_mask",
    "checked",
    "plain",
]

Activation = Literal["softmax", "sigmoid", "none"]
Reduction = Literal["mean", "sum", "none"]
Absent = Literal["skip", "smooth"]
Denominator = Literal["mask", "all"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raises ValueError naming `name`, `value` and the options of the Literal `choices`."""
    if value not in get_args(choices):
        options = ", ".join(repr(choice) for choice in get_args(choices))
        raise ValueError(f"{name} must be one of {options}, not {value!r}")


def activation_for(activation: Activation | None, classes: int) -> Activation:
    """`activation`, or what K = `classes` implies: softmax for several classes, sigmoid for one."""
    if activation is None:
        return "softmax" if classes > 1 else "sigmoid"
    check_choice("activation", activation, Activation)
    if activation == "softmax" and classes == 1:
        raise ValueError("activation 'softmax' of one channel is 1 everywhere; use 'sigmoid' or two channels")
    return activation


def plain(tensor: Tensor) -> Tensor:
    """The same data as a `torch.Tensor`: a subclass such as MONAI's MetaTensor would slow every operation."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def check_logits(logits: Tensor, name: str = "logits") -> None:
    """Raises unless `logits` is a floating (B, K, spatial...) tensor with one to three spatial axes."""
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {logits.dtype}")
    if logits.numel() == 0:
        raise ValueError(f"{name} of shape {tuple(logits.shape)} are empty")
    if not 3 <= logits.ndim <= 5:
        raise ValueError(f"{name} must be (B, K, D, H, W) or (B, K, H, W), not {tuple(logits.shape)}")


def checked(logits: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three as plain tensors, target and mask constants.

    Raises:
        TypeError, ValueError: unless `logits` are floating (B, K, ...), `target` is index labels (B, 1, ...) of an
            integer dtype or probabilities (B, K, ...), and `mask` (B, 1, ...) or None, all on one grid.
    """
    logits, target = plain(logits), plain(target).detach()
    mask = None if mask is None else plain(mask).detach()
    check_logits(logits)
    _check_target(logits, target)
    check_mask(mask, logits)
    return logits, target, mask


def _check_target(logits: Tensor, target: Tensor) -> None:
    expected = tuple(logits.shape)
    if target.ndim != logits.ndim or target.shape[0] != expected[0] or target.shape[2:] != expected[2:]:
        raise ValueError(
            f"target of shape {tuple(target.shape)} does not lie on the grid of logits {expected}: "
            "give index labels (B, 1, D, H, W) or probabilities (B, K, D, H, W)"
        )
    channels, classes = target.shape[1], logits.shape[1]
    if channels == classes:
        return
    if channels != 1:
        raise ValueError(f"target has {channels} channels; expected 1 (index labels) or {classes} (probabilities)")
    if target.is_floating_point():
        raise TypeError(
            f"index labels must have an integer dtype, not {target.dtype}; convert them with .long(), "
            f"or give probabilities with {classes} channels"
        )


def check_mask(mask: Tensor | None, like: Tensor) -> None:
    """Raises unless `mask` is None or real, (B, 1, ...) and on the grid of `like`."""
    if mask is None:
        return
    if mask.is_complex():
        raise TypeError(f"mask must be bool or non-negative weights, not {mask.dtype}")
    expected = (like.shape[0], 1, *like.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask of shape {tuple(mask.shape)} must have shape {expected}")
