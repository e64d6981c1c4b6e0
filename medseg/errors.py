"""Errors for people: one line that says which file, what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "input_error_in", "nearest"]


class InputError(Exception):
    """Something the user gave is wrong. The message is one line; commands print it and exit with code 2."""


def input_error_in(error: BaseException | None) -> InputError | None:
    """The `InputError` in a chain of causes, or None. MONAI wraps what a component raises in a RuntimeError."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the known name nearest to `name`, or "" where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
