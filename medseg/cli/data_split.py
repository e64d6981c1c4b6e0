"""`medseg data split`: a splits.json, drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from medseg.cli.data_check import DATA_HELP
from medseg.errors import InputError

__all__ = ["split"]


def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help=DATA_HELP)],
    validation: Annotated[
        str | None, typer.Option(metavar="SHARE|N", help="Of the labelled cases. Default: 0.2, or the CSV's own.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="SHARE|N", help="Of the labelled cases. Default: none, or the data's own.")
    ] = None,
    folds: Annotated[int, typer.Option(metavar="K", help="Also folds for cross-validation; `train --fold`.")] = 0,
    budgets: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Also lists of labelled training cases, nested.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal splits.")] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: splits.json beside the data, where it is read.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Draw which cases train, validate and test, and write splits.json.

    Cases of one group (a patient, from the CSV or dataset.json) stay
    together. Validation and test cases have labels.

    \b
    Example:
      medseg data split my_cohort/ --test 0.2 --folds 5 --budgets 3,9,18
    """
    from medseg.data.draw_splits import draw_splits
    from medseg.data.layouts import list_cases
    from medseg.files import write_text

    listing = list_cases(data)
    path = output or listing.folder / "splits.json"
    if path.exists() and not overwrite:
        raise InputError(f"{path}: is there already; give --overwrite to replace it, or another --output")
    shares = {}
    for part, text, usual in (("validation", validation, 0.2), ("test", test, 0.0)):
        if text is not None and part in listing.parts.values():
            raise InputError(f"--{part} {text}: {listing.source} names the {part} cases itself; leave the option out")
        shares[part] = usual if text is None else _share(part, text)
    found = draw_splits(listing, shares["validation"], shares["test"], folds, _counts(budgets), seed)
    write_text(path, json.dumps(found, indent=1) + "\n")
    with_label = {case.name for case in listing.cases if case.label}
    labelled = [sum(name in with_label for name in part["train"]) for part in (found, *found.get("folds", ()))]
    said = [f"{len(found[part])} {part}" for part in ("train", "validation", "test")]
    said[0] += f" ({labelled[0]} labelled)"
    said += [f"{folds} folds (train on {', '.join(map(str, labelled[1:]))} labelled)"] if folds else []
    said += [f"budgets {', '.join(found['labelled'])}"] if budgets else []
    Console().print(f"{path}: {', '.join(said)}", markup=False, highlight=False, soft_wrap=True)


def _share(part: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf or (value >= 1 and value != int(value)):
        raise InputError(f"--{part} {text}: expected a share such as 0.2, or a number of cases such as 24")
    return value


def _counts(text: str | None) -> list[int]:
    words = [word.strip() for word in text.split(",")] if text else []
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise InputError(f"--budgets {text}: {word!r} is no number of cases; expected such as 3,9,18")
    return [int(word) for word in words]
