"""An experiment file: many trainings, said once."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medseg.errors import InputError

__all__ = ["Experiment", "Part", "Range", "Search", "Trial", "grid_trials", "load_experiment", "named"]

Value = str | int | float | bool | None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Record):
    """A grid: every combination of the `grid`'s values, on top of `base`. Keys are options of `medseg train` (`loss`,
    `labelled`, `seed`, `max-minutes`) or keys of the config (`learning_rate`, `loss#alpha`)."""

    base: dict[str, Value] = {}
    grid: dict[str, Annotated[list[Value], Field(min_length=1)]] = {}


class Range(_Record):
    """A number to be searched between `low` and `high`, on a logarithmic scale where `log`."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 where log: found {self.low} and {self.high}")
        return self


class Search(_Record):
    """A search by Optuna (TPE): so many `trials` in all, each with values of `space`, on top of `base`; `metric` of
    metrics.json is the mean over classes of the checkpoint `last` on validation cases."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    space: Annotated[dict[str, Range | list[Value]], Field(min_length=1)]
    base: dict[str, Value] = {}
    metric: Literal["dice", "hd95_mm"] = "dice"
    seed: int = 0


class Experiment(_Record):
    """`experiment` names it in MLflow, and its folder; `parts` are grids, or `search` is a search."""

    experiment: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\w[\w.-]*$")]
    parts: list[Part] = []
    search: Search | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.parts) == (self.search is not None):
            raise ValueError("expected either parts (grids) or search")
        return self


class Trial(_Record):
    """One training: a name that is a function of its settings, and the settings."""

    name: str
    settings: dict[str, Value]


def load_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Reads and checks an experiment file.

    Raises:
        InputError: the file is missing or no YAML mapping, or a key is unknown or has a wrong value.
    """
    path = Path(path)
    try:
        return Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable experiment ({' '.join(str(error).split())[:200]})") from error


def grid_trials(experiment: Experiment) -> list[Trial]:
    """The trials of all parts, each once."""
    found: dict[Hashable, Trial] = {}
    for part in experiment.parts:
        for values in itertools.product(*part.grid.values()):
            shown = dict.fromkeys([*(key for key in ("task",) if key in part.base), *part.grid])
            trial = named({**part.base, **dict(zip(part.grid, values, strict=True))}, list(shown))
            found.setdefault(tuple(sorted((key, str(value)) for key, value in trial.settings.items())), trial)
    return list(found.values())


def named(settings: Mapping[str, Value], shown: list[str]) -> Trial:
    """A trial whose name shows some settings and has a digest of all: `tversky-1-3fa2b1`."""
    digest = hashlib.sha256(repr(sorted((k, str(v)) for k, v in settings.items())).encode()).hexdigest()[:6]
    parts = (str(settings[key]) for key in shown)
    plain = ("".join(c if c.isalnum() or c in "._" else "_" for c in part)[:40] for part in parts)
    return Trial(name="-".join([*plain, digest]), settings=dict(settings))
