"""Where bundle and overlays lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from medseg.errors import InputError, nearest

__all__ = ["bundle_folder", "overlay_folder", "overlay_names", "overlay_path"]

_PACKAGE = Path(__file__).resolve().parent


def bundle_folder() -> Path:
    """The folder of the bundle, `bundles/unet3d`."""
    return _share() / "bundles" / "unet3d"


def overlay_folder() -> Path:
    """The folder of the overlays, `configs`, with one folder a concern."""
    return _share() / "configs"


def overlay_names(concern: str) -> list[str]:
    """The names of the overlays of one concern, such as "loss"."""
    return sorted(path.stem for path in (overlay_folder() / concern).glob("*.yaml"))


def overlay_path(concern: str, name: str) -> Path:
    """The overlay `configs/<concern>/<name>.yaml`.

    Raises:
        InputError: there is none; the nearest name and all names are given.
    """
    known = overlay_names(concern)
    if name not in known:
        raise InputError(f"unknown {concern} '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return overlay_folder() / concern / f"{name}.yaml"


def _share() -> Path:
    installed = _PACKAGE / "_share"
    return installed if installed.is_dir() else _PACKAGE.parent
