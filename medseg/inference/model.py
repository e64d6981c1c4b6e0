"""The model folder: `model.safetensors`, `plan.yaml` and `model_card.md`, or an `ensemble.yaml` that names several.
Loading one runs no code."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medseg.data.digests import file_digest
from medseg.data.limits import refuse_large
from medseg.errors import InputError
from medseg.files import make_folder, writing
from medseg.inference.card import write_card
from medseg.inference.ensemble import Ensemble
from medseg.networks.unet import UNet, planned_unet
from medseg.plan import Plan, load_plan, printable, save_plan

__all__ = ["Model", "load_model", "model_folder", "save_model"]

_MOST_MEMBERS = 64
# What members must agree in to be given the same windows: all but names, normalisation being part of `channels`.
_SHARED = ("channels", "classes", "regions", "spacing", "patch_size", "inference", "postprocessing")


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, which may be an `Ensemble`, and the plan that it belongs to.

    Attributes:
        network: as loaded.
        plan: of all members.
        digest: of all weights and plans; equal digests predict equally.
    """

    network: nn.Module
    plan: Plan
    digest: str

    @property
    def networks(self) -> tuple[UNet, ...]:
        """The network, or the members of the ensemble."""
        found = list(self.network.members) if isinstance(self.network, Ensemble) else [self.network]
        return tuple(cast(UNet, network) for network in found)


def save_model(folder: str | os.PathLike[str], weights: Mapping[str, Tensor], plan: Plan) -> Path:
    """Writes `weights`, `plan` and a card that says what is known by now to `folder`, each whole or not at all."""
    folder = make_folder(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with writing(folder / "model.safetensors") as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(errno.ENOSPC, str(error)) from error
    save_plan(plan, folder / "plan.yaml")
    write_card(folder, plan)
    return folder


def load_model(folder: str | os.PathLike[str], device: torch.device | str = "cpu") -> Model:
    """Reads a model folder, or one whose `ensemble.yaml` lists model folders below it:

        members: [fold_0/model, fold_1/model]

    Either may be the folder `model` of the one that is given, as that of a run.

    Raises:
        InputError: the folder or one of its files is missing, is no safetensors file, the tensors are not those
            of the plan's network, or members are elsewhere or disagree.
    """
    for place in (Path(folder), Path(folder) / "model"):
        if (place / "model.safetensors").is_file():
            break
        if (place / "ensemble.yaml").is_file():
            return _ensemble(place, device)
    folder = model_folder(Path(folder))
    file = folder / "model.safetensors"
    plan = load_plan(folder / "plan.yaml")
    # what the first stage takes and gives
    channels = plan.inference.batch * max(len(plan.channels), plan.network.filters[0])
    refuse_large(folder / "plan.yaml", (channels, *plan.patch_size), "its windows have")
    with torch.device("meta"):
        network = planned_unet(plan)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    _check_tensors(file, expected)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(file, device="cpu").items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error}); copy the model again") from error
    network.load_state_dict(tensors, assign=True)
    digest = hashlib.sha256(file_digest(file) + file_digest(folder / "plan.yaml")).hexdigest()
    on_device = network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    return Model(on_device, plan, digest)


def model_folder(path: Path) -> Path:
    """The folder of a model's files: `path` itself, or `path/model` where that is a run's.

    Raises:
        InputError: neither has weights, or it is an ensemble.
    """
    for folder in (path, path / "model"):
        if (folder / "model.safetensors").is_file():
            return folder
        if (folder / "ensemble.yaml").is_file():
            raise InputError(f"{folder}: an ensemble of several models; name one of its members, such as fold_0/model")
    raise InputError(
        f"{path}: no model there; expected the folder of a run, or one with model.safetensors and plan.yaml"
    )


def _check_tensors(file: Path, expected: Mapping[str, torch.Size]) -> None:
    """Names, shapes and types from the header, before any weight is read."""
    try:
        with safe_open(file, framework="pt") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  # is no mapping
            shapes = {name: torch.Size(part.get_shape()) for name, part in found.items()}
            kinds = {name: part.get_dtype() for name, part in found.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error}); copy the model again") from error
    if expected != shapes:
        wrong = sorted(set(expected.items()) ^ set(shapes.items()))[0][0]
        raise InputError(
            f"{file}: does not fit {file.with_name('plan.yaml')}: tensor {printable(wrong)} is "
            f"{tuple(shapes.get(wrong, ())) or 'absent'}, expected {tuple(expected.get(wrong, ())) or 'none'}; "
            "use the plan that belongs to these weights"
        )
    strange = {name: kind for name, kind in kinds.items() if kind not in ("F32", "F16", "BF16")}
    if strange:
        name, kind = next(iter(strange.items()))
        raise InputError(f"{file}: tensor {name} holds {kind}, expected floating point; export the model again")


def _ensemble(folder: Path, device: torch.device | str) -> Model:
    file = folder / "ensemble.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError) as error:
        raise InputError(f"{file}: not a readable YAML file ({printable(str(error))})") from error
    members = content.get("members") if isinstance(content, dict) and set(content) == {"members"} else None
    if not isinstance(members, list) or not members or not all(isinstance(name, str) for name in members):
        raise InputError(f"{file}: expected `members:` and a list of model folders, such as [fold_0/model]")
    if len(members) > _MOST_MEMBERS:
        raise InputError(f"{file}: {len(members)} members, expected at most {_MOST_MEMBERS}")
    models = []
    for name in members:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
            raise InputError(f"{file}: member {printable(name)} is outside {folder}; put its folder below")
        if not (path / "model.safetensors").is_file():
            raise InputError(f"{file}: member {printable(name)} is no model folder; check the names in it")
        models.append(load_model(path, device))
    for name, model in zip(members, models, strict=True):
        different = [f for f in _SHARED if getattr(model.plan, f) != getattr(models[0].plan, f)]
        if different:
            raise InputError(
                f"{file}: member {printable(name)} has another {different[0]} than {printable(members[0])}; "
                "an ensemble is of models of one plan, as `--plan` or `--folds` make them"
            )
    digest = hashlib.sha256("".join(model.digest for model in models).encode()).hexdigest()
    return Model(Ensemble([model.network for model in models]).eval(), models[0].plan, digest)
