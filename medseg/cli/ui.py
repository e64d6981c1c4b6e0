"""`medseg ui`: MLflow's pages on the store that runs are in."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["ui"]


def ui(
    store: Annotated[str | None, typer.Option(metavar="URI", help="The store. Default: runs/mlruns.db.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 5000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run.")] = False,
) -> None:
    """Open MLflow's user interface on the store that runs are tracked in.

    A store on a server has its pages there; of a local one they are
    served until Ctrl-C.

    \b
    Example:
      medseg ui --port 5001
    """
    from medseg.errors import InputError
    from medseg.tracking import default_uri, store_missing

    uri, console = store or default_uri(), Console()
    if uri.startswith(("http://", "https://")):
        console.print(f"The store is on a server: open {uri}", markup=False, highlight=False, soft_wrap=True)
        return
    if store_missing(uri):
        raise InputError(f"MLflow store {uri}: no such file; train a run first, or name another store with --store")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    console.print(f"Open http://127.0.0.1:{port} (Ctrl-C ends it)", markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        console.print(" ".join(command), markup=False, highlight=False, soft_wrap=True)
        return
    try:
        code = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return
    if code:
        raise InputError(f"port {port}: MLflow could not serve there (exit code {code}); choose another --port")
