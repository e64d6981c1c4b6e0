"""Which settings differ between runs, and which of these differences somebody made."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from medseg.report.configs import as_text, is_wiring, overlays, shown
from medseg.report.runs import RunRecord

__all__ = ["Settings", "differing", "of_method", "partition", "said"]

# keys, with all below them, that say
_LEFT_OUT = (
    # that a run is a repeat
    *("seed", "fold"),
    # what has a name of its own or is compared apart: by content, where a file is named
    *("labelled", "steps", "max_minutes", "loss", "method#_target_", "dataset_dir", "modality", "plan_file"),
    # where a run lies, how it is kept and what it runs on
    *("imports", "bundle_root", "output_dir", "experiment", "run_name", "cache_dir", "register", "offline"),
    *("device_name", "workers", "resume", "force", "skip_bad", "train#dataloader#workers"),
    *("train#dataloader#pin_memory", "handlers#mlflow", "handlers#datasets", "handlers#system", "handlers#progress"),
    *("handlers#metrics", "handlers#steps", "handlers#checkpoints", "val_interval"),
    # what is called, not what is set
    *("config", "record", "cache", "job", "params", "initialize", "training", "run", "check", "dry_run", "finalize"),
)
_PLAN = "plan"
_UNSAID = ("plan.yaml#name", "plan.yaml#reasons", "plan.yaml#seen", "plan.yaml#classes", "plan.yaml#version")
# of a plan, what follows from the labelled cases that were drawn
_DRAWN = ("foreground", "lower", "upper", "mean", "std")


class Settings:
    """The settings of runs as texts that are compared; "" where there is none.

    Args:
        runs: of one comparison.
    """

    def __init__(self, runs: Sequence[RunRecord]) -> None:
        self._given = {(key, as_text(v)) for run in runs if run.config.get("plan_file") for key, v in run.plan.items()}

    def __call__(self, run: RunRecord, key: str) -> str:
        """The value of a key of the config; of "plan" that of `plan.yaml`. A mapping is known by its class."""
        if key == _PLAN:
            texts = [f"{k}={self._of_plan(run, k)}" for k in run.plan if not _within(k, _UNSAID)]
            return ";".join(sorted(texts))
        if key in run.config:
            return as_text(run.config[key])
        if not any(other.startswith(f"{key}#") for other in run.config):
            return ""
        return as_text(run.config.get(f"{key}#_target_", "set"))

    def _of_plan(self, run: RunRecord, key: str) -> str:
        """Statistics of the cases count where somebody has given them, or has given a plan that has the same."""
        text = as_text(run.plan[key])
        return text if key.rpartition("#")[2] not in _DRAWN or (key, text) in self._given else "planned"


def differing(runs: Sequence[RunRecord], settings: Settings) -> tuple[list[str], list[str]]:
    """Keys of which the runs have different values, but for repeats, places and what has a name of its own.

    Returns:
        Those that somebody has set otherwise, and those that differ with the version of medseg alone: runs of one
        version agree, and between versions a key has come or gone, or is wired otherwise.
    """
    keys = dict.fromkeys(key for run in runs for key in run.config if not _within(key, _LEFT_OUT))
    # mappings before what is in them
    ordered = [*sorted(keys, key=lambda key: key.count("#")), *([_PLAN] if all(run.plan for run in runs) else [])]
    set_otherwise: list[str] = []
    of_version: list[str] = []
    for key in ordered:
        if len({settings(run, key) for run in runs}) > 1:
            (of_version if _of_version(runs, key, settings) else set_otherwise).append(key)
    return set_otherwise, of_version


def partition(runs: Iterable[RunRecord], read: Callable[[RunRecord], Hashable]) -> frozenset[frozenset[int]]:
    """Which runs have equal values, as sets of their places."""
    places: dict[Hashable, set[int]] = defaultdict(set)
    for place, run in enumerate(runs):
        places[read(run)].add(place)
    return frozenset(map(frozenset, places.values()))


def of_method(runs: Sequence[RunRecord], key: str, settings: Settings) -> bool:
    """Whether a key differs because the overlays of the methods say so."""
    others = set()
    for run in runs:
        overlay = overlays("method").get(run.method, {})
        if key not in overlay:
            others.add(settings(run, key))
        elif settings(run, key) != as_text(overlay[key]):
            return False
    return len(others) < 2


def said(run: RunRecord, key: str, settings: Settings) -> str:
    """A setting in the name of a group: "box=null"."""
    text = settings(run, key)
    if key == _PLAN:
        patch = "x".join(str(n) for n in run.plan.get("plan.yaml#patch_size", ()))
        return f"plan={patch}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"
    name = key.removeprefix("method#").removeprefix("handlers#").removesuffix("#_target_")
    return f"{name}={shown(text)}"


def _of_version(runs: Sequence[RunRecord], key: str, settings: Settings) -> bool:
    by_version: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        by_version[str(run.params.get("git_commit") or run.params.get("medseg"))].add(settings(run, key))
    if any(len(values) > 1 for values in by_version.values()):
        return False
    there = set.union(*by_version.values()) - {""}
    return len(there) == 1 or all(is_wiring(text) for text in there)


def _within(key: str, roots: Sequence[str]) -> bool:
    return f"{key}#".startswith(tuple(f"{root}#" for root in roots))
