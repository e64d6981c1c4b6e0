"""Segmentation files judged against reference files."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.volume import is_volume, read_geometry, read_labels, strip_suffix
from medseg.errors import InputError, listed
from medseg.files import write_rows, write_text
from medseg.metrics.judge import judge
from medseg.metrics.measures import TOLERANCE_MM
from medseg.metrics.report import ClassResult, Summary, as_json, summarise, undefined_result

__all__ = [
    "Evaluation",
    "Pair",
    "check_grids",
    "class_names",
    "evaluate_pairs",
    "pair_files",
    "parse_classes",
    "write_csv",
    "write_json",
]

_MOST_NAMES = 10  # in a message


@dataclass(frozen=True)
class Pair:
    """A segmentation, its reference, and the name of the case."""

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_pairs` found.

    `pairs` are the files, none where a run was judged. `results` is case -> a result per class of `classes`;
    `not_judged` are the label values above 0 or below that files hold and `classes` does not.
    """

    pairs: tuple[Pair, ...]
    classes: Mapping[int, str]
    results: Mapping[str, Sequence[ClassResult]]
    summary: Summary
    not_judged: tuple[int, ...]
    tolerance_mm: float = TOLERANCE_MM


def pair_files(prediction: str | os.PathLike[str], reference: str | os.PathLike[str]) -> tuple[list[Pair], list[str]]:
    """Pairs two files, or the volumes of two folders that are equal in name but for the suffix.

    Returns:
        The pairs in the order of their names, and the names of predictions that have no reference.

    Raises:
        InputError: nothing there, a file against a folder, no volumes in a folder, two volumes of one name,
            or a reference without a prediction.
    """
    prediction, reference = Path(prediction), Path(reference)
    for path in (prediction, reference):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    if prediction.is_dir() != reference.is_dir():
        folder, file = (prediction, reference) if prediction.is_dir() else (reference, prediction)
        raise InputError(f"{folder}: a folder, while {file} is a file; give two files or two folders")
    if not reference.is_dir():
        return [Pair(strip_suffix(reference.name), prediction, reference)], []
    predictions, references = _volumes(prediction), _volumes(reference)
    missing = [name for name in references if name not in predictions]
    if missing:
        raise InputError(
            f"{prediction}: no prediction for {len(missing)} of the {len(references)} references in "
            f"{reference}: {listed(missing, _MOST_NAMES)}; predict them, or take their references away"
        )
    extra = [name for name in predictions if name not in references]
    return [Pair(name, predictions[name], path) for name, path in references.items()], extra


def check_grids(pairs: Iterable[Pair]) -> None:
    """Compares the grids of each pair, from the headers alone, so that a mismatch is found before the work.

    Raises:
        InputError: a file cannot be read, or the two grids differ; says by how much.
    """
    for pair in pairs:
        difference = read_geometry(pair.prediction).difference(read_geometry(pair.reference))
        if difference:
            raise InputError(
                f"{pair.prediction}: another grid than its reference {pair.reference}: {difference}; "
                "resample one onto the other's grid"
            )


