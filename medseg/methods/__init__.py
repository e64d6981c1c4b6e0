"""How labels, and their absence, are used: one loop-free file a method."""

from medseg.methods.base import Method, MethodOutput, Models, Progress
from medseg.methods.consistent_copy_paste import ConsistentCopyPaste
from medseg.methods.copy_paste import CopyPaste
from medseg.methods.cross_pseudo import CrossPseudo
from medseg.methods.mean_teacher import MeanTeacher
from medseg.methods.pseudo_label import PseudoLabel
from medseg.methods.ramps import Ramp
from medseg.methods.supervised import Supervised
from medseg.methods.task_loss import task_loss

__all__ = [
    "ConsistentCopyPaste",
    "CopyPaste",
    "CrossPseudo",
    "MeanTeacher",
    "Method",
    "MethodOutput",
    "Models",
    "Progress",
    "PseudoLabel",
    "Ramp",
    "Supervised",
    "task_loss",
]
