"""Batched augmentation on the device; randomness is drawn apart from its application."""

from medseg.augment.geometry import GeometryAugment, apply_geometry
from medseg.augment.intensity import IntensityAugment, IntensityParameters, apply_intensity
from medseg.augment.views import Augment, Batch, Labelled, Unlabelled

__all__ = [
    "Augment",
    "Batch",
    "GeometryAugment",
    "IntensityAugment",
    "IntensityParameters",
    "Labelled",
    "Unlabelled",
    "apply_geometry",
    "apply_intensity",
]