def evaluate_pairs(
    pairs: Iterable[Pair],
    classes: Mapping[int, str] | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    names: Mapping[int, str] | None = None,
) -> Evaluation:
    """Reads and judges pairs of label maps on equal grids, by all measures but the calibration error.

    Args:
        pairs: what `pair_files` gave, checked by `check_grids`.
        classes: label value -> class name, without the background. None takes every value above 0 that a file
            holds.
        tolerance_mm: of the surface Dice.
        names: of these values, see `class_names`; by its number where there is none.

    Raises:
        InputError: a file cannot be read, or no file holds a class.
    """
    named = names or {}
    judged: dict[str, tuple[Pair, dict[str, ClassResult]]] = {}
    found: set[int] = set()
    for pair in pairs:
        prediction, reference = read_labels(pair.prediction), read_labels(pair.reference)
        values = {int(v) for array in (prediction.array, reference.array) for v in np.unique(array)} - {0}
        found |= values
        of_case = classes if classes is not None else {v: named.get(v, str(v)) for v in sorted(values) if v > 0}
        results = judge(prediction.array, reference.array, reference.geometry.spacing, of_case, tolerance_mm)
        judged[pair.case] = pair, {result.class_name: result for result in results}
    if classes is None:
        classes = {value: named.get(value, str(value)) for value in sorted(found) if value > 0}
    if not classes:
        raise InputError(
            f"{', '.join(str(p.reference) for p, _ in judged.values())}: only background in references and "
            "predictions, expected label values above 0; name the classes with --classes"
        )
    table = {
        case: [results.get(name) or undefined_result(name, all_measures=True) for name in classes.values()]
        for case, (_, results) in judged.items()
    }
    return Evaluation(
        pairs=tuple(pair for pair, _ in judged.values()),
        classes=classes,
        results=table,
        summary=summarise(table, intervals=True),
        not_judged=tuple(sorted(found - set(classes))),
        tolerance_mm=tolerance_mm,
    )


def class_names(predictions: Iterable[Path]) -> dict[int, str]:
    """Names by label value from what `medseg predict` wrote beside segmentations, `NAME.json`. A value has none where
    these differ, where it alone is not the whole of a region, and where its name is that of another."""
    found: dict[int, set[str]] = {}
    for path in predictions:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # nothing is said there
            record = json.loads((path.parent / f"{strip_suffix(path.name)}.json").read_text(encoding="utf-8"))
            for name, one in record["classes"].items():
                if one["values"] == [one["value"]]:
                    found.setdefault(int(one["value"]), set()).add(name)
    names = {value: name for value, (name, *others) in found.items() if not others and not name.isdecimal()}
    often = Counter(names.values())
    return {value: name for value, name in names.items() if often[name] == 1}


def parse_classes(text: str) -> dict[int, str]:
    """Reads `"1=anterior,2=posterior"`; a value without a name is named by its number.

    Raises:
        InputError: not of that form, a value below 1, a value or a name given twice.
    """
    classes: dict[int, str] = {}
    for item in text.split(","):
        value, _, name = (part.strip() for part in item.partition("="))
        if not value.isdecimal() or int(value) < 1:
            raise InputError(f"--classes: found '{item}', expected VALUE=NAME with a value >= 1, as in '1=liver'")
        if int(value) in classes or (name or value) in classes.values():
            raise InputError(f"--classes: '{item}' gives a value or a name a second time; give each once")
        classes[int(value)] = name or value
    return classes


def write_json(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Writes everything as JSON, whole or not at all; undefined values are null.

    Raises:
        InputError: the file cannot be written.
    """
    files = {
        pair.case: {"prediction": str(pair.prediction), "reference": str(pair.reference)} for pair in evaluation.pairs
    }
    record = {
        "classes": {str(value): name for value, name in evaluation.classes.items()},
        "cases": {
            case: {**files.get(case, {}), "classes": as_json(results)} for case, results in evaluation.results.items()
        },
        "summary": as_json(evaluation.summary),
        "tolerance_mm": evaluation.tolerance_mm,
        "not_judged": list(evaluation.not_judged),
    }
    write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: str | os.PathLike[str], evaluation: Evaluation) -> None:
    """Writes one row per case and class as CSV, whole or not at all; undefined values are empty.

    Raises:
        InputError: the file cannot be written.
    """
    results = evaluation.results
    write_rows(path, [{"case": case, **as_json(result)} for case in results for result in results[case]])


def _volumes(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by name without suffix, sorted."""
    volumes: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if is_volume(path)):
        name = strip_suffix(path.name)
        if name in volumes:
            raise InputError(f"{path}: the same case as {volumes[name].name}; keep one of the two")
        volumes[name] = path
    if not volumes:
        raise InputError(f"{folder}: no volumes in this folder (.nii.gz, .nrrd, .mha, ...); check the path")
    return volumes
