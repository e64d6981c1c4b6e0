"""`medseg evaluate`: how good segmentations are, or a run on its held-out cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from medseg.cli.console import table_console
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.report.evaluation import Evaluation

__all__ = ["evaluate"]


def evaluate(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED|RUN", help="A segmentation, a folder of them, or with --split a run.")
    ],
    reference: Annotated[
        Path | None, typer.Argument(metavar="REF", help="The reference, or a folder with files of equal names.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write evaluation.json and evaluation.csv here."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write JSON here.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write CSV here.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE=NAME,...",
            help="The classes to judge. By default every label value above 0, with the names of `predict`.",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance-mm", min=0, help="Of the surface Dice: what a second rater differs by.")
    ] = 2.0,
    split: Annotated[
        str | None, typer.Option(help="Of a run: validation, or test, which is judged once and recorded.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Judge test cases once more; that is recorded too.")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --split: where the data is now, if it has moved.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --split: auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Judge segmentations against references, per case and class.

    NIfTI, NRRD and MHA; the two must lie on one grid. A class that only
    one of the two has is missed: Dice 0, HD95 the image's diagonal. A class
    that neither has is undefined, left out of the means and counted. With
    --split, a run's model is judged on the cases that its training held out;
    of --folds it is the ensemble.

    \b
    Example:
      medseg evaluate predictions/ labels/ --output results/
      medseg evaluate runs/a --split test
    """
    targets = [
        *((suffix, output / f"evaluation.{suffix}") for suffix in ("json", "csv") if output is not None),
        *((suffix, path) for suffix, path in (("json", json_file), ("csv", csv_file)) if path is not None),
    ]
    if split is None:
        if again or data is not None:
            option = "--again" if again else "--data"
            raise InputError(f"{option}: only with --split, as in: medseg evaluate RUN --split test")
        if reference is None:
            raise InputError(f"{prediction}: nothing to judge it against; give REF, or --split test where it is a run")
        found, notes = _files(prediction, reference, classes, tolerance, [path for _, path in targets])
        title = f"{prediction} against {reference}"
    else:
        if reference is not None:
            raise InputError(f"{reference}: --split takes the run's own references; leave out REF")
        if classes is not None:
            raise InputError(f"--classes {classes}: --split judges the run's own classes; leave it out")
        found, notes = _run(prediction, split, again, data, device, tolerance, [path for _, path in targets])
        title = f"{prediction}: {split}"
    _show(found, title, targets)
    for note in notes:
        Console(stderr=True).print(note, markup=False, highlight=False, soft_wrap=True)


def _files(
    prediction: Path, reference: Path, classes: str | None, tolerance: float, targets: Sequence[Path]
) -> tuple[Evaluation, list[str]]:
    # heavy imports where they are needed: `--help` and `--version` answer at once
    from rich.progress import track

    from medseg.files import make_folder
    from medseg.report.evaluation import check_grids, class_names, evaluate_pairs, pair_files, parse_classes

    names = None if classes is None else parse_classes(classes)
    pairs, extra = pair_files(prediction, reference)
    check_grids(pairs)
    for target in targets:
        make_folder(target.parent)  # known to be writable before the work
    errors = Console(stderr=True)
    shown = track(pairs, "Judging", console=errors, transient=True, disable=not errors.is_terminal)
    found = evaluate_pairs(shown, names, tolerance, class_names(pair.prediction for pair in pairs))
    notes = [f"Warning: {prediction}: no reference, so not judged: {', '.join(extra)}"] if extra else []
    if found.not_judged:
        values = ", ".join(map(str, found.not_judged))
        notes.append(f"Warning: label values that are no class were not judged: {values}")
    return found, notes


def _run(
    run: Path, split: str, again: bool, data: Path | None, device: str, tolerance: float, targets: Sequence[Path]
) -> tuple[Evaluation, list[str]]:
    from medseg.data.description import IGNORE_NAME
    from medseg.engine import judge_split, pick_device
    from medseg.engine.judgement import is_folds, judged_runs
    from medseg.files import make_folder
    from medseg.metrics.report import summarise
    from medseg.report.evaluation import Evaluation

    run_file = judged_runs(run)[0]
    for target in targets:
        make_folder(target.parent)  # known to be writable before test cases are judged, which is on record
    found = judge_split(run, split, tolerance_mm=tolerance, again=again, device=pick_device(device), data=data)
    summary = summarise(found.results, intervals=True)
    classes = {value: name for value, name in run_file.classes.items() if value and name != IGNORE_NAME}
    evaluation = Evaluation((), classes, found.results, summary, (), found.tolerance_mm)
    if split != "test":
        return evaluation, []
    times = len(found.judged)
    if found.fresh:
        how = "for the first time" if times == 1 else f"{times} times by now"
        notes = [f"Test cases judged {how}, which {run / 'test.json'} records"]
        scores = {"test/dice": summary.dice.mean, "test/hd95_mm": summary.hd95_mm.mean}
        if is_folds(run):  # their ensemble has no run of its own in MLflow
            for fold in judged_runs(run):
                notes += _noted(fold.tracking, str(times), {}, None)
        else:
            notes += _noted(run_file.tracking, str(times), scores, run / "test.json")
    else:
        often = "once" if times == 1 else f"{times} times"
        notes = [f"Recorded on {found.judged[-1]} (judged {often} in all); --again judges and records anew"]
        if not found.same_model:
            notes.append(f"Warning: the model of {run} is not the one that was judged")
    return evaluation, notes


def _noted(tracking: Mapping[str, str], times: str, scores: Mapping[str, float], file: Path | None) -> list[str]:
    """Notes the judgement in MLflow, where it would have to be looked for; a store that is away is a warning."""
    from medseg.tracking import annotate

    if not tracking.get("run_id"):
        return []
    try:
        annotate(tracking["uri"], tracking["run_id"], {"test_judged": times}, scores, [file] if file else [])
    except InputError as error:
        return [f"Warning: {error}"]
    return []


def _show(found: Evaluation, title: str, targets: Sequence[tuple[str, Path]]) -> None:
    from medseg.report.evaluation import write_csv, write_json
    from medseg.report.tables import cases_table, measures_table, metrics_table, worst_cases

    for suffix, target in targets:
        (write_json if suffix == "json" else write_csv)(target, found)
    console = table_console()
    console.print(cases_table(escape(title), found.results))
    console.print(metrics_table("Summary", found.summary))
    console.print(measures_table(f"All measures; surface Dice at {found.tolerance_mm:g} mm", found.summary))
    for line in worst_cases(found.results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
