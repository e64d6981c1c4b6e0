"""What a run read, as MLflow's dataset inputs: parts of the cohort with digests."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Events

from medseg.data.case import Case
from medseg.data.cohort import Cohort
from medseg.data.digests import file_digest
from medseg.errors import first_line
from medseg.tracking.store import quiet
from medseg.tracking.tracker import Tracker

__all__ = ["DatasetInputs", "log_datasets"]

_CONTEXTS = {"labelled": "training", "unlabelled": "training without labels", "validation": "validation"}

# seconds: MLflow fails where two runs note the same data set at the same moment, and not once one of them has
_WAITS = (0.3, 1.0, 2.0)


class DatasetInputs:
    """A handler that notes the cohort's parts in the MLflow run as training begins. A store that does not answer then
    is a warning: a digest of all is among the run's params too.

    Args:
        tracker: whose run it is.
        cohort: what is read. Test cases are not, and are not noted.
    """

    first_only = True

    def __init__(self, tracker: Tracker, cohort: Cohort) -> None:
        self.tracker = tracker
        self.cohort = cohort

    def attach(self, trainer: Any) -> None:
        """Attaches to the beginning of the run."""
        trainer.add_event_handler(Events.STARTED, self)

    def __call__(self, _: Any) -> None:
        """Notes them."""
        if self.tracker.run_id is None:
            return
        for wait in (*_WAITS, None):
            try:
                log_datasets(self.tracker.uri, self.tracker.run_id, self.cohort)
                return
            except Exception as error:  # whatever a store's driver raises: training goes on
                if wait is None:
                    where, what = self.tracker.uri, first_line(error)
                    print(f"Warning: MLflow store {where}: datasets are not noted ({what})", file=sys.stderr)
                else:
                    time.sleep(wait)


def log_datasets(uri: str, run_id: str, cohort: Cohort) -> None:
    """Notes labelled, unlabelled and validation cases of a run, each with the digest of names and files read.

    Noted again, as by a resumed run, equal parts are one.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag

    quiet()
    inputs = []
    for part, context in _CONTEXTS.items():
        cases: tuple[Case, ...] = getattr(cohort, part)
        if not cases:
            continue
        dataset = Dataset(
            name=f"{cohort.name} {part}"[:500],
            digest=_digest(cases),
            source_type="local",
            source=json.dumps({"folder": os.path.commonpath([os.path.abspath(c.images[0].parent) for c in cases])}),
            profile=json.dumps(_profile(cohort, cases)),
        )
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    MlflowClient(uri).log_inputs(run_id, inputs)


def _digest(cases: tuple[Case, ...]) -> str:
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.name.encode())
        for path in case.files:
            digest.update(file_digest(path))
    return digest.hexdigest()[:16]


def _profile(cohort: Cohort, cases: tuple[Case, ...]) -> Mapping[str, Any]:
    return {"cases": len(cases), "channels": list(cohort.channels), "classes": list(cohort.classes.values())}
