"""What is minimised: segmentation, feature and consistency losses that are right under a mask."""

from __future__ import annotations

from medseg.losses.compound import CompoundLoss
from medseg.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from medseg.losses.deep_supervision import DeepSupervisionLoss
from medseg.losses.dice import DiceLoss, dice_loss
from medseg.losses.dice_ce import DiceCELoss, dice_ce_loss
from medseg.losses.ramp import Ramp
from medseg.losses.terms import LossTerms, loss_terms
from medseg.losses.tversky import TverskyLoss, tversky_loss

__all__ = [
    "CompoundLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceCELoss",
    "DiceLoss",
    "LossTerms",
    "Ramp",
    "TverskyLoss",
    "cross_entropy_loss",
    "dice_ce_loss",
    "dice_loss",
    "loss_terms",
    "tversky_loss",
]
