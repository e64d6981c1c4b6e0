"""`medseg export`: a trained model as a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model folder.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The bundle's folder, new; DIR.zip stands beside it.")],
) -> None:
    """Write a trained model as a MONAI bundle: a folder and a zip.

    MONAI's tools check it (verify_metadata, verify_net_in_out), convert it
    (ckpt_export, onnx_export) and run it; MONAI Label serves it.

    \b
    Example:
      medseg export runs/a --output bundles/liver
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from medseg.inference.export import export_bundle

    folder, archive = export_bundle(run, output)
    for path in (folder, archive):
        Console().print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)
