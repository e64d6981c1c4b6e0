"""Training that starts from other weights than fresh ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medseg.engine.iteration import Iteration
from medseg.engine.sealed import load_checkpoint
from medseg.errors import InputError

__all__ = ["start_from"]

_CLASSIFIERS = ("classifier.", "heads.")  # the layers whose size is the number of classes
_SHOWN = 5

Weights = Mapping[str, Tensor]


def start_from(iteration: Iteration, source: str | os.PathLike[str]) -> str:
    """Loads the weights of `source` into the first student and the teacher, and into further students where a
    checkpoint has them; what there is to say about it.

    A classifier of another number of classes keeps its fresh weights.

    Args:
        iteration: of a run that begins.
        source: a model folder, a run's folder, or a checkpoint (`.pt`), of which the network that validated better
            is taken.

    Raises:
        InputError: there is no such model, or other tensors than those of classifiers differ; names and shapes are
            given.
    """
    found = _weights(Path(source))
    fresh: dict[str, str] = {}
    for i, student in enumerate(iteration.students):
        if f"student_{i}" in found:
            own = student.state_dict()
            taken = _fitting(own, found[f"student_{i}"], source)
            fresh |= {name: f"{tuple(own[name].shape)}" for name in own if name not in taken}
            student.load_state_dict({**own, **taken})
    if iteration.teacher is not None:
        iteration.teacher.network.load_state_dict(iteration.students[0].state_dict())
    said = f"Starts from {source}"
    if fresh:
        layers = dict.fromkeys(name.rpartition(".")[0] for name in fresh)
        said += f"; fresh because of another number of classes: {', '.join(layers)}"
    return said


def _weights(source: Path) -> dict[str, Weights]:
    if source.is_file():
        state = load_checkpoint(source)
        return {**{k: v for k, v in state.items() if k.startswith("student_")}, "student_0": state[state["chosen"]]}
    for folder in (source, source / "model"):
        file = folder / "model.safetensors"
        if file.is_file():
            try:
                return {"student_0": load_file(file)}
            except (SafetensorError, OSError) as error:
                raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    raise InputError(f"{source}: no model there; expected a folder with model.safetensors, or a checkpoint (.pt)")


def _fitting(own: Weights, found: Weights, source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of `found` without the classifiers of another size."""
    wrong = []
    for name in dict.fromkeys([*own, *found]):
        here, there = (tuple(part[name].shape) if name in part else None for part in (own, found))
        resized = here and there and here[1:] == there[1:] and name.startswith(_CLASSIFIERS)
        if here != there and not resized:
            wrong.append(f"{name} is {there or 'absent'} there and {here or 'absent'} here")
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if wrong[_SHOWN:] else ""
        raise InputError(
            f"{source}: is of another network: {', '.join(wrong[:_SHOWN])}{more}; use its plan (--plan), or the same "
            "--network and sizes"
        )
    return {name: tensor for name, tensor in found.items() if tensor.shape == own[name].shape}
