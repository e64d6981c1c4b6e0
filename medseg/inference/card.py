"""The model card: what a model is, what it was made of and what it must not be used for."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import medseg
from medseg.files import write_text
from medseg.plan import Plan, printable

__all__ = ["data_terms", "model_card", "write_card"]

_UNKNOWN = "not recorded"


def write_card(
    folder: str | os.PathLike[str],
    plan: Plan,
    terms: Mapping[str, str] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Writes `model_card.md` into a model folder; see `model_card`."""
    write_text(Path(folder) / "model_card.md", model_card(plan, terms, metrics))


def data_terms(folder: str | os.PathLike[str]) -> dict[str, str]:
    """What the dataset.json in `folder` says of the data's origin: `description`, `reference`, `licence`, `release`,
    where it says it."""
    try:
        content = json.loads((Path(folder) / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    found = {key: content.get(key) for key in ("description", "reference", "release")}
    found["licence"] = content.get("licence") or content.get("license")
    return {key: printable(str(value)) for key, value in found.items() if value}


def model_card(plan: Plan, terms: Mapping[str, str] | None = None, metrics: Mapping[str, Any] | None = None) -> str:
    """The card as Markdown.

    Args:
        plan: of the model.
        terms: of the data, as `data_terms` finds them.
        metrics: as a run's metrics.json holds them, with `model` and the splits that were judged.
    """
    terms = terms or {}
    targets = [r.name for r in plan.regions] or [name for value, name in sorted(plan.classes.items()) if value]
    spacing = " x ".join(f"{mm:g}" for mm in plan.spacing)
    lines = [
        f"# {printable(plan.name)}",
        "",
        f"A 3-D segmentation model, written by medseg {medseg.__version__}. **Not a medical device.**",
        "",
        "## Intended use",
        "",
        "Research: segmentation of volumes like those it was trained on, every result looked at by somebody who can"
        " judge it. Not for diagnosis, treatment or any other clinical decision.",
        "",
        f"- Input: {', '.join(printable(c.name) for c in plan.channels)}; resampled to {spacing} mm (RAS+ axes).",
        f"- Output: {', '.join(map(printable, targets))}.",
        f"- Network: U-Net of {len(plan.network.filters)} stages, patches of {' x '.join(map(str, plan.patch_size))}.",
        "",
        "## Data and licence",
        "",
        f"- Dataset: {printable(plan.name)}. {terms.get('description', '')}".rstrip(),
        f"- Source: {terms.get('reference', _UNKNOWN)}",
        f"- Licence of the data: {terms.get('licence', _UNKNOWN)}. What it asks for holds for this model too.",
        "",
        "## Metrics",
        "",
        *_metrics(metrics or {}),
        "",
        "## Limits",
        "",
        *_limits(plan),
        "- Other scanners, protocols, ages, diseases or bodies than those of the training data may fail without a sign."
        " `medseg predict` flags what it can see: spacing and intensities outside the training range, many components,"
        " structures cut by the border, low confidence.",
        "- Checkpoints were chosen on validation cases, which makes their figures a little too good.",
    ]
    return "\n".join(lines) + "\n"


def _limits(plan: Plan) -> list[str]:
    if plan.seen is None:
        return ["- The range of the training images was not recorded."]
    low, high = (" x ".join(f"{mm:g}" for mm in ends) for ends in plan.seen.spacing)
    lines = [f"- Training images had voxels of {low} to {high} mm."]
    for channel, span in zip(plan.channels, plan.seen.intensities, strict=True):
        if span is not None:
            lines.append(f"- {printable(channel.name)}: 5th to 95th percentiles within {span[0]:g} to {span[1]:g}.")
    return lines


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for split in ("validation", "test"):
        found = metrics.get(split, {})
        summary = found.get("best", {}).get("summary", {}) if isinstance(found, Mapping) else {}
        rows = [(row["class_name"], row["dice"], row["hd95_mm"]) for row in summary.get("classes", ())]
        if rows:
            lines += [
                f"{split.capitalize()}, {summary.get('n_cases', '?')} cases, mean over cases:",
                "",
                "| class | Dice | HD95 mm |",
                "|---|---|---|",
                *(f"| {printable(str(name))} | {_shown(d, 3)} | {_shown(h, 2)} |" for name, d, h in rows),
                "",
            ]
    return lines[:-1] or [f"Figures: {_UNKNOWN}; `medseg evaluate` finds them."]


def _shown(value: Any, digits: int) -> str:
    mean = value.get("mean") if isinstance(value, Mapping) else value
    return f"{mean:.{digits}f}" if isinstance(mean, int | float) and math.isfinite(mean) else "undefined"
