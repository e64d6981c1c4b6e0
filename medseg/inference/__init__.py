"""How a volume is done: sliding window, back to the file's own grid, the model folder."""

from medseg.inference.inferer import PlannedInferer
from medseg.inference.inputs import find_cases, find_inputs, unlabelled_cases
from medseg.inference.model import Model, load_model, save_model
from medseg.inference.sliding_window import sliding_window
from medseg.inference.volumes import VolumeDataset, VolumeItem, predict_labels

__all__ = [
    "Model",
    "PlannedInferer",
    "VolumeDataset",
    "VolumeItem",
    "find_cases",
    "find_inputs",
    "load_model",
    "predict_labels",
    "save_model",
    "sliding_window",
    "unlabelled_cases",
]
