"""How runs are kept. The only package that imports mlflow."""

from medseg.tracking.annotate import annotate
from medseg.tracking.datasets import DatasetInputs
from medseg.tracking.parent import parent_run
from medseg.tracking.registry import register_model
from medseg.tracking.search import RunInfo, fetch_run, list_runs
from medseg.tracking.store import default_uri, store_missing, store_problem
from medseg.tracking.sync import Synced, sync_run
from medseg.tracking.tracker import Tracker

__all__ = [
    "DatasetInputs",
    "RunInfo",
    "Synced",
    "Tracker",
    "annotate",
    "default_uri",
    "fetch_run",
    "list_runs",
    "parent_run",
    "register_model",
    "store_missing",
    "store_problem",
    "sync_run",
]
