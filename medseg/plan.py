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

__all__ = [
    "ChannelPlan",
    "Cleaning",
    "InferencePlan",
    "NetworkPlan",
    "Plan",
    "Region",
    "SeenPlan",
    "Triple",
    "first_problem",
    "load_plan",
    "printable",
    "save_plan",
]

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=1, le=4096)]
Few = Annotated[int, Field(ge=1, le=31)]
LabelValue = Annotated[int, Field(ge=0, lt=2**15)]  # what label maps can hold: see data.volume.read_labels
# a micrometre to a metre: below, a volume on the plan's grid would not fit into any memory
Length = Annotated[float, Field(ge=1e-3, lt=1000, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Count, Count, Count]
SmallTriple = tuple[Few, Few, Few]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelPlan(_Record):
    """One input channel. `zscore`: each volume by its own mean and standard deviation. `clip_zscore`: clipped to
    [lower, upper], then by the dataset's mean and std (of labelled foreground), all in the image's own units."""

    name: Name
    normalisation: Literal["zscore", "clip_zscore"]
    lower: Finite | None = None
    upper: Finite | None = None
    mean: Finite | None = None
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _statistics_where_needed(self) -> Self:
        if self.normalisation == "clip_zscore" and None in (self.lower, self.upper, self.mean, self.std):
            raise ValueError("clip_zscore needs lower, upper, mean and std")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise ValueError(f"lower is above upper: {self.lower} and {self.upper}")
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
    strides: tuple[SmallTriple, ...]
    kernels: tuple[SmallTriple, ...]
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
    """How whole volumes are predicted: windows of the patch size overlapping by `overlap`, `batch` at a time, each seen
    mirrored along every combination of `mirror_axes` too where that is asked for."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    batch: Count = 2
    mirror_axes: Annotated[tuple[Literal[0, 1, 2], ...], Field(max_length=3)] = ()


class Cleaning(_Record):
    """What is done to one class's mask after prediction, in this order: components below `minimum_ml` are dropped, all
    but the largest one are, and holes are filled with the class."""

    minimum_ml: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    largest: bool = False
    fill_holes: bool = False


class SeenPlan(_Record):
    """What the training images were like, so that a volume unlike them is noticed.

    `spacing`: the smallest and the largest along each axis (RAS+ order, mm). `intensities`, one entry a channel: the
    lowest 5th and the highest 95th percentile of a volume, None where intensities have no unit.
    """

    spacing: tuple[tuple[Length, Length, Length], tuple[Length, Length, Length]]
    intensities: tuple[tuple[Finite, Finite] | None, ...]


class Region(_Record):
    """A target that may overlap others: the union of label values. In a map of all regions, painted one over the other,
    it has the value `painted`, one of its own."""

    name: Name
    values: Annotated[tuple[LabelValue, ...], Field(min_length=1)]
    painted: Annotated[int, Field(ge=1, lt=2**15)]


class Plan(_Record):
    """All that is needed besides the weights to prepare a volume, run the network and name its output.

    The network has one output a class (softmax), or one a region where there are `regions` (sigmoid). `foreground` is
    the share of labelled patches that are placed around a voxel of a class, `mirror_axes` the axes along which training
    mirrors patches. `reasons` says of a field, named as `network.strides` or `channels.0`, why it is as it is.
    """

    version: Literal[1] = 1
    name: Name
    channels: Annotated[tuple[ChannelPlan, ...], Field(min_length=1, max_length=64)]
    classes: Annotated[dict[LabelValue, Name], Field(min_length=2, max_length=1024)]
    regions: Annotated[tuple[Region, ...], Field(max_length=1024)] = ()
    spacing: tuple[Length, Length, Length]
    patch_size: Triple
    batch_size: Count
    foreground: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    mirror_axes: Annotated[tuple[Literal[0, 1, 2], ...], Field(max_length=3)] = ()
    network: NetworkPlan
    inference: InferencePlan = InferencePlan()
    seen: SeenPlan | None = None
    postprocessing: dict[LabelValue, Cleaning] = {}
    reasons: Annotated[dict[Name, Annotated[str, Field(max_length=1000)]], Field(max_length=200)] = {}

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        divisor = self.network.divisor()
        if any(p % d for p, d in zip(self.patch_size, divisor, strict=True)):
            raise ValueError(f"patch_size {self.patch_size} is not a multiple of the network's strides {divisor}")
        if 0 not in self.classes:
            raise ValueError(f"classes must contain 0 (background), found {list(self.classes)[:10]}")
        strange = sorted(set(self.postprocessing) - set(self.classes) | {0} & set(self.postprocessing))
        if strange:
            raise ValueError(f"postprocessing names {strange[:10]}, which are no foreground classes")
        if self.seen is not None and len(self.seen.intensities) != len(self.channels):
            raise ValueError(f"seen has {len(self.seen.intensities)} intensities for {len(self.channels)} channels")
        for region in self.regions:
            unknown = set(region.values) - set(self.classes) | {0} & set(region.values)
            if unknown:
                raise ValueError(f"region {region.name} holds {sorted(unknown)}, which are no foreground classes")
            if region.painted not in region.values:
                raise ValueError(f"region {region.name} is painted with {region.painted}, which is none of its values")
        return self

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label value of each class, ascending; the first is the background. Without regions, of each output."""
        return tuple(sorted(self.classes))

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return len(self.regions) or len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of `label_values`."""
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
    except ValidationError as error:
        raise InputError(f"{path}: not a valid plan: {first_problem(error)}") from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError, AttributeError, LookupError) as error:
        # beside its own errors PyYAML lets those of its constructors through: `!!timestamp x`, `!!bool 3`, `2001-99-99`
        raise InputError(f"{path}: not a readable YAML file ({printable(str(error))})") from error


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes `plan` as YAML that `load_plan` reads back equal; the reasons last, one a line."""
    content = plan.model_dump(mode="json")
    reasons = content.pop("reasons")
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
    if reasons:
        text += yaml.safe_dump({"reasons": reasons}, sort_keys=False, default_flow_style=False, width=2000)
    write_text(path, text)


def first_problem(error: ValidationError) -> str:
    """Where and what is wrong, on one line."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "plan"
    return f"{printable(where)}: {printable(first['msg'].removeprefix('Value error, '))}"


def printable(text: str) -> str:
    """`text` on one line of at most 300 characters: it may quote anything that a file holds."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:300]
