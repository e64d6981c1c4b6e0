"""The model folder: `model.safetensors` and `plan.yaml`. Loading one runs no code."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medseg.errors import InputError
from medseg.files import make_folder, writing
from medseg.networks.unet import UNet, planned_unet
from medseg.plan import Plan, load_plan, save_plan

__all__ = ["Model", "load_model", "save_model"]


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode and the plan that it belongs to."""

    network: UNet
    plan: Plan


def save_model(folder: str | os.PathLike[str], weights: Mapping[str, Tensor], plan: Plan) -> Path:
    """Writes `weights` and `plan` to `folder`, each whole or not at all."""
    folder = make_folder(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with writing(folder / "model.safetensors") as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(errno.ENOSPC, str(error)) from error
    save_plan(plan, folder / "plan.yaml")
    return folder


def load_model(folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Model:
    """Reads a model folder.

    Raises:
        InputError: the folder or one of its files is missing, is no safetensors file, or the tensors are not those
            of the plan's network.
    """
    folder = Path(folder)
    file = folder / "model.safetensors"
    if not file.is_file():
        raise InputError(
            f"{folder}: no model there; expected a folder with model.safetensors and plan.yaml, such as runs/NAME/model"
        )
    plan = load_plan(folder / "plan.yaml")
    try:
        tensors = load_file(file, device="cpu")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    with torch.device("meta"):
        network = planned_unet(plan)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[0][0]
        raise InputError(
            f"{file}: does not fit {folder / 'plan.yaml'}: tensor {wrong} is "
            f"{tuple(found.get(wrong, ())) or 'absent'}, expected {tuple(expected.get(wrong, ())) or 'none'}"
        )
    network.load_state_dict(tensors, assign=True)
    return Model(network.to(device, memory_format=torch.channels_last_3d).eval(), plan)  # type: ignore[call-overload]
