"""What a bundle config calls: the check of its keys, and errors that end in one line."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.utils.module import locate

from medseg.errors import InputError, close_to, last_words
from medseg.share import bundle_folder

__all__ = ["check_keys", "check_override", "checked_config", "is_number_text"]

_ABSENT = object()  # from the base
_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "none")
_NAMES_TOO = ("compile",)  # switches that may also name something


def checked_config(base: str) -> dict[str, Any]:
    """The merged config as the user composed it, after a check of every key; the first thing that a run evaluates.

    Called from an expression of a bundle config. From here on, wrong input ends the process in one line and exit
    code 2, also under `python -m monai.bundle run`.

    Args:
        base: the config of the bundle, such as "train.yaml", whose keys are the known ones.

    Raises:
        InputError: a key is unknown, of which the nearest known one is named; a value is of another kind than the
            bundle's own; or a file of `--config_file` comes before `base`, which would replace all it says.
    """
    sys.excepthook = _one_line
    _check_order(base)
    config = _merged_config()
    check_keys(config, ConfigParser.load_config_file(bundle_folder() / "configs" / base))
    return config


def check_keys(config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Checks a merged config against the bundle's own, its keys and the kinds of its values.

    A top-level key must be one of the base's. Below, where a mapping names its `_target_`, keys must be parameters
    of that callable; elsewhere they must be keys of the base, except that a new named component (a mapping with a
    `_target_`, such as one more handler) may be added to a mapping of components. A switch or a number of the base
    is one in the config, too (or null), a component no plain value; expressions and references may be anything.

    Raises:
        InputError: the first unknown key and the nearest known one, or the first value of another kind: a number like
            1e-4, a text to YAML 1.1, or the text `false`, which MONAI makes of `--force false`.
    """
    for where, key, known in _unknown(config, base, ""):
        raise InputError(f"config key '{where}{key}' is unknown{_nearest_key(where, key, known)}")
    for key, problem in _wrong_kinds(config, base, ""):
        raise InputError(f"config key '{key}': {problem}")


def is_number_text(text: str) -> bool:
    """Whether `text` is a number with an exponent, such as 1e-4, which YAML 1.1 may take for a text."""
    return re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text) is not None


def check_override(config: Mapping[str, Any], key: str) -> None:
    """Checks that the parent of an override `a#b#c` exists and can hold it, which MONAI reports as a bare KeyError or
    ValueError.

    Raises:
        InputError: a part of the way is unknown, of which the nearest known one is named, or holds no keys.
    """
    node: Any = config
    where = ""
    *parents, last = key.replace("::", "#").split("#")
    for part in parents:
        if isinstance(node, Mapping) and part not in node:
            target = node.get("_target_")
            if isinstance(target, str) and part in (_parameters(target, where) or ()):
                raise InputError(f"config key '{key}': {where}{part} is not set here; set it whole: {where}{part}=...")
            raise InputError(f"config key '{key}' is unknown{_nearest_key(where, part, list(node))}")
        node, where = node[part] if isinstance(node, Mapping) else None, f"{where}{part}#"
    in_list = isinstance(node, list) and last.isdecimal() and int(last) < len(node)
    if not isinstance(node, Mapping) and not in_list:
        raise InputError(f"config key '{key}' is unknown: '{'#'.join(parents)}' holds no keys")


def _unknown(config: Any, base: Any, where: str) -> Iterator[tuple[str, str, list[str]]]:
    if not isinstance(config, Mapping):
        return
    target = config.get("_target_")
    if isinstance(target, str):
        known = _parameters(target, where)
        if known is None:
            return
    else:
        known = list(base) if isinstance(base, Mapping) else None
    for key, value in config.items():
        key = str(key)
        fixed = key.startswith("_") and key.endswith("_")
        added = target is None and where and isinstance(value, Mapping) and "_target_" in value
        if known is not None and not fixed and not added and key not in known:
            yield where, key, known
        below = base.get(key) if isinstance(base, Mapping) else None
        yield from _unknown(value, below, f"{where}{key}#")


def _wrong_kinds(config: Any, base: Any, where: str) -> Iterator[tuple[str, str]]:
    """Keys whose values are of another kind than the base's, and what is wrong."""
    if isinstance(config, Mapping):
        same = isinstance(base, Mapping) and config.get("_target_") == base.get("_target_")
        for key, value in config.items():
            yield from _wrong_kinds(value, base.get(key, _ABSENT) if same else _ABSENT, f"{where}{key}#")
    elif problem := _wrong_kind(where.removesuffix("#"), config, base):
        yield where.removesuffix("#"), problem


def _wrong_kind(key: str, value: Any, base: Any) -> str:
    text = isinstance(value, str)
    if value is None or isinstance(base, str) or (text and value.startswith(("$", "@", "%"))):
        return ""
    if text and is_number_text(value):
        return f"YAML reads {value} as a text; add a point and a sign, like 1.0e-4"
    if base is _ABSENT:
        return ""
    expected = ""
    if text and value.lower() in _WORDS:
        expected = "True, False or '$None', as a command line of MONAI takes them"
    elif isinstance(base, bool):
        expected = "" if isinstance(value, bool) or (text and key in _NAMES_TOO) else "True or False"
    elif isinstance(base, int):
        expected = "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    elif isinstance(base, float):
        expected = "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    elif isinstance(base, Mapping):
        expected = f"its keys, such as {key}#{next(iter(base))}"
    return f"found {value!r}, expected {expected}" if expected else ""


def _parameters(target: str, where: str) -> list[str] | None:
    """Names that `target` takes, None where it takes any."""
    component = locate(target if "." in target else ConfigComponent({"_target_": target}).resolve_module_name())
    if component is None:
        raise InputError(f"config key '{where}_target_': '{target}' cannot be imported; check the spelling")
    try:
        parameters = inspect.signature(component).parameters
    except ValueError:  # some built-ins have no signature
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return list(parameters)


def _nearest_key(where: str, key: str, known: list[str]) -> str:
    near = close_to(key, known)
    return f"; did you mean '{where}{near}'?" if near else f"; known here: {', '.join(known)}"


def _check_order(base: str) -> None:
    """That `base` is the first of the files that `monai.bundle run` was given, if it is among them."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name != "create_workflow":
        frame = frame.f_back
    files = frame.f_locals.get("config_file") if frame is not None else None
    names = [str(file) for file in files] if isinstance(files, list | tuple) else []
    for place, name in enumerate(names):
        if place > 0 and Path(name).name == base:
            raise InputError(
                f"config_file: {names[0]} comes before {name}, which replaces what it says; name {name} first"
            )


def _merged_config() -> dict[str, Any]:
    """The raw content of the parser that is evaluating the expression which called. A macro ("%") would hand over the
    merged config too, but with every component in it built a second time."""
    frame = inspect.currentframe()
    while frame is not None:
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser):
            content = {key: value for key, value in parser.get().items() if key != ConfigParser.meta_key}
            return copy.deepcopy(content)
        frame = frame.f_back
    raise RuntimeError("checked_config is called from an expression of a bundle config")


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook: wrong input is one line and exit code 2, a signal its own exit code, all else a traceback."""
    end = last_words(error)
    if end is None:
        sys.__excepthook__(kind, error, trace)
        return
    line, code = end
    print(line, file=sys.stderr)
    raise SystemExit(code)
