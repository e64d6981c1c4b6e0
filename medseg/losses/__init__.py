"""What is minimised: segmentation, feature and consistency losses that are right under a mask."""

from __future__ import annotations

from medseg.losses.boundary_band import boundary_band
from medseg.losses.class_weights import class_weights
from medseg.losses.combo import ComboLoss, combo_loss
from medseg.losses.compound import CompoundLoss
from medseg.losses.consistency import ConsistencyLoss, consistency_loss
from medseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from medseg.losses.deep_supervision import DeepSupervisionLoss
from medseg.losses.dice import DiceLoss, dice_loss
from medseg.losses.dice_ce import DiceCELoss, dice_ce_loss
from medseg.losses.dice_focal import DiceFocalLoss, dice_focal_loss
from medseg.losses.entropy import EntropyLoss, entropy_loss
from medseg.losses.feature_cosine import FeatureCosineLoss, feature_cosine_loss
from medseg.losses.fit import fit_to_task
from medseg.losses.focal import FocalLoss, focal_loss
from medseg.losses.focal_tversky import FocalTverskyLoss, focal_tversky_loss
from medseg.losses.generalized_dice import GeneralizedDiceLoss, generalized_dice_loss
from medseg.losses.gradient import GradientLoss, gradient_loss
from medseg.losses.jaccard import JaccardLoss, jaccard_loss
from medseg.losses.laplacian_pyramid import LaplacianPyramidLoss, laplacian_pyramid_loss
from medseg.losses.lovasz import LovaszLoss, lovasz_loss
from medseg.losses.point_sampled import PointSampledLoss, point_sampled_loss
from medseg.losses.ramp import Ramp
from medseg.losses.region_l1 import RegionL1Loss, region_l1_loss
from medseg.losses.sample_routed import SampleRoutedLoss
from medseg.losses.terms import LossTerms, loss_terms
from medseg.losses.tversky import TverskyLoss, tversky_loss

__all__ = [
    "ComboLoss",
    "CompoundLoss",
    "ConsistencyLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "EntropyLoss",
    "FeatureCosineLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "GradientLoss",
    "JaccardLoss",
    "LaplacianPyramidLoss",
    "LossTerms",
    "LovaszLoss",
    "PointSampledLoss",
    "Ramp",
    "RegionL1Loss",
    "SampleRoutedLoss",
    "TverskyLoss",
    "boundary_band",
    "class_weights",
    "combo_loss",
    "consistency_loss",
    "cross_entropy_loss",
    "dice_ce_loss",
    "dice_focal_loss",
    "dice_loss",
    "entropy_loss",
    "feature_cosine_loss",
    "fit_to_task",
    "focal_loss",
    "focal_tversky_loss",
    "generalized_dice_loss",
    "gradient_loss",
    "jaccard_loss",
    "laplacian_pyramid_loss",
    "loss_terms",
    "lovasz_loss",
    "point_sampled_loss",
    "region_l1_loss",
    "tversky_loss",
]
