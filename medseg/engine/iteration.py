"""The one training iteration. Supervised training is a method, not another iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from medseg.augment import Augment, Batch
from medseg.data.loader import RawBatch
from medseg.engine.allocator import keep_freed_memory
from medseg.engine.gradients import average_gradients, equal_weights
from medseg.engine.precision import Autocast
from medseg.engine.schedule import PolynomialDecay
from medseg.errors import InputError, nearest
from medseg.methods import Method, Models, Progress
from medseg.networks.teacher import Teacher

__all__ = ["Iteration", "StepResult"]


@dataclass(frozen=True)
class StepResult:
    """What one step is remembered by: `values` are scalars on the device; `samples` images seen; `skipped`: the loss
    or a gradient was not finite, and nothing was changed."""

    values: dict[str, Tensor | float]
    samples: int
    skipped: bool = False


class Iteration:
    """Augment, method, weighted sum, backward, the mean over processes, clip, optimiser step, teacher.

    Args:
        method: gives the terms.
        students: the networks that are optimised, on their device.
        optimizer: of the students' parameters; its learning rates are those that `schedule` scales.
        augment: makes the batch.
        autocast: the precision in which networks are called; fp16 brings a gradient scaler with it.
        schedule: the factor on the learning rate.
        teacher_half_life: of the first student's average, as a share of the run.
        clip_norm: gradients are scaled down to this norm.
        accumulate: parts that a batch is taken in, one after the other, before the optimiser's step. Where the
            method's terms are means over samples, the step is that of the whole batch, in the memory of one part.
        compile: has `torch.compile` make code of the networks at their first call, which takes a minute: False, True,
            or the name of a backend. Their state keeps its keys.
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
        accumulate: int = 1,
        compile: bool | str = False,
    ) -> None:
        if len(students) != method.students:
            raise ValueError(f"the method trains {method.students} students, found {len(students)}")
        if accumulate < 1:
            raise InputError(f"accumulate is {accumulate}; expected a number of parts from 1")
        if isinstance(compile, str) and compile not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise InputError(f"compile is {compile!r}; expected true, false or a backend{nearest(compile, known)}")
        equal_weights(students)
        if autocast.device.type == "cpu":
            keep_freed_memory()
        self.method = method
        self.students = tuple(students)
        self.teacher = Teacher(students[0], teacher_half_life) if method.needs_teacher else None
        self.optimizer = optimizer
        self.augment = augment
        self.autocast = autocast
        self.scaler = autocast.scaler()
        self.schedule = schedule or PolynomialDecay()
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.compile = compile
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]

    def __call__(self, raw: RawBatch, progress: Progress) -> StepResult:
        """One step on a raw batch. Parameters, optimiser and teacher are changed.

        Raises:
            InputError: in the deterministic mode, an operation cannot be repeated exactly; it is named.
        """
        factor = self.schedule(progress)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for student in self.students:
            student.train()
        self._compile()
        self.optimizer.zero_grad(set_to_none=True)
        try:
            parts = [self._backward(part, progress) for part in _parts(raw, self.accumulate)]
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            what = str(error).split(",")[0]
            raise InputError(f"deterministic: {what}; choose another loss, or leave it out") from error
        values = _mean([part.values for part in parts])
        norm, skipped = self._step(values["loss"])
        if self.teacher is not None and not skipped:
            self.teacher.update(self.students[0], progress.step, progress.steps)
        values |= {"gradient_norm": norm.detach(), "learning_rate": self._rates[0] * factor}
        if self.scaler.is_enabled():
            values["gradient_scale"] = self.scaler.get_scale()
        return StepResult(values, sum(part.samples for part in parts), skipped)

    @property
    def models(self) -> Models:
        """Students and teacher."""
        return Models(self.students, self.teacher)

    def batch(self, raw: RawBatch) -> Batch:
        """The augmented batch, on the device."""
        return self.augment(self._moved(raw["labelled"]), self._moved(raw["unlabelled"]), raw["step"])

    def _backward(self, raw: RawBatch, progress: Progress) -> StepResult:
        """Adds the gradient of one of `accumulate` parts."""
        batch = self.batch(raw)
        with self.autocast():
            output = self.method.losses(batch, self.models, progress)
            total = output.total()
        self.scaler.scale(total / self.accumulate).backward()
        values: dict[str, Tensor | float] = {
            "loss": total.detach(),
            **{f"loss/{name}": term.detach() for name, term in output.terms.items()},
            **{k: v.detach() if isinstance(v, Tensor) else v for k, v in output.diagnostics.items()},
        }
        return StepResult(values, len(batch.labelled.image) + (len(batch.unlabelled.weak) if batch.unlabelled else 0))

    def _step(self, loss: Tensor | float) -> tuple[Tensor, bool]:
        """The optimiser's step, unless loss or gradient are not finite; the norm of the first student's gradient before
        it was clipped, and whether the step was skipped."""
        parameters = [p for student in self.students for p in student.parameters()]
        # what is decided below must be the same in all processes
        loss = average_gradients(parameters, torch.as_tensor(loss, device=parameters[0].device))
        self.scaler.unscale_(self.optimizer)
        # each by itself: what another student learns must not change how far the first one goes
        norms = [torch.nn.utils.clip_grad_norm_(student.parameters(), self.clip_norm) for student in self.students]
        # the one wait for the device in a step: weights that became NaN would be lost
        finite = bool(torch.stack([loss, *norms]).isfinite().all())
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()  # a gradient that overflowed lowers the scale
        return norms[0], not finite

    def _compile(self) -> None:
        """At the first step and not before: a copy of a compiled network is not compiled."""
        if not self.compile:
            return
        backend = self.compile if isinstance(self.compile, str) else "inductor"
        for network in (*self.students, *([self.teacher.network] if self.teacher is not None else [])):
            if network._compiled_call_impl is None:  # in place, so that no key of its state is renamed
                network.compile(backend=backend)

    def state_dict(self) -> dict[str, Any]:
        """Weights of students and teacher and the states of optimiser and gradient scaler, under flat keys."""
        state: dict[str, Any] = {f"student_{i}": s.state_dict() for i, s in enumerate(self.students)}
        if self.teacher is not None:
            state["teacher"] = self.teacher.network.state_dict()
        return state | {
            "optimizer": self.optimizer.state_dict(),
            "optimizer_options": self._options,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; further keys are left alone. Options of the optimiser with which this one
        was made and that one was not, such as another weight decay, stay as they are here."""
        for i, student in enumerate(self.students):
            student.load_state_dict(state[f"student_{i}"])
        if self.teacher is not None:
            self.teacher.network.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group, now, before in zip(
            self.optimizer.param_groups, self._options, state["optimizer_options"], strict=True
        ):
            group.update({name: value for name, value in now.items() if before.get(name) != value})
        if state.get("scaler"):  # empty where it does nothing
            self.scaler.load_state_dict(state["scaler"])

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
        # slots are read by the augmentation on the CPU; from a GPU that would be a wait
        return {k: v if k == "slot" else v.to(device, non_blocking=True) for k, v in part.items()}


def _parts(raw: RawBatch, count: int) -> Iterator[RawBatch]:
    """Every `count`-th sample from the first, from the second, ...: so pairs by place
    stay together."""
    if count == 1:
        yield raw
        return
    for part in (raw["labelled"], raw["unlabelled"]):
        samples = len(part["image"]) if part is not None else 0
        if samples % count:
            raise InputError(f"accumulate is {count}, but a batch has {samples} patches; expected a multiple")
    unlabelled = raw["unlabelled"]
    for first in range(count):
        yield {
            "step": raw["step"],
            "labelled": {name: tensor[first::count] for name, tensor in raw["labelled"].items()},
            "unlabelled": unlabelled and {name: tensor[first::count] for name, tensor in unlabelled.items()},
        }


def _mean(rows: Sequence[Mapping[str, Tensor | float]]) -> dict[str, Tensor | float]:
    """Of each name over the rows that have it."""
    if len(rows) == 1:
        return dict(rows[0])
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: cast("Tensor | float", sum(values)) / len(values) for name, values in found.items()}
