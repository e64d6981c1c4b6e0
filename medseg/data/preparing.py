"""Preparation of many cases: over several processes where that pays, with a line that says how far it is."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medseg import ranks
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.data.cache import PreparedCase
    from medseg.data.case import Case

__all__ = ["prepare_all"]

_WORTH_PROCESSES = 20.0  # seconds of work left; starting a process and importing torch into it costs a few
_START = "spawn"  # not forked: the parent has threads, and perhaps a GPU
_WORKERS = 8  # each holds a volume several times over, so not on every core


def prepare_all(prepare: Callable[[Case], PreparedCase], cases: Sequence[Case]) -> list[PreparedCase]:
    """`prepare` of each case, in order. The first ones are done here; where they show that the rest takes long, it is
    given to processes. A progress line appears on a terminal, and only where there is something to wait for.

    Raises:
        InputError: of the first case that has one; what was prepared stays.
    """
    console = Console(stderr=True)
    columns = (TextColumn("Preparing cases"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console.is_terminal and ranks.is_first()
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=len(cases), visible=False)
        begin, done = time.monotonic(), []
        for prepared in _results(prepare, cases):
            done.append(prepared)
            progress.update(task, completed=len(done), visible=time.monotonic() - begin > 1)
    return done


def _results(prepare: Callable[[Case], PreparedCase], cases: Sequence[Case]) -> Iterator[PreparedCase]:
    workers = max(1, min(os.cpu_count() or 1, _WORKERS) // ranks.local_size())
    begin = time.monotonic()
    for i, case in enumerate(cases):
        left = (time.monotonic() - begin) / max(i, 1) * (len(cases) - i)
        if i and workers > 1 and left > _WORTH_PROCESSES:
            yield from _by_processes(prepare, cases[i:], min(workers, len(cases) - i))
            return
        yield prepare(case)


def _by_processes(
    prepare: Callable[[Case], PreparedCase], cases: Sequence[Case], workers: int
) -> Iterator[PreparedCase]:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(_START)) as pool:
        try:
            yield from pool.map(prepare, cases)
        except BrokenProcessPool as error:
            raise InputError(
                f"a process that prepares cases was killed, perhaps for want of memory ({workers} work at once, each"
                " holds a few volumes); close other programs and begin again: what is prepared stays"
            ) from error
        finally:  # one broken case ends it; those not begun are not waited for
            pool.shutdown(wait=False, cancel_futures=True)
