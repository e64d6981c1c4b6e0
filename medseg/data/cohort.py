"""A cohort: the cases of a folder, each in the one role that it has in a run."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.case import Case, load_case
from medseg.data.layouts import list_cases
from medseg.data.splits import choose_labelled, split_cases
from medseg.data.volume import read_labels
from medseg.errors import InputError
from medseg.plan import Region

__all__ = ["Case", "Cohort", "load_case", "load_cohort", "named_by_values"]


@dataclass(frozen=True)
class Cohort:
    """What a run reads.

    Args:
        name: of the dataset.
        channels: the modality of each channel as the user wrote it ("LGE MRI"); "unknown" where nobody said.
        classes: names by label value: 0 (background), 1, 2, ... without gaps.
        labelled: training cases whose labels may be read.
        unlabelled: the other training cases. Their label is None, whether or not there is one.
        validation: cases that choose checkpoints, with labels.
        test: cases that choose nothing, with labels; may be empty.
        regions: where targets overlap: what the network is to find instead of the classes, in the order in which
            they are painted into one label map; empty where the targets are the classes.
        soft: whether labels are not maps of class values but probabilities: of each foreground class (X, Y, Z, K - 1),
            or (X, Y, Z) where there is one.
    """

    name: str
    channels: tuple[str, ...]
    classes: dict[int, str]
    labelled: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    regions: tuple[Region, ...] = ()
    soft: bool = False


def load_cohort(
    data_dir: str | os.PathLike[str], labelled: int | str = "all", seed: int = 0, modality: str | None = None
) -> Cohort:
    """The cohort in a folder; opens no image, and labels only to find the classes of plain folders.

    Layouts: `dataset.json` of the Medical Segmentation Decathlon, or `images/` and `labels/` with files of
    same stems (NIfTI, NRRD, MHA, MHD). A case without a label is an unlabelled one. `splits.json` beside
    them may hold the case names of `train`, `validation`, `test` and, by budget, `labelled`; without it,
    validation cases are drawn.

    Args:
        data_dir: the folder.
        labelled: how many training cases have labels that may be read (see `choose_labelled`), or "all".
        seed: of what is drawn.
        modality: of all channels, or of each with commas ("CT,PET"); replaces that of dataset.json.

    Raises:
        InputError: the folder, its json files or its labels are not as expected, or `labelled` is more than
            there are.
    """
    data_dir = Path(data_dir)
    listing = list_cases(data_dir, modality)
    split = split_cases(data_dir, listing.cases, seed)
    chosen = choose_labelled(split, labelled, seed)
    inside = tuple(case for case in split.train if case.name in chosen)
    outside = tuple(dataclasses.replace(case, label=None) for case in split.train if case.name not in chosen)
    for case in (*inside, *split.validation, *split.test):
        if case.label is not None and not case.label.is_file():
            raise InputError(
                f"{case.label}: no such file, but it is listed as the label of case {case.name}; restore it"
            )
    classes = listing.classes or _found_classes(data_dir, (*inside, *split.validation))
    return Cohort(listing.name, listing.channels, classes, inside, outside, split.validation, split.test)


def named_by_values(data_dir: Path, values: set[int]) -> dict[int, str]:
    """Classes of plain folders, named by the label values that were found.

    Raises:
        InputError: values are negative, leave gaps, or there is no foreground.
    """
    classes = {value: f"class {value}" if value else "background" for value in sorted(values | {0})}
    if len(classes) < 2 or list(classes) != list(range(len(classes))):
        raise InputError(
            f"{data_dir / 'labels'}: label values {', '.join(map(str, classes))} found, expected 0"
            " (background), 1, 2, ... without gaps; renumber them, or name the classes in a dataset.json"
        )
    return classes


def _found_classes(data_dir: Path, cases: tuple[Case, ...]) -> dict[int, str]:
    values: set[int] = set()
    for case in cases:
        assert case.label is not None  # both parts have labels
        values.update(int(value) for value in np.unique(read_labels(case.label).array))
    return named_by_values(data_dir, values)
