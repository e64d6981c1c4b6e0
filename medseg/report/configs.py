"""Configs by flat keys, as overrides are written, and the names of the overlays in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from medseg.share import overlay_folder

__all__ = ["OTHER_THAN_DEFAULTS", "as_text", "flat", "is_wiring", "loss_name", "overlays", "short_name", "shown"]

# overlays of a class's name that set something else than its defaults
OTHER_THAN_DEFAULTS = frozenset({"combo", "tversky"})
_MOST_DIFFERENCES = 3  # beyond them it is another loss than the overlay's, and not a variant


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by `#`; an empty mapping stays a value."""
    if not isinstance(values, Mapping) or (prefix and not values):
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}#{key}" if prefix else str(key))
    return found


@cache
def overlays(concern: str) -> Mapping[str, Mapping[str, Any]]:
    """Flat keys of the overlays in one folder of `configs/`, by name."""
    files = sorted((overlay_folder() / concern).glob("*.yaml"))
    return {file.stem: flat(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files}


def loss_name(loss: Any) -> str:
    """What a config's `loss` is called: as the overlay that it is; else as the nearest one and what differs,
    "tversky(alpha=0.4)"; else as its class and all that is set."""
    if not isinstance(loss, Mapping) or "_target_" not in loss:
        return shown(as_text(loss))
    own = flat({"loss": dict(loss)})
    target = own["loss#_target_"]
    plain = short_name(str(target))
    known = {name: found for name, found in overlays("loss").items() if found.get("loss#_target_") == target}
    differences = {
        name: _differences(own, found, name == plain and name not in OTHER_THAN_DEFAULTS)
        for name, found in known.items()
    }
    name = min(differences, key=lambda name: (len(differences[name]), name != plain), default=None)
    if name is None or len(differences[name]) > _MOST_DIFFERENCES:
        name, settings = plain, {key: as_text(value) for key, value in own.items() if key != "loss#_target_"}
    else:
        settings = differences[name]
    said = " ".join(f"{key.removeprefix('loss#').removesuffix('#_target_')}={shown(v)}" for key, v in settings.items())
    return f"{name}({said})" if said else name


def short_name(name: str) -> str:
    """`medseg.losses.DiceCELoss` is "dice_ce", as overlays are named."""
    name = name.rpartition(".")[2].removesuffix("Loss")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def as_text(value: Any) -> str:
    """A value as text by which it is compared. MONAI writes `@a#b` as `@a::b`."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str).replace("::", "#")


def is_wiring(text: str) -> bool:
    """Whether such a text is a reference or an expression, which a config is wired with."""
    return text.startswith(('"@', '"$'))


def shown(text: str) -> str:
    """Such a text for people: `"$medseg.augment.IntensityRemap()"` is "IntensityRemap()"."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z]\w*)", "", text.strip('"').lstrip("$@"))


def _differences(own: Mapping[str, Any], overlay: Mapping[str, Any], defaults: bool) -> dict[str, str]:
    """What is set in another way than by the overlay; `defaults`: the overlay is the class with its defaults."""
    found = {key: as_text(value) for key, value in own.items() if as_text(value) != as_text(overlay.get(key, {}))}
    absent = [key for key in overlay if key.startswith("loss#") and key not in own]
    return found | ({} if defaults else dict.fromkeys(absent, "default"))
