"""The Plan: the small checked record that planning writes and everything else reads.

It says what the network sees and how: channels and their normalisation, classes, spacing, patch, topology and
inference settings. It is data: reading one evaluates nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medseg.errors import InputError
from medseg.files import write_text

__all__ = ["ChannelPlan", "InferencePlan", "NetworkPlan", "Plan", "Triple", "load_plan", "save_plan"]

Count = Annotated[int, Field(ge=1, le=4096)]
Length = Annotated[float, Field(gt=0, lt=1000, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Count, Count, Count]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelPlan(_Record):
    """One input channel. `zscore`: each volume by its own mean and standard deviation. `clip_zscore`: clipped to
    [lower, upper], then by the dataset's mean and std (of labelled foreground), all in the image's own units."""

    name: str
    normalisation: Literal["zscore", "clip_zscore"]
    lower: Finite | None = None
    upper: Finite | None = None
    mean: Finite | None = None
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _statistics_where_needed(self) -> Self:
        if self.normalisation == "clip_zscore" and None in (self.lower, self.upper, self.mean, self.std):
            raise ValueError("clip_zscore needs lower, upper, mean and std")
        return self

    @property
    def scale(self) -> tuple[float, float, float, float]:
        """lower, upper, mean and std of `clip_zscore`."""
        if self.lower is None or self.upper is None or self.mean is None or self.std is None:
            raise ValueError(f"channel {self.name} is normalised by {self.normalisation} and has no fixed scale")
        return self.lower, self.upper, self.mean, self.std


class NetworkPlan(_Record):
    """A U-Net of `len(filters)` stages; stage i has `filters[i]` channels, convolutions of `kernels[i]` and begins
    with a stride of `strides[i]`; `heads` deep-supervision heads below the full resolution."""

    filters: tuple[Count, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    residual: bool = True
    heads: Annotated[int, Field(ge=0, le=8)] = 2

    @model_validator(mode="after")
    def _one_entry_a_stage(self) -> Self:
        stages = len(self.filters)
        if not 2 <= stages <= 8 or len(self.strides) != stages or len(self.kernels) != stages:
            raise ValueError(
                f"filters, strides and kernels must have one entry for each of 2 to 8 stages, found "
                f"{stages}, {len(self.strides)} and {len(self.kernels)}"
            )
        if self.strides[0] != (1, 1, 1):
            raise ValueError(f"the first stage has no stride, found {self.strides[0]}")
        if any(k % 2 == 0 for kernel in self.kernels for k in kernel):
            raise ValueError("kernels must be odd")
        if self.heads > stages - 2:
            raise ValueError(f"{stages} stages have room for {stages - 2} deep-supervision heads, found {self.heads}")
        return self

    def divisor(self) -> tuple[int, int, int]:
        """What each axis of a patch must be a multiple of: the product of its strides."""
        product = [1, 1, 1]
        for stride in self.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return product[0], product[1], product[2]


class InferencePlan(_Record):
    """How whole volumes are predicted: windows of the patch size overlapping by `overlap`, `batch` at a time."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch: Count = 2


class Plan(_Record):
    """All that is needed besides the weights to prepare a volume, run the network and name its output."""

    version: Literal[1] = 1
    name: str
    channels: Annotated[tuple[ChannelPlan, ...], Field(min_length=1, max_length=64)]
    classes: Annotated[dict[int, str], Field(min_length=2, max_length=1024)]
    spacing: tuple[Length, Length, Length]
    patch_size: Triple
    batch_size: Count
    network: NetworkPlan
    inference: InferencePlan = InferencePlan()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        divisor = self.network.divisor()
        if any(p % d for p, d in zip(self.patch_size, divisor, strict=True)):
            raise ValueError(f"patch_size {self.patch_size} is not a multiple of the network's strides {divisor}")
        if 0 not in self.classes or min(self.classes) < 0:
            raise ValueError(f"classes must contain 0 (background) and no negative value, found {list(self.classes)}")
        return self

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label value of each network output, ascending; output 0 is the background."""
        return tuple(sorted(self.classes))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each network output."""
        return tuple(self.classes[value] for value in self.label_values)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Reads and checks a `plan.yaml`.

    Raises:
        InputError: the file is missing, is no YAML mapping, or a field is unknown, missing or out of range.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Plan.model_validate(content)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such plan; expected the plan.yaml that `medseg train` writes") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable YAML file ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        raise InputError(f"{path}: not a valid plan: {where}: {first['msg']}") from error


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes `plan` as YAML that `load_plan` reads back equal."""
    write_text(
        path,
        yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120),
    )
