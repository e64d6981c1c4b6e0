"""What is read: case lists, volumes, preparation, the cache, the two loaders, phantoms."""

from medseg.data.cache import CaseCache, PreparedCase
from medseg.data.case import Case, load_case
from medseg.data.cohort import Cohort, load_cohort
from medseg.data.demo import demo_cohort
from medseg.data.geometry import Geometry
from medseg.data.loader import CaseShare, PairedLoader, RawBatch
from medseg.data.patches import PatchDataset
from medseg.data.phantoms import write_cohort
from medseg.data.soft import read_soft_labels
from medseg.data.task import cases_of, task_folder
from medseg.data.volume import Volume, read_geometry, read_labels, read_volume, write_segmentation

__all__ = [
    "Case",
    "CaseCache",
    "CaseShare",
    "Cohort",
    "Geometry",
    "PairedLoader",
    "PatchDataset",
    "PreparedCase",
    "RawBatch",
    "Volume",
    "cases_of",
    "demo_cohort",
    "load_case",
    "load_cohort",
    "read_geometry",
    "read_labels",
    "read_soft_labels",
    "read_volume",
    "task_folder",
    "write_cohort",
    "write_segmentation",
]
