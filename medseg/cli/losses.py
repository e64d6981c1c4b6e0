"""`medseg losses`: the losses there are, and what one of them is for, from its docstring."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from medseg.cli.described import print_description, print_lines
from medseg.errors import InputError, nearest
from medseg.share import overlay_folder, overlay_names

__all__ = ["losses"]


def losses(
    name: Annotated[
        str | None, typer.Argument(help="A loss, such as tversky or TverskyLoss.", show_default=False)
    ] = None,
) -> None:
    """List the losses; with NAME say what it minimises, its parameters and when to choose it.

    \b
    Example:
      medseg losses
      medseg losses tversky
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from medseg.losses.describe import describe

    console = Console()
    if name is None:
        _list(console)
    elif name in _overlays() and name not in _classes():
        _show_overlay(console, name)
    else:
        known = _known(name)
        print_description(console, describe(_classes()[known]), "medseg.losses")
        if known in _overlays():
            console.print(Text(f"\nTrain with it: medseg train --loss {known}"))


def _classes() -> dict[str, type]:
    """The exported losses by their short names."""
    from medseg import losses as family
    from medseg.report.configs import short_name

    return {short_name(name): getattr(family, name) for name in family.__all__ if name.endswith("Loss")}


def _overlays() -> dict[str, str]:
    """The comments of the overlays by their names."""
    return {name: _overlay(name).splitlines()[0].lstrip("# ") for name in overlay_names("loss")}


def _overlay(name: str) -> str:
    return (overlay_folder() / "loss" / f"{name}.yaml").read_text(encoding="utf-8")


def _known(name: str) -> str:
    from medseg.report.configs import short_name

    known = _classes()
    short = short_name(name) if name.endswith("Loss") else name.removesuffix("_loss")
    if short not in known:
        near = nearest(short, [*known, *_overlays()])
        raise InputError(f"unknown loss '{name}'{near}; `medseg losses` lists them")
    return short


def _list(console: Console) -> None:
    from medseg.losses.describe import describe

    overlays = _overlays()
    others = {name: describe(loss).summary for name, loss in _classes().items() if name not in overlays}
    console.print(Text("To train with: medseg train --loss NAME", style="bold"))
    print_lines(console, overlays)
    console.print(Text("\nFor configs and methods: medseg.losses", style="bold"))
    print_lines(console, others)


def _show_overlay(console: Console, name: str) -> None:
    import yaml

    from medseg import losses as family
    from medseg.losses.describe import describe

    text = _overlay(name)
    console.print(Text(text.rstrip()))
    target = yaml.safe_load(text)["loss"]["_target_"].rpartition(".")[2]
    console.print()
    print_description(console, describe(getattr(family, target)), "medseg.losses")
