"""What the docstrings of losses and methods say, in parts."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Description", "Parameter", "describe"]

_SECTIONS = ("Formula", "Range", "Errors", "Choose it", "Cost", "Source")


@dataclass(frozen=True)
class Parameter:
    """An argument of a constructor: its default as it is written ("" where there is none) and what it means."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Description:
    """A loss or method, from its docstring: one line, the parts such as Formula and Source, the parameters."""

    name: str
    summary: str
    sections: dict[str, str]
    parameters: list[Parameter]


def describe(loss: type) -> Description:
    """The description of a loss or method. A parameter that it does not explain is looked up in its base classes."""
    text = inspect.getdoc(loss) or ""
    head, *paragraphs = re.split(r"\n\s*\n", text)
    sections: dict[str, str] = {}
    for paragraph in paragraphs:
        name, colon, rest = paragraph.partition(":")
        if colon and name in _SECTIONS:
            sections[name] = " ".join(rest.split())
    meanings: dict[str, str] = {}
    for base in reversed(loss.__mro__):
        meanings |= _arguments(inspect.getdoc(base) or "") if "__doc__" in vars(base) else {}
    parameters = [
        Parameter(name, _written(given.default), meanings.get(name, ""))
        for name, given in inspect.signature(loss).parameters.items()
    ]
    return Description(loss.__name__, " ".join(head.split()), sections, parameters)


def _arguments(text: str) -> dict[str, str]:
    """The entries below `Args:`."""
    _, found, below = text.partition("\nArgs:\n")
    if not found:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", below, flags=re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def _written(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return ""
    return f"{default:.4g}" if type(default) is float else repr(default)
