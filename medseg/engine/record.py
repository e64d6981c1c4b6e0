"""What a run is made of, kept in its checkpoints: who resumes it must not change that unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from medseg import ranks
from medseg.data.cohort import Cohort
from medseg.engine.precision import Autocast
from medseg.plan import Plan
from medseg.planning import cohort_digest

__all__ = ["as_yaml", "differences", "run_record"]

_FREE = tuple(
    f"{key}#"
    for key in (
        # where things lie and what is written; of the data the digest is compared, of the plan its content
        *(
            "bundle_root",
            "cache_dir",
            "dataset_dir",
            "device_name",
            "experiment",
            "output_dir",
            "plan_file",
            "run_name",
        ),
        *("workers", "handlers#checkpoints", "handlers#mlflow", "handlers#progress"),
        *("handlers#datasets", "handlers#system", "register"),
        # how to go on, and how long: that is compared with the frozen steps
        *("force", "init_from", "offline", "resume", "skip_bad", "steps"),
    )
)


def run_record(plan: Plan, config: Mapping[str, Any], cohort: Cohort, autocast: Autocast) -> dict[str, Any]:
    """`plan`, `config` (as it was composed, as YAML), `data_digest`, `processes`, whose number may round batches, and
    `machine`: what `auto` has become on this one.

    Raises:
        InputError: a file of a case cannot be read.
    """
    digest = ranks.from_first(lambda: cohort_digest(cohort))
    own = {"config": as_yaml(config), "data_digest": digest, "processes": ranks.size()}
    machine = {"device": autocast.device.type, "precision": autocast.precision}
    return {"plan": plan.model_dump(mode="json"), **own, "machine": machine}


def as_yaml(config: Mapping[str, Any]) -> str:
    """A config as text."""
    return yaml.safe_dump(dict(config), sort_keys=False, width=120)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of two records differs, `learning_rate: 0.002 -> 0.01`, without what changes nothing of the training."""
    config = _changed(yaml.safe_load(before["config"]), yaml.safe_load(now["config"]), "")
    found = {key: values for key, values in config.items() if not f"{key}#".startswith(_FREE)}
    found |= _changed(before["plan"], now["plan"], "plan")
    found |= _changed(before["data_digest"], now["data_digest"], "digest of the data")
    found |= _changed(before.get("processes", 1), now.get("processes", 1), "processes")
    return [f"{key}: {a} -> {b}" for key, (a, b) in found.items()]


def _changed(before: Any, now: Any, where: str) -> dict[str, tuple[Any, Any]]:
    """Old and new value by key, `a#b#c`."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return {} if before == now else {where: (before, now)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*before, *now]):
        below = f"{where}#{key}" if where else str(key)
        found |= _changed(before.get(key, "absent"), now.get(key, "absent"), below)
    return found
