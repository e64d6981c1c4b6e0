"""What a result rests on: versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import medseg
from medseg.data.cohort import Cohort
from medseg.report import configs
from medseg.report.configs import loss_name

__all__ = ["LIBRARIES", "provenance", "run_params", "run_tags", "short_name", "shown_loss"]

LIBRARIES = (
    "torch",
    "monai",
    "pytorch-ignite",
    "mlflow",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "safetensors",
)


def provenance(device: torch.device | str) -> dict[str, str]:
    """Versions, git commit (with `+` where files differ from it; absent outside a checkout) and device, by name."""
    found = {"medseg": medseg.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit:
        found["git_commit"] = commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return found | {"device": f"{device} ({name})", "platform": f"{sys.platform} {platform.release()}"}


def run_params(method: object, loss: object, cohort: Cohort, **given: object) -> dict[str, object]:
    """What a run is found by: method, loss, number of cases of each kind, and what is `given`. `loss` is that of the
    config, which has the name of its overlay, or the module."""
    return {
        "method": short_name(method),
        "loss": shown_loss(loss),
        "data": cohort.name,
        "cases": {kind: len(getattr(cohort, kind)) for kind in ("labelled", "unlabelled", "validation", "test")},
        **given,
    }


def run_tags(method: object, loss: object, labelled: object, seed: object, fold: object) -> dict[str, str]:
    """What runs are searched by in MLflow: method, loss (see `run_params`), label budget, seed, fold; and, where the
    environment variable MEDSEG_PARENT_RUN names one, as `medseg sweep` does, the run that this one is shown below."""
    given: dict[str, object] = {"method": short_name(method), "loss": shown_loss(loss), "budget": labelled}
    given |= {"seed": seed, "fold": fold, "mlflow.parentRunId": os.environ.get("MEDSEG_PARENT_RUN")}
    return {name: str(value) for name, value in given.items() if value is not None}


def shown_loss(loss: object) -> str:
    """A loss by its config: the overlay's name, or the nearest one's and what differs. A module has its class's."""
    return loss_name(loss) if isinstance(loss, Mapping | str) else short_name(loss)


def short_name(part: object) -> str:
    """A method's or loss's name as overlays write it: `DiceCELoss` is "dice_ce", `PseudoLabel` "pseudo_label"."""
    return configs.short_name(type(part).__name__)


def _git(*arguments: str) -> str:
    """Of the checkout that medseg runs from; "" where it is none."""
    folder = Path(medseg.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
