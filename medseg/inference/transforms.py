"""The way in and the way back as MONAI's dictionary transforms: what MONAI Label asks of a bundle."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from medseg.data.case import load_case
from medseg.data.geometry import Geometry
from medseg.inference.inputs import one_case
from medseg.inference.volumes import labels_of, prepared_item
from medseg.plan import Plan

__all__ = ["NativeLabelsd", "PrepareImaged"]


class PrepareImaged(MapTransform):
    """Reads the file (of several channels: the list of files, see `one_case`) under each key and prepares it for the
    network.

    Gives a MetaTensor (C, X, Y, Z) on the plan's grid; its `original_affine` and `spatial_shape` are the file's own, as
    MONAI's readers leave them, and stand in `KEY_meta_dict` too.

    Raises:
        InputError: a file cannot be read or does not fit the plan.
    """

    def __init__(self, keys: Any, plan: Plan) -> None:
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        found = dict(data)
        for key in self.key_iterator(found):
            given = found[key]
            paths = [Path(p) for p in given] if isinstance(given, list | tuple) else [Path(given)]
            case = one_case(paths, len(self.plan.channels))
            raw, _, geometry = load_case(case, self.plan.classes)
            item = prepared_item(case.name, case.images[0], raw, geometry, self.plan, spans=False)
            meta = {
                "original_affine": np.array(geometry.affine),
                "affine": np.array(geometry.affine),
                "spatial_shape": np.array(geometry.shape),
                "filename_or_obj": str(case.images[0]),
            }
            found[key] = MetaTensor(torch.from_numpy(item.images), meta=dict(meta))
            found[f"{key}_meta_dict"] = meta
        return found


class NativeLabelsd(MapTransform):
    """Logits (K, X, Y, Z) on the plan's grid under each key become the label map (1, X, Y, Z) of the image's own file,
    post-processed as the plan says.

    Args:
        keys: of the logits.
        plan: classes or regions.
        image: the key that `PrepareImaged` filled.
    """

    def __init__(self, keys: Any, plan: Plan, image: str = "image") -> None:
        super().__init__(keys)
        self.plan = plan
        self.image = image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        found = dict(data)
        meta = found[f"{self.image}_meta_dict"]
        shape = [int(n) for n in meta["spatial_shape"]]
        geometry = Geometry((shape[0], shape[1], shape[2]), np.asarray(meta["original_affine"], float))
        for key in self.key_iterator(found):
            labels = labels_of(torch.as_tensor(found[key]), geometry, self.plan)
            found[key] = MetaTensor(torch.from_numpy(labels[None].astype(np.int16)), affine=meta["original_affine"])
        return found
