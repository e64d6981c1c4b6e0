"""The one training iteration. Supervised training is a method, not another iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medseg.augment import Augment
from medseg.data.loader import RawBatch
from medseg.engine.precision import Autocast
from medseg.methods import Method, Models, Progress
from medseg.networks.teacher import Teacher

__all__ = ["Iteration", "PolynomialDecay", "StepResult"]


@dataclass(frozen=True)
class PolynomialDecay:
    """The factor on the learning rate: a linear warm-up over `warmup` steps, then (1 - t)^power over the run."""

    power: float = 0.9
    warmup: int = 10

    def __call__(self, progress: Progress) -> float:
        """The factor at `progress`."""
        return min((progress.step + 1) / (self.warmup + 1), 1.0) * (1 - progress.share) ** self.power


@dataclass(frozen=True)
class StepResult:
    """What one step is remembered by: `values` are scalars on the device, not yet waited for; `samples` images seen."""

    values: dict[str, Tensor | float]
    samples: int


class Iteration:
    """Augment, method, weighted sum, backward, clip, optimiser step, teacher.

    Args:
        method: gives the terms.
        students: the networks that are optimised, on their device.
        optimizer: of the students' parameters; its learning rates are those that `schedule` scales.
        augment: makes the batch.
        autocast: the precision in which networks are called.
        schedule: the factor on the learning rate.
        teacher_half_life: of the first student's average, as a share of the run.
        clip_norm: gradients are scaled down to this norm.
    """

    def __init__(
        self,
        method: Method,
        students: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        augment: Augment,
        autocast: Autocast,
        schedule: Callable[[Progress], float] | None = None,
        teacher_half_life: float = 0.02,
        clip_norm: float = 12.0,
    ) -> None:
        if len(students) != method.students:
            raise ValueError(f"the method trains {method.students} students, found {len(students)}")
        self.method = method
        self.students = tuple(students)
        self.teacher = Teacher(students[0], teacher_half_life) if method.needs_teacher else None
        self.optimizer = optimizer
        self.augment = augment
        self.autocast = autocast
        self.schedule = schedule or PolynomialDecay()
        self.clip_norm = clip_norm
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, raw: RawBatch, progress: Progress) -> StepResult:
        """One step on a raw batch. Parameters, optimiser and teacher are changed."""
        factor = self.schedule(progress)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for student in self.students:
            student.train()
        batch = self.augment(self._moved(raw["labelled"]), self._moved(raw["unlabelled"]), raw["step"])
        with self.autocast():
            output = self.method.losses(batch, Models(self.students, self.teacher), progress)
            total = output.total()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for student in self.students for p in student.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        if self.teacher is not None:
            self.teacher.update(self.students[0], progress.step, progress.steps)
        values: dict[str, Tensor | float] = {
            "loss": total.detach(),
            **{f"loss/{name}": term.detach() for name, term in output.terms.items()},
            **{k: v.detach() if isinstance(v, Tensor) else v for k, v in output.diagnostics.items()},
            "gradient_norm": norm.detach(),
            "learning_rate": self._rates[0] * factor,
        }
        samples = len(batch.labelled.image) + (len(batch.unlabelled.weak) if batch.unlabelled else 0)
        return StepResult(values, samples)

    def state_dict(self) -> dict[str, Any]:
        """Weights of students and teacher and the optimiser's state, under flat keys."""
        state: dict[str, Any] = {f"student_{i}": s.state_dict() for i, s in enumerate(self.students)}
        if self.teacher is not None:
            state["teacher"] = self.teacher.network.state_dict()
        return state | {"optimizer": self.optimizer.state_dict()}

    def networks(self) -> dict[str, nn.Module]:
        """The networks to be validated, by their key in `state_dict`: the first student, and the teacher if any."""
        found: dict[str, nn.Module] = {"student_0": self.students[0]}
        if self.teacher is not None:
            found["teacher"] = self.teacher.network
        return found

    def _moved(self, part: dict[str, Tensor] | None) -> Any:
        if part is None:
            return None
        device = self.autocast.device
        return {name: tensor.to(device, non_blocking=True) for name, tensor in part.items()}
