"""How labels, and their absence, are used: one loop-free file a method."""

from medseg.methods.base import Method, MethodOutput, Models, Progress
from medseg.methods.pseudo_label import PseudoLabel
from medseg.methods.ramps import Ramp
from medseg.methods.supervised import Supervised

__all__ = ["Method", "MethodOutput", "Models", "Progress", "PseudoLabel", "Ramp", "Supervised"]
