"""The config of a run: the bundle's, overlays by concern and name, further files, and what the user sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.share import bundle_folder, overlay_path

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__ = ["assignment", "budget_of_labels", "check_yaml", "composed", "merged", "parsed"]


def composed(overlays: Mapping[str, str | None], extra: Sequence[Path] = ()) -> list[str]:
    """The config files of a run: the bundle's, then the overlays by concern and name, then `extra`.

    Raises:
        InputError: an unknown name, or a file that is missing or no YAML mapping.
    """
    named = [overlay_path(concern, name) for concern, name in overlays.items() if name]
    for path in extra:
        check_yaml(path)
    return [str(path) for path in (bundle_folder() / "configs" / "train.yaml", *named, *extra)]


def merged(files: Sequence[str], overrides: Iterable[str]) -> dict[str, Any]:
    """The config that `files` make together, which has a place for each key of `overrides`.

    Raises:
        InputError: it has none, or a file reaches into what is not there.
    """
    from monai.bundle import ConfigParser

    from medseg.bundle import check_override

    try:
        config: dict[str, Any] = ConfigParser.load_config_files(files)
    except KeyError as error:
        raise InputError(f"{files[-1]}: a key does not exist in the config ({error})") from error
    for key in overrides:
        check_override(config, key)
    return config


def parsed(files: Sequence[str], overrides: Mapping[str, Any]) -> ConfigParser:
    """What evaluates parts of that config, every key of which is known.

    Raises:
        InputError: as `merged`, or a key is unknown.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(merged(files, overrides))
    parser.update(dict(overrides))
    parser.get_parsed_content("config")  # checks every key
    return parser


def check_yaml(path: Path) -> None:
    """Reads a config.

    Raises:
        InputError: the file is missing or no YAML mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # `2001-99-99` is a ValueError
        raise InputError(f"{path}: not a readable YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a YAML mapping of config keys, found {type(content).__name__}")


def assignment(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`, the value read as YAML; `1e-4`, which is a text in YAML 1.1, as a number.

    Raises:
        InputError: it is not of that form.
    """
    import yaml

    from medseg.bundle import is_number_text

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"--set {text}: expected KEY=VALUE, such as --set handlers#steps#every=5")
    if is_number_text(value):
        return key, float(value)
    try:
        return key, yaml.safe_load(value)
    except (ValueError, yaml.YAMLError) as error:  # `2001-99-99` is a ValueError
        raise InputError(f"--set {text}: the value is not readable ({' '.join(str(error).split())})") from error


def budget_of_labels(text: str) -> int | str:
    """A number of cases, or "all".

    Raises:
        InputError: it is neither.
    """
    if text == "all":
        return text
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"--labelled {text}: expected a number of cases from 1, or all")
    return number
