"""How runs are kept. The only package that imports mlflow."""

from medseg.tracking.annotate import annotate
from medseg.tracking.store import default_uri, store_problem
from medseg.tracking.sync import Synced, sync_run
from medseg.tracking.tracker import Tracker

__all__ = ["Synced", "Tracker", "annotate", "default_uri", "store_problem", "sync_run"]
