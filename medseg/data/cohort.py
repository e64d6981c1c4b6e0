"""A cohort: the cases of a folder, each in the one role that it has in a run."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.case import Case
from medseg.data.corrected import with_labels
from medseg.data.layouts import list_cases
from medseg.data.listing import Listing
from medseg.data.splits import choose_labelled, split_cases, torn_groups
from medseg.data.volume import read_geometry, read_labels, refuse_missing
from medseg.errors import InputError
from medseg.plan import Region

__all__ = ["Cohort", "load_cohort", "named_by_values"]

_log = logging.getLogger(__name__)


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
        folder: where the data lies, with what else is said of it; None where there is no such place.
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
    folder: Path | None = None


def load_cohort(
    data_dir: str | os.PathLike[str],
    labelled: int | str = "all",
    seed: int = 0,
    modality: str | None = None,
    fold: int | None = None,
    corrected: str | os.PathLike[str] | None = None,
    skip_bad: bool = False,
) -> Cohort:
    """The cohort in a folder; opens no image, and labels only to find the classes where no file names them.

    Layouts: `dataset.json` of the Medical Segmentation Decathlon or of nnU-Net v2, `cases.csv`, or `images/` and
    `labels/` with files of same stems (docs/data.md). A case without a label is an unlabelled one. `splits.json` beside
    them may hold the case names of `train`, `validation`, `test`, by budget `labelled`, and `folds`; without it,
    validation cases are drawn.

    Args:
        data_dir: the folder, or a CSV file.
        labelled: how many training cases have labels that may be read (see `choose_labelled`), or "all".
        seed: of what is drawn.
        modality: of all channels, or of each with commas ("CT,PET"); replaces that of dataset.json.
        fold: train and validate by this fold of the splits, from 0; a budget is then drawn from the fold's own
            training cases. None: by the split itself.
        corrected: a folder of labels NAME.nii.gz (.nii, .nrrd, .mha, .mhd) for training cases outside the budget, such
            as the pseudo-labels of `medseg suggest` after correction: these cases count as labelled.
        skip_bad: leaves out training cases of which a file is missing or an image has no readable header, with a
            warning; headers are opened for that.

    Raises:
        InputError: the folder, its json files or its labels are not as expected, a file is missing, a group is in two
            parts, `labelled` is more than there are, there is no such fold, or `skip_bad` leaves no labelled case.
    """
    data_dir = Path(data_dir)
    listing = list_cases(data_dir, modality)
    for remark in listing.remarks:
        _log.warning(remark)
    split = split_cases(listing, seed, fold)
    for group, parts in torn_groups({part: getattr(split, part) for part in ("train", "validation", "test")}).items():
        raise InputError(
            f"{split.source}: group {group} is in {' and in '.join(parts)}, so that its images would be judged by a"
            " network that saw them; keep it in one of them"
        )
    chosen = choose_labelled(split, labelled, seed)
    inside = tuple(case for case in split.train if case.name in chosen)
    outside = tuple(dataclasses.replace(case, label=None) for case in split.train if case.name not in chosen)
    if corrected is not None:
        again = with_labels(outside, Path(corrected))
        inside += tuple(case for case in again if case.label is not None)
        outside = tuple(case for case in again if case.label is None)
    if skip_bad:
        readable, outside = _readable(inside), _readable(outside)
        if not readable:
            raise InputError(f"{listing.source}: none of the {len(inside)} labelled cases can be read; restore some")
        inside = readable
    _refuse_missing(listing, (*inside, *outside, *split.validation, *split.test))
    classes = listing.classes or _found_classes(listing, (*inside, *split.validation))
    return Cohort(
        listing.name,
        listing.channels,
        classes,
        inside,
        outside,
        split.validation,
        split.test,
        listing.regions,
        listing.soft,
        listing.folder,
    )


def _refuse_missing(listing: Listing, cases: Iterable[Case]) -> None:
    """Refuses what is not there, naming the first and how many more."""
    problems = []
    for case in cases:
        for path, what in (*((image, "an image") for image in case.images), (case.label, "the label")):
            if path is not None:
                try:
                    refuse_missing(path, f", but {listing.source} lists it as {what} of case {case.name}")
                except InputError as error:
                    problems.append(str(error))
    if problems:
        more = f", and {len(problems) - 1} more are missing" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}; restore it, or see what `medseg data check` says")


def _readable(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    found = []
    for case in cases:
        try:
            for path in case.images:
                read_geometry(path, case.stacked)
            if case.label is not None:
                refuse_missing(case.label, "")
            found.append(case)
        except InputError as error:
            _log.warning("case %s is left out: %s", case.name, error)
    return tuple(found)


def named_by_values(source: Path, values: Mapping[int, Path]) -> dict[int, str]:
    """Classes that no file names, by the label values that were found, each with a file that has it.

    Raises:
        InputError: values are negative, leave gaps, or there is no foreground.
    """
    classes = {value: f"class {value}" if value else "background" for value in sorted({*values, 0})}
    if len(classes) < 2 or list(classes) != list(range(len(classes))):
        stray = next((value for place, value in enumerate(classes) if value != place), 0)
        where = f" ({stray} in {values[stray]})" if stray in values else ""
        raise InputError(
            f"{source}: label values {', '.join(map(str, classes))} found{where}, expected 0 (background), 1, 2, ..."
            " without gaps; renumber them (docs/data.md shows how)"
        )
    return classes


def _found_classes(listing: Listing, cases: tuple[Case, ...]) -> dict[int, str]:
    values: dict[int, Path] = {}
    for case in cases:
        assert case.label is not None  # both parts have labels
        for value in np.unique(read_labels(case.label).array):
            values.setdefault(int(value), case.label)
    return named_by_values(listing.source, values)
