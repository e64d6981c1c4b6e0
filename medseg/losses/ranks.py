"""Numbers that all processes of a run must agree on."""

from __future__ import annotations

from torch import Tensor, distributed

__all__ = ["mean_over_ranks"]


def mean_over_ranks(number: Tensor) -> Tensor:
    """The mean of `number` over the processes of a run: dividing by it weighs what they have alike. Without several
    processes the number itself. Nothing is differentiated."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    number = number.detach().clone()
    distributed.all_reduce(number)
    return number / distributed.get_world_size()
