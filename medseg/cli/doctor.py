"""`medseg doctor`: what is installed, what the hardware can do, and what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from medseg.cli.console import table_console
from medseg.share import bundle_folder, overlay_folder

__all__ = ["doctor"]


@dataclass(frozen=True)
class _Finding:
    name: str
    found: str
    remedy: str = ""  # "" where nothing is wrong


def doctor() -> None:
    """Say which versions and devices there are, what is wrong and how to mend it.

    Ends with exit code 1 where something is wrong.

    \b
    Example:
      medseg doctor
    """
    findings = [*_versions(), *_hardware(), _store(), _disk(), _files()]
    table = Table(box=None, show_header=False)
    for finding in findings:
        mark = Text("wrong", style="red") if finding.remedy else Text("ok", style="green")
        table.add_row(mark, finding.name, Text(finding.found + (f"\n-> {finding.remedy}" if finding.remedy else "")))
    table_console().print(table)
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def _versions() -> list[_Finding]:
    from medseg.engine.provenance import provenance

    found = provenance("cpu")
    rows = []
    for name, version in found.items():
        if name in ("device", "platform"):
            continue
        remedy = "install it: pip install medseg" if version == "absent" else ""
        if name == "python" and not (3, 11) <= sys.version_info[:2] <= (3, 13):
            remedy = "medseg is tested with Python 3.11 to 3.13"
        rows.append(_Finding(name, version, remedy))
    supported = sys.platform in ("linux", "darwin")
    return [*rows, _Finding("system", found["platform"], "" if supported else "use Linux, or WSL on Windows")]


def _hardware() -> list[_Finding]:
    import torch

    from medseg.engine import has_bf16, pick_device

    device = pick_device()
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else threads
    bf16 = (
        "yes, training uses it"
        if has_bf16(device)
        else f"no, training uses {'fp16' if device.type == 'cuda' else 'fp32'}"
    )
    rows = [_Finding("device", f"{device} ({name})"), _Finding("bf16", bf16)]
    if torch.version.cuda and device.type == "cpu":
        rows.append(
            _Finding(
                "CUDA",
                "torch is built for it, but sees no device",
                "check nvidia-smi and CUDA_VISIBLE_DEVICES; without a GPU install the CPU-only torch (README)",
            )
        )
    return rows


def _store() -> _Finding:
    from medseg.tracking import store_problem

    uri, problem = store_problem()
    remedy = "start its server, or unset MLFLOW_TRACKING_URI to use runs/mlruns.db" if problem else ""
    return _Finding("MLflow store", f"{uri}: {problem}" if problem else uri, remedy)


def _disk() -> _Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    remedy = "" if free > 1 else "free space: runs and cache are written here"
    return _Finding("disk", f"{free:.1f} GiB free here", remedy)


def _files() -> _Finding:
    missing = [folder for folder in (bundle_folder(), overlay_folder()) if not folder.is_dir()]
    found = f"missing: {missing[0]}" if missing else str(bundle_folder())
    return _Finding("bundle", found, "reinstall medseg" if missing else "")
