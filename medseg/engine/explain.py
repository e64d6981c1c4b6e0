"""Errors of the machine in words: what ran out, and what to change."""

from __future__ import annotations

from pathlib import Path

import torch

from medseg import ranks
from medseg.errors import InputError, dead_worker
from medseg.plan import Plan, save_plan

__all__ = ["explained", "smaller_plan"]


def explained(error: BaseException, plan: Plan, folder: Path) -> InputError | None:
    """What an error means, where it is one of memory, of a loader's worker or of another process of the run that has
    ended; None of other errors.

    For memory a smaller plan is written to `folder/smaller_plan.yaml`.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        where = "CUDA out of memory" if isinstance(error, torch.OutOfMemoryError) else "Out of memory"
        return InputError(f"{where} with {_sizes(plan)}; {_remedy(plan, folder)}")
    return dead_worker(error) or ranks.other_ended(error)


def smaller_plan(plan: Plan) -> Plan | None:
    """The plan with about half the memory in training, of those with the same network: half the batch, while that
    leaves two patches, else a patch of about half the voxels. None where the patch cannot be smaller."""
    inference = plan.inference.model_copy(update={"batch": max(1, plan.inference.batch // 2)})
    if plan.batch_size >= 4:
        return plan.model_copy(update={"batch_size": plan.batch_size // 2, "inference": inference})
    divisor, patch = plan.network.divisor(), list(plan.patch_size)
    wanted = patch[0] * patch[1] * patch[2] / 2
    while patch[0] * patch[1] * patch[2] > wanted:
        room = [p / d if p > d else 0.0 for p, d in zip(patch, divisor, strict=True)]
        if not any(room):
            break
        axis = room.index(max(room))
        patch[axis] -= divisor[axis]
    if tuple(patch) == plan.patch_size:
        return None
    return plan.model_copy(update={"patch_size": (patch[0], patch[1], patch[2]), "inference": inference})


def _remedy(plan: Plan, folder: Path) -> str:
    knobs = "batch: plan_sizes#batch_voxels, patch: plan_sizes#patch_voxels, filters: plan_sizes#base_filters"
    smaller = smaller_plan(plan)
    if smaller is None:
        return f"make it smaller by --set ({knobs})"
    path = folder / "smaller_plan.yaml"
    save_plan(smaller, path)
    return f"a plan with {_sizes(smaller)} is in {path}: use it by --plan, here with --force ({knobs}, anew)"


def _sizes(plan: Plan) -> str:
    patch = "x".join(map(str, plan.patch_size))
    filters = plan.network.filters
    return f"batch {plan.batch_size}, patch {patch}, filters {filters[0]} to {filters[-1]}"
