"""The difference of probability and target in every octave of spatial frequency."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Activation, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.fields import fields_of
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.reduce import mean_of_classes, ratio

__all__ = ["LaplacianPyramidLoss", "blur_and_halve", "double", "laplacian_pyramid_loss"]


@full_precision
def laplacian_pyramid_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    levels: int = 5,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `LaplacianPyramidLoss`, which describes the arguments."""
    _, p, y, m = fields_of(logits, target, mask, activation=activation, ignore_index=ignore_index)
    levels = _levels_that_fit(levels, min(p.shape[2:]))
    # the pyramid is linear: that of the difference is the difference of the pyramids, and 0 where masked
    rest = (p - y) * (m > 0)
    values = torch.zeros_like(rest.flatten(2).sum(2))
    for level in range(levels):
        if level < levels - 1:
            coarse = blur_and_halve(rest)
            band, rest = rest - double(coarse, rest.shape[2:]), coarse
        else:
            band = rest
        values = values + 2**level * ratio((band.abs() * m).flatten(2).sum(2), m.flatten(2).sum(2))
        m = blur_and_halve(m)
    return mean_of_classes(
        values / levels,
        (m.flatten(2).sum(2) > 0).expand_as(values),
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


def blur_and_halve(x: Tensor) -> Tensor:
    """(B, K, ...) blurred with the 5-tap binomial (1 4 6 4 1) / 16 along each axis, every second voxel.

    The border replicates; an axis of n voxels keeps (n + 1) // 2, so that an odd one loses none.
    """
    for dim in range(2, x.ndim):
        size = x.shape[dim]
        index = torch.arange(0, size, 2, device=x.device)
        taps = [x.index_select(dim, (index + shift).clamp(0, size - 1)) for shift in range(-2, 3)]
        x = (taps[0] + 4 * taps[1] + 6 * taps[2] + 4 * taps[3] + taps[4]) / 16
    return x


def double(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, K, ...) brought to `size`, the grid it was halved from.

    Zeros between the voxels and the same 5 taps with gain 2 per axis (8 in three dimensions), written as the two
    phases (1 6 1) / 8 and (1 1) / 2, so that a constant stays constant up to the border.
    """
    for dim, new in enumerate(size, start=2):
        old = x.shape[dim]
        index = torch.arange(new, device=x.device)
        before, here, after = (x.index_select(dim, (index // 2 + shift).clamp(0, old - 1)) for shift in (-1, 0, 1))
        odd = (index % 2 == 1).view(-1, *[1] * (x.ndim - dim - 1))
        x = torch.where(odd, (here + after) / 2, (before + 6 * here + after) / 8)
    return x


def _levels_that_fit(levels: int, size: int) -> int:
    """`levels`, or as many as halve `size` voxels down to one; says so once."""
    if levels < 1:
        raise ValueError(f"levels must be 1 or more, not {levels}")
    fit = size.bit_length()
    if levels > fit and not torch.compiler.is_compiling():
        _warn_once(levels, fit, size)
    return min(levels, fit)


@functools.cache
def _warn_once(levels: int, fit: int, size: int) -> None:
    warnings.warn(f"a Laplacian pyramid of {levels} levels does not fit {size} voxels; {fit} are used", stacklevel=2)


class LaplacianPyramidLoss(FunctionLoss):
    """The mean absolute difference of probability and target in each octave of a Laplacian pyramid.

    Formula: sum_l 2^l mean(abs(L_l p - L_l y)) / levels, over the mask, per sample and class; L_0 ... L_(n-2) are
        the octaves, fine to coarse, L_(n-1) what is left

    Range: 0 (right) without a fixed bound; a constant error e costs e 2^(levels - 1) / levels.

    Errors: Fine levels see edges and specks, coarse ones misplaced or missing structures; coarse errors weigh
        more.

    Choose it: As a term for detail at several scales at once; with soft labels (partial volume, matting).

    Source: Burt & Adelson 1983; Bojanowski et al. 2018 (arXiv:1707.05776), eq. 2.

    Args:
        levels: Octaves including what is left; fewer, with one warning, where an axis is shorter than 2^(levels-1).
    """

    function = staticmethod(laplacian_pyramid_loss)

    def __init__(
        self,
        *,
        levels: int = 5,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())
