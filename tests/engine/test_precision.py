"""Devices and precisions are what the hardware has, and wrong names say what is right."""

from __future__ import annotations

from io import StringIO

import pytest
import torch
from rich.console import Console

from medseg.engine import Autocast, has_bf16, pick_device, set_deterministic
from medseg.errors import InputError


def test_auto_is_bf16_exactly_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Autocast("cpu").precision == ("bf16" if has_bf16("cpu") else "fp32")
    for ampere, precision in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, ampere=ampere: ampere)
        assert Autocast("cuda").precision == precision


def test_only_fp16_is_scaled() -> None:
    enabled = {name: Autocast("cpu", name).scaler().is_enabled() for name in ("bf16", "fp16", "fp32")}  # type: ignore[arg-type]
    assert enabled == {"bf16": False, "fp16": True, "fp32": False}


def test_the_deterministic_mode_names_its_cost() -> None:
    text = StringIO()
    try:
        set_deterministic(True, "cpu", Console(file=text))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        set_deterministic(False, "cpu", Console(file=text))
    assert not torch.are_deterministic_algorithms_enabled()
    assert text.getvalue().count("slower") == 1


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_networks_are_called_in_it(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with Autocast("cpu", precision)():  # type: ignore[arg-type]
        assert layer(torch.randn(2, 4)).dtype == dtype


def test_wrong_names() -> None:
    with pytest.raises(InputError, match="did you mean 'bf16'"):
        Autocast("cpu", "bf61")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'cuda'"):
        pick_device("cud")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none() -> None:
    assert pick_device() == torch.device("cpu")
    with pytest.raises(InputError, match="no CUDA device is visible"):
        pick_device("cuda")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="CUDA devices here: 2, counted from 0"):
        pick_device("cuda:2")


@pytest.mark.gpu
def test_auto_is_cuda_where_there_is_one() -> None:
    assert pick_device().type == "cuda"
