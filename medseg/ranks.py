"""The processes of one run, started by torchrun: which one this is, and how they agree. For one process, nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from medseg.errors import InputError, first_line

__all__ = [
    "all_or_none",
    "announce",
    "evenly",
    "from_first",
    "gathered",
    "interleaved",
    "is_first",
    "join",
    "largest",
    "leave",
    "local_rank",
    "local_size",
    "other_ended",
    "rank",
    "share",
    "size",
    "sum_in_place",
]

T = TypeVar("T")
# the longest that one may be waited for: preparing its share of the cases, judging it; one that died is noticed at once
_PATIENCE = timedelta(hours=6)
_END = object()


def join(device: str = "auto", patience: timedelta = _PATIENCE) -> int:
    """Joins the processes that torchrun has started, over gloo and, for GPUs, NCCL; this one's rank. Does nothing
    where torchrun started none, or where it is done.

    Args:
        device: "cpu" leaves out NCCL.
        patience: how long the others are waited for, here and later.

    Raises:
        InputError: the processes cannot reach each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ and not dist.is_initialized():
        cuda = torch.cuda.is_available() and device != "cpu"
        try:
            # both: objects, flags and metrics are the CPU's
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=patience)
        except (RuntimeError, ValueError) as error:
            what = first_line(error)
            raise InputError(
                f"the processes of this run cannot reach each other ({what}); see docs/clusters.md"
            ) from error
    return rank()


def leave() -> None:
    """Ends the connection, after a run that was whole."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Of this process, from 0 to `size()` - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes the run has, on all its machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Among the processes of this machine."""
    return int(os.environ["LOCAL_RANK"]) if dist.is_initialized() else 0


def local_size() -> int:
    """How many processes of the run this machine has."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes, tracks and prints."""
    return rank() == 0


def announce(line: str) -> None:
    """Says on standard error what will take a while now; the first process alone."""
    if is_first():
        print(line, file=sys.stderr, flush=True)


def share(items: Sequence[T]) -> Sequence[T]:
    """Every `size()`-th item, from the one at this process's rank on."""
    return items[rank() :: size()]


def evenly(count: int, round_up: bool = True) -> int:
    """`count`, with `round_up` raised to a number that all processes can share."""
    return -(-count // size()) * size() if round_up else count


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank. All must call it."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    _together(lambda: dist.all_gather_object(found, value))
    return found


def interleaved(items: Sequence[T]) -> list[T]:
    """The items of all processes in the order that `share` took them from. All must call it."""
    rows: Any = zip_longest(*gathered(list(items)), fillvalue=_END)
    return [item for item in chain.from_iterable(rows) if item is not _END]


def largest(value: int) -> int:
    """The largest value of all processes. All must call it."""
    if size() == 1:
        return value
    found = torch.tensor(value)
    _together(lambda: dist.all_reduce(found, dist.ReduceOp.MAX))
    return int(found)


def sum_in_place(tensor: Tensor) -> None:
    """Replaces a tensor by its sum over all processes. All must call it."""
    if size() > 1:
        _together(lambda: dist.all_reduce(tensor))


def all_or_none(make: Callable[[], T]) -> T:
    """What `make()` gives to this process, once all have made theirs. All must call it.

    Raises:
        InputError: another process could not. What this one raises itself is passed on.
    """
    if size() == 1:
        return make()
    try:
        value, error = make(), None
    except Exception as caught:
        value, error = None, caught
    failed = any(gathered(error is not None))
    if error is not None:
        raise error
    if failed:
        raise InputError(_ended())
    return value  # type: ignore[return-value]


def from_first(make: Callable[[], T]) -> T:
    """What `make()` gives to the first process, which alone calls it. All must call this."""
    if size() == 1:
        return make()
    box = [all_or_none(make if is_first() else lambda: None)]
    _together(lambda: dist.broadcast_object_list(box, src=0))
    return box[0]  # type: ignore[return-value]


def other_ended(error: BaseException) -> InputError | None:
    """What to say where `error` is gloo's or NCCL's about another process of the run that is gone; None of other
    errors. Functions of this module raise it themselves."""
    gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return InputError(_ended()) if size() > 1 and (gloo or isinstance(error, dist.DistError)) else None


def _together(collective: Callable[[], object]) -> None:
    try:
        collective()
    except RuntimeError as error:  # of gloo and NCCL, when another process is gone
        raise InputError(_ended()) from error


def _ended() -> str:
    return f"process {rank()} of {size()} cannot go on alone: another one has ended, and its own message says why"
