"""The mean absolute error over a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medseg.losses.boundary_band import boundary_band
from medseg.losses.checks import Activation, Reduction, check_choice, check_mask, plain
from medseg.losses.class_weights import ClassWeight
from medseg.losses.fields import Fields, fields_of
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.reduce import mean_of_classes, ratio

__all__ = ["Region", "RegionL1Loss", "region_l1_loss"]

Region = Literal["all", "band"]


@full_precision
def region_l1_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    region: Region | Tensor = "all",
    width: int = 2,
    invert: bool = False,
    smooth: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `RegionL1Loss`, which describes the arguments; `region` may be a (B, 1, D, H, W) mask."""
    fields = fields_of(logits, target, mask, activation=activation, ignore_index=ignore_index)
    weight = _region(fields, region, width, invert)
    difference = (fields.p - fields.y).abs()
    if smooth:
        difference = torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    values = ratio((difference * weight).flatten(2).sum(2), weight.flatten(2).sum(2))
    return mean_of_classes(
        values,
        (fields.m.flatten(2).sum(2) > 0).expand_as(values),
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


def _region(fields: Fields, region: Region | Tensor, width: int, invert: bool) -> Tensor:
    """The weight of each voxel, (B, 1, ...)."""
    if isinstance(region, Tensor):
        check_mask(region, fields.m)
        inside = plain(region).detach().to(fields.m.dtype)
    else:
        check_choice("region", region, Region)
        inside = torch.ones_like(fields.m) if region == "all" else boundary_band(fields.y, fields.m, width)
    return fields.m * (1 - inside if invert else inside)


class RegionL1Loss(FunctionLoss):
    """The mean absolute difference of probability and target over a region, e.g. the band around the boundary.

    Formula: sum(r abs(p - y)) / sum(r), per sample and class; r the region times the mask

    Range: 0 (right) to 1 (0.5 with `smooth`); 0 for an empty region.

    Errors: Each voxel of the region counts alike and in proportion to its error; nothing outside counts at all.

    Choose it: As a term for boundaries (region "band") or for keeping off them (`invert`), where labels of the
        boundary are not to be trusted; with soft labels.

    Source: Yao et al. 2023 (ViTMatte, arXiv:2305.15272), its separate L1 of known and unknown regions, there scaled by
        a patch of 512 x 512; `smooth` is of Girshick 2015 (Fast R-CNN, arXiv:1504.08083), eq. 3.

    Args:
        region: "all", or "band": the voxels whose neighbourhood holds more than one label.
        width: Half the width of the band, in voxels.
        invert: The complement of the region.
        smooth: Squared and halved (smooth L1 with its corner at 1): small errors pull less.
    """

    function = staticmethod(region_l1_loss)

    region: Region

    def __init__(
        self,
        *,
        region: Region = "all",
        width: int = 2,
        invert: bool = False,
        smooth: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        check_choice("region", region, Region)
        super().__init__(locals())

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None, region: Tensor | None = None
    ) -> Tensor:
        """The loss over `region` (B, 1, D, H, W), where given, instead of the region of the constructor."""
        arguments = self.arguments()
        if region is not None:
            arguments["region"] = region
        return region_l1_loss(logits, target, mask, **arguments)
