"""Post-processing of label maps, class by class: small components, all but the largest, holes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from medseg.plan import Cleaning

__all__ = ["clean", "cleaned_mask"]


def clean(labels: NDArray[Any], rules: Mapping[int, Cleaning], spacing: Sequence[float]) -> NDArray[Any]:
    """A copy of `labels` (X, Y, Z) with the masks of the classes in `rules` cleaned, those of smaller values first.

    What a class loses becomes background; a hole that it fills was background, never another class.

    Args:
        labels: label values.
        rules: by label value.
        spacing: mm, in array axis order.
    """
    result = labels.copy()
    for value, rule in sorted(rules.items()):
        mask = result == value
        if not mask.any():
            continue
        cleaned = cleaned_mask(mask, rule, spacing)
        result[mask & ~cleaned] = 0
        result[cleaned & (result == 0)] = value
    return result


def cleaned_mask(mask: NDArray[np.bool_], rule: Cleaning, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """One mask cleaned. Components are 26-connected, holes are what the mask encloses (6-connected); of equally large
    components the first in array order stays. An empty mask stays empty."""
    if rule.largest or rule.minimum_ml > 0:
        components, n = cc3d.connected_components(mask, connectivity=26, return_N=True)
        sizes = np.bincount(components.ravel(), minlength=n + 1)
        sizes[0] = 0
        kept = (sizes > 0) & (sizes * (math.prod(spacing) / 1000) >= rule.minimum_ml)
        if rule.largest:
            kept &= np.arange(len(sizes)) == int(sizes.argmax())
        mask = kept[components]
    return binary_fill_holes(mask) if rule.fill_holes else mask
