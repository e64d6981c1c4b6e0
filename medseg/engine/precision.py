"""bf16 where the hardware has it, else float32."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from medseg.errors import InputError, nearest

__all__ = ["Autocast", "Precision", "has_bf16", "pick_device"]

Precision = Literal["auto", "bf16", "fp32"]


def has_bf16(device: torch.device | str) -> bool:
    """Whether `device` computes in bf16 itself; elsewhere it is emulated and slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.device(device).type == "cpu":
        known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in known)
    return False


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the first CUDA device, else the CPU.

    Raises:
        InputError: an unknown device, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device {name!r}: expected auto, cpu, cuda or cuda:N{nearest(name, ['auto', 'cpu', 'cuda'])}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no CUDA device is visible; see `medseg doctor`, or use --device cpu")
    return device


class Autocast:
    """The context in which networks are called, the same in training and in validation.

    Args:
        device: where the networks are.
        precision: `auto` is bf16 where the hardware has it, else fp32.
    """

    def __init__(self, device: torch.device | str, precision: Precision = "auto") -> None:
        if precision not in get_args(Precision):
            known = get_args(Precision)
            raise InputError(f"precision {precision!r}: expected one of {', '.join(known)}{nearest(precision, known)}")
        self.device = torch.device(device)
        self.precision = precision if precision != "auto" else ("bf16" if has_bf16(device) else "fp32")

    def __call__(self) -> torch.autocast:
        """A fresh context manager."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
