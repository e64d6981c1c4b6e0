"""Batched augmentation on the device; randomness is drawn apart from its application."""

from medseg.augment.box_mix import BoxMix, mix, unmix
from medseg.augment.geometry import GeometryAugment, apply_geometry, inverse
from medseg.augment.intensity import IntensityAugment, IntensityParameters, apply_intensity
from medseg.augment.remap import IntensityRemap, apply_remap
from medseg.augment.targets import Pseudo, Targets
from medseg.augment.views import Augment, Batch, DrawKey, Labelled, Unlabelled

__all__ = [
    "Augment",
    "Batch",
    "BoxMix",
    "DrawKey",
    "GeometryAugment",
    "IntensityAugment",
    "IntensityParameters",
    "IntensityRemap",
    "Labelled",
    "Pseudo",
    "Targets",
    "Unlabelled",
    "apply_geometry",
    "apply_intensity",
    "apply_remap",
    "inverse",
    "mix",
    "unmix",
]
