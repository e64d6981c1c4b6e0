"""Cases in a raw dataset folder of nnU-Net v2: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.case import Case
from medseg.data.description import Description, describe
from medseg.data.listing import CHANNEL, Fold, Listing, Part, orphan
from medseg.data.volume import SUFFIXES
from medseg.errors import InputError

__all__ = ["is_nnunet", "list_nnunet"]


def is_nnunet(content: Mapping[str, Any]) -> bool:
    """Whether the content of a dataset.json is nnU-Net's: it lists no training cases, but says how files end."""
    return "training" not in content and ("file_ending" in content or "dataset" in content)


def list_nnunet(path: Path, content: Mapping[str, Any]) -> Listing:
    """The cases of `imagesTr` with their labels of `labelsTr`; a case without one is unlabelled.

    Images of `imagesTs` are test cases where `labelsTs` has labels for all of them; otherwise they are not used. The
    folds of a `splits_final.json` beside dataset.json are kept.

    Raises:
        InputError: dataset.json is broken, no images, a missing channel.
    """
    folder, description = path.parent, describe(path, content)
    remarks: list[str] = []
    orphans: list[str] = []
    test: tuple[Case, ...]
    if "dataset" in content:
        cases, test = _listed(path, content["dataset"]), ()
    else:
        ending = _ending(path, content)
        cases, test = (_found(folder, which, ending, description, orphans) for which in ("Tr", "Ts"))
        if not cases:
            raise InputError(f"{folder / 'imagesTr'}: no files CASE_0000{ending}; expected the images of nnU-Net there")
    count, labels = content.get("numTraining"), sum(case.label is not None for case in cases)
    if isinstance(count, int) and count not in (len(cases), labels):
        remarks.append(
            f"{path}: numTraining is {count}, but there are {len(cases)} cases, {labels} with a label; restore those"
            " that are missing, or correct the number"
        )
    if unjudged := sum(case.label is None for case in test):
        remarks.append(
            f"{folder / 'imagesTs'}: {unjudged} of {len(test)} cases have no label in labelsTs, so that none of"
            " imagesTs is used; add the labels to judge by them, or segment them with `medseg predict`"
        )
        test = ()
    parts: dict[str, Part] = {case.name: "test" for case in test}
    listing = Listing.of(description, (*cases, *test), path)
    folds = _folds(folder / "splits_final.json")
    return dataclasses.replace(listing, parts=parts, folds=folds, remarks=tuple(remarks), orphans=tuple(orphans))


def _ending(path: Path, content: Mapping[str, Any]) -> str:
    ending = content["file_ending"]
    if ending not in SUFFIXES:
        raise InputError(
            f'{path}: "file_ending" is {ending!r:.80}, expected one of {", ".join(SUFFIXES)}; convert them'
        )
    return str(ending)


def _found(folder: Path, which: str, ending: str, description: Description, orphans: list[str]) -> tuple[Case, ...]:
    """The cases; what to say of labels without an image is added to `orphans`."""
    images, labels = folder / f"images{which}", folder / f"labels{which}"
    found: dict[str, dict[int, Path]] = {}
    for file in _files(images, ending):
        match = CHANNEL.match(file.name.removesuffix(ending))
        if match is None:
            raise InputError(f"{file}: not named as nnU-Net's images are, CASE_0000{ending}; rename or remove it")
        found.setdefault(match["case"], {})[int(match["channel"])] = file
    label_of = {file.name.removesuffix(ending): file for file in _files(labels, ending)}
    firsts = [next(iter(files.values())) for files in found.values()]
    orphans += [orphan(f, f"{n}_0000{ending}", images, firsts) for n, f in label_of.items() if n not in found]
    cases = []
    for name, files in found.items():
        channels = len(description.channels) or len(files)
        if sorted(files) != list(range(channels)):
            numbers = ", ".join(f"{number:04}" for number in sorted(files))
            raise InputError(
                f"{images}: case {name} has channels {numbers}, expected {channels} from 0000; add what is missing"
            )
        cases.append(Case(name, tuple(files[i] for i in range(channels)), label_of.get(name)))
    return tuple(cases)


def _files(folder: Path, ending: str) -> list[Path]:
    """Visible files of that ending, by name; macOS leaves `._NAME`s."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name.endswith(ending) and not p.name.startswith("."))


def _listed(path: Path, entries: object) -> tuple[Case, ...]:
    """The cases that dataset.json names itself: `{"CASE": {"images": [FILE, ...], "label": FILE}}`."""
    cases = []
    for name, entry in entries.items() if isinstance(entries, dict) else []:
        images = entry.get("images") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(f, str) for f in (*images, label or "")):
            raise InputError(
                f'{path}: "dataset" has {name}: {entry!r:.80}, expected {{"images": [FILE], "label": FILE}}'
            )
        files = tuple(path.parent / file for file in images)
        cases.append(Case(name, files, path.parent / label if label else None))
    if not cases:
        raise InputError(f'{path}: no cases under "dataset"; expected {{"CASE": {{"images": [FILE], "label": FILE}}}}')
    return tuple(cases)


def _folds(path: Path) -> tuple[Fold, ...]:
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return tuple(Fold(tuple(map(str, fold["train"])), tuple(map(str, fold["val"]))) for fold in content)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f'{path}: not the folds of nnU-Net, [{{"train": [...], "val": [...]}}, ...] ({error!r:.80}); correct it'
        ) from error
