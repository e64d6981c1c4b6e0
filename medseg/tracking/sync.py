"""What a store lacks of a run is sent from the run's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medseg.tracking.delivery import Delivery, Sent
from medseg.tracking.journal import load_journal
from medseg.tracking.store import default_uri, store_errors

__all__ = ["Synced", "sync_run"]


@dataclass(frozen=True)
class Synced:
    """What became of a run: in which store it is, under which id, and what was sent now."""

    uri: str
    run_id: str
    sent: Sent


def sync_run(folder: str | os.PathLike[str], uri: str | None = None) -> Synced:
    """Sends params, metrics, artifacts and status of the run in `folder`, as far as the store lacks them. Nobody else
    may train or send the run meanwhile.

    Args:
        folder: of the run.
        uri: the store; by default the one in which the run is tracked, and for a run that was trained offline the one
            that MLFLOW_TRACKING_URI names. A store that does not know the run gets it.

    Raises:
        InputError: there is no run, or the store does not answer.
    """
    journal = load_journal(Path(folder))
    if uri is None:
        uri = default_uri() if journal.offline and os.environ.get("MLFLOW_TRACKING_URI") else journal.uri
    if journal.status == "RUNNING":
        journal.status = "KILLED"  # nobody trains it, and nobody could say so any more
    with store_errors(f"MLflow store {uri}: does not answer", "start its server and try again"):
        delivery = Delivery(journal, uri)
        delivery.open()
        journal.save()
        sent = delivery.send()
    journal.save()
    return Synced(uri, delivery.run_id, sent)
