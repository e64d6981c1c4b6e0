"""All that a run needs to go on from where it is, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from medseg.engine.trainer import Trainer

__all__ = ["Stateful", "restore", "snapshot"]


@runtime_checkable
class Stateful(Protocol):
    """A handler of the trainer with state that a resumed run needs, made of tensors, numbers, strings, lists and
    mappings. It is in every checkpoint under the name of its class."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The state after whole steps: of the iteration under its own flat keys (`student_0`, `teacher`, `optimizer`, ...),
    `step`, `steps` (the frozen budget), `ended`, `random`, and under `handlers` of each handler that has some.

    Randomness is a function of the step; `random` holds torch's generators for parts that draw from them all the same.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return trainer.iteration.state_dict() | {
        "step": trainer.state.iteration,
        "steps": trainer.state.steps,
        "ended": trainer.state.ended,
        "random": {"torch": torch.get_rng_state(), "cuda": cuda},
        "handlers": {name: handler.state_dict() for name, handler in _stateful(trainer)},
    }


def restore(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Puts the trainer and its handlers where `snapshot` found them; handlers that are new begin afresh."""
    trainer.iteration.load_state_dict(state)
    trainer.go_on(state["step"], state["steps"], state["ended"])
    torch.set_rng_state(state["random"]["torch"].cpu())
    for device, generator in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator.cpu(), device)
    for name, handler in _stateful(trainer):
        if name in state["handlers"]:
            handler.load_state_dict(state["handlers"][name])


def _stateful(trainer: Trainer) -> Iterator[tuple[str, Stateful]]:
    seen: dict[str, int] = {}
    for handler in trainer.handlers:
        name = type(handler).__name__
        seen[name] = seen.get(name, 0) + 1
        if isinstance(handler, Stateful):
            yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), handler
