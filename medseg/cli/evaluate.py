"""`medseg evaluate`: how good segmentations are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

__all__ = ["evaluate"]


def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="A segmentation, or a folder of them.")],
    reference: Annotated[
        Path, typer.Argument(metavar="REF", help="The reference, or a folder with files of equal names.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write evaluation.json and evaluation.csv here."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON here.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV here.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="VALUE=NAME,...", help="The classes to judge. By default every label value above 0."),
    ] = None,
) -> None:
    """Judge segmentations against references: Dice and HD95 (mm), per case and class.

    NIfTI, NRRD and MHA; the two must lie on one grid. A class that only
    one of the two has is missed: Dice 0, HD95 the image's diagonal. A class
    that neither has is undefined and left out of the means.

    \b
    Example:
      medseg evaluate predictions/ labels/ --output results/
    """
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from medseg.files import make_folder
    from medseg.report.evaluation import (
        check_grids,
        evaluate_pairs,
        pair_files,
        parse_classes,
        write_csv,
        write_json,
    )
    from medseg.report.tables import cases_table, metrics_table

    names = None if classes is None else parse_classes(classes)
    pairs, extra = pair_files(prediction, reference)
    check_grids(pairs)
    writers = [
        (write, target)
        for write, target in (
            (write_json, output and output / "evaluation.json"),
            (write_csv, output and output / "evaluation.csv"),
            (write_json, json_file),
            (write_csv, csv_file),
        )
        if target is not None
    ]
    for _, target in writers:
        make_folder(target.parent)  # known to be writable before the work

    errors, console = Console(stderr=True), Console()
    found = evaluate_pairs(
        track(pairs, "Judging", console=errors, transient=True, disable=not errors.is_terminal), names
    )
    for write, target in writers:
        write(target, found)
    console.print(cases_table(f"{prediction} against {reference}", found.results))
    console.print(metrics_table(f"Summary of {found.summary.n_cases} cases", found.summary))
    if extra:
        errors.print(f"Warning: {prediction}: no reference, so not judged: {', '.join(extra)}", markup=False)
    if found.not_judged:
        values = ", ".join(map(str, found.not_judged))
        errors.print(f"Warning: label values that are no class were not judged: {values}", markup=False)
