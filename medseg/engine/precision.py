"""The number format of a run: bf16 or fp16 where the hardware is quick in it, else float32; and repeatable kernels."""

from __future__ import annotations

import os
from typing import Literal, get_args

import torch
from rich.console import Console

from medseg import ranks
from medseg.errors import InputError, nearest

__all__ = ["Autocast", "Precision", "has_bf16", "pick_device", "set_deterministic"]

Precision = Literal["auto", "bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def has_bf16(device: torch.device | str) -> bool:
    """Whether `device` computes in bf16 itself; elsewhere it is emulated and slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type == "cpu":
        known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in known)
    return False


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the first CUDA device, else the CPU. Of several processes each gets a CUDA device of its own.

    Raises:
        InputError: an unknown device, CUDA where there is none, or more processes than CUDA devices.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.size() > 1 and torch.cuda.is_available():
        found = torch.cuda.device_count()
        if ranks.local_size() > found:
            raise InputError(f"{ranks.local_size()} processes on a machine with {found} CUDA devices; start {found}")
        torch.cuda.set_device(ranks.local_rank())
        return torch.device("cuda", ranks.local_rank())
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device {name!r}: expected auto, cpu, cuda or cuda:N{nearest(name, ['auto', 'cpu', 'cuda'])}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no CUDA device is visible; see `medseg doctor`, or use the device cpu")
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        raise InputError(f"device {name!r}: CUDA devices here: {found}, counted from 0")
    return device


class Autocast:
    """The context in which networks are called, the same in training and in validation.

    Args:
        device: where the networks are.
        precision: `auto` is bf16 where the hardware has it (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else
            fp16 on CUDA and fp32 elsewhere. Weights stay in float32 in any case.
    """

    def __init__(self, device: torch.device | str, precision: Precision = "auto") -> None:
        if precision not in get_args(Precision):
            known = get_args(Precision)
            raise InputError(f"precision {precision!r}: expected one of {', '.join(known)}{nearest(precision, known)}")
        self.device = torch.device(device)
        best = "fp16" if self.device.type == "cuda" else "fp32"
        self.precision = precision if precision != "auto" else ("bf16" if has_bf16(device) else best)

    def __call__(self) -> torch.autocast:
        """A fresh context manager."""
        return torch.autocast(self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """For fp16, whose small gradients would be 0; does nothing for the others, which have float32's range."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")


def set_deterministic(wanted: bool, device: torch.device | str, console: Console | None = None) -> bool:
    """Has torch use repeatable kernels only, in this process from now on, or lets it choose; says what that costs.

    An operation that has no repeatable kernel then ends the run with its name (`Iteration`).
    """
    # cuBLAS reads this when its first handle is made
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        (console or Console(stderr=True)).print(
            "deterministic: kernels that repeat to the last bit, slower on a GPU (no autotuning, no atomic sums); "
            "equal runs also need equal hardware, versions, precision and number of processes, and --steps"
            + ("; on the CPU runs repeat without it" if torch.device(device).type == "cpu" else ""),
            highlight=False,
            soft_wrap=True,
        )
    torch.use_deterministic_algorithms(wanted)
    # filling new memory finds errors in kernels, at the price of writing it twice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not wanted and torch.device(device).type == "cuda"
    return wanted
