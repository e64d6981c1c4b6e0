"""How runs are kept. The only package that imports mlflow."""

from medseg.tracking.annotate import annotate
from medseg.tracking.store import default_uri, store_problem
from medseg.tracking.tracker import Tracker

__all__ = ["Tracker", "annotate", "default_uri", "store_problem"]
