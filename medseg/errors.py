"""Errors for people: one line that says which file, what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
import signal
import traceback
from collections.abc import Iterable, Sequence

__all__ = ["InputError", "Interrupted", "close_to", "dead_worker", "first_line", "last_words", "listed", "nearest"]


class InputError(Exception):
    """Something the user gave is wrong. The message is one line; commands print it and exit with code 2."""


class Interrupted(BaseException):
    """The signal `number` stopped the work; `note` says how to go on.

    Not an Exception: who tries again or goes on after an error must not go on after this.
    """

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{note}")
        self.number = number


def last_words(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code that end a command, None where `error` deserves a traceback.

    MONAI wraps what a component raises in a RuntimeError, so the chain of causes is searched.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = dead_worker(cause) or cause
        if isinstance(cause, InputError):
            return f"Error: {cause}", 2
        if isinstance(cause, Interrupted):
            return str(cause), 128 + cause.number
        if refused := _refused_value(cause):
            return f"Error: {refused}", 2
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def _refused_value(error: BaseException) -> str:
    """`"PseudoLabel: threshold is a probability, found 2"` where a constructor itself refused a value; else ""."""
    if not isinstance(error, ValueError | TypeError):
        return ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    # what was raised further down, in work that a constructor does, deserves a traceback
    while frames and frames[-1].f_code.co_name == "check_choice":
        frames.pop()
    if not frames or frames[-1].f_code.co_name not in ("__init__", "__post_init__"):
        return ""
    refuser = frames[-1].f_locals.get("self")
    known = type(refuser).__module__.startswith(("medseg.", "torch.optim."))
    return f"{type(refuser).__name__}: {first_line(error)}" if known else ""


def dead_worker(error: BaseException, receiving: bool = False) -> InputError | None:
    """What to say where `error` is torch's about a worker process of a DataLoader that something ended. A signal brings
    it, so that it may be raised anywhere in a program. Who is `receiving` from one may also find the line cut."""
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker ("):
        said = " ".join(str(error).splitlines()[0].split())
    # what a worker itself ran into comes as "Caught ... in DataLoader worker process"
    elif (
        receiving and isinstance(error, ConnectionError | EOFError | FileNotFoundError) and "Caught " not in str(error)
    ):
        said = "DataLoader worker (pid unknown) was gone before it had handed over its patch"
    else:
        return None
    return InputError(
        f"a process that reads patches was ended from outside ({said}), perhaps for want of (shared) memory; use fewer "
        "(--set workers=1), or none (--set workers=0)"
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says that is not empty; of one that says nothing its kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the known name nearest to `name`, or "" where none is near."""
    close = close_to(name, known)
    return f"; did you mean '{close}'?" if close else ""


def close_to(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The known name nearest to `name`, "" where none has `cutoff` of it (0 to 1, as `difflib` counts)."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return found[0] if found else ""


def listed(names: Sequence[str], most: int) -> str:
    """`"a, b, c and 7 more"`: no more than `most` names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
