"""What the user names on the command line: files, folders, DICOM series and trees of them become cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Case
from medseg.data.layouts import list_cases
from medseg.data.listing import CHANNEL
from medseg.data.stacked import count_channels
from medseg.data.volume import SUFFIXES, is_volume, strip_suffix
from medseg.errors import InputError
from medseg.inference.dicom_tree import safe_name, series_of

__all__ = ["Found", "find_cases", "find_inputs", "one_case", "unlabelled_cases"]


@dataclass(frozen=True)
class Found:
    """Cases, and by file or folder what is wrong with those that are none."""

    cases: list[Case]
    problems: dict[str, str]


def find_cases(inputs: Sequence[Path], channels: int) -> list[Case]:
    """The cases of `find_inputs`, where any problem is one too many.

    Raises:
        InputError: as `find_inputs`, or the first of its problems.
    """
    found = find_inputs(inputs, channels)
    for problem in found.problems.values():
        raise InputError(problem)
    return found.cases


def one_case(paths: Sequence[Path], channels: int) -> Case:
    """The case that `paths` are: of one channel a file or the folder of a DICOM series; of several channels their files
    or folders in the plan's order, or in any order where they are called `NAME_0000`, `NAME_0001` and so on, or one
    file that holds them all.

    Raises:
        InputError: as `find_cases`, or they are several cases.
    """
    named = sorted(_name_and_channel(strip_suffix(path.name)) for path in paths)
    if len(paths) == channels > 1 and named != [(named[0][0], i) for i in range(channels)]:
        return Case(strip_suffix(paths[0].name), tuple(paths), None)
    cases = find_cases(paths, channels)
    if len(cases) != 1:
        raise InputError(f"{paths[0]}: {len(cases)} volumes, expected one; predict them one by one")
    return cases[0]


def unlabelled_cases(data: Path, channels: Sequence[str]) -> Found:
    """The cases of a data set that have no label, whatever its layout; `channels` are the names of the model's, which
    decide where the data does not say that one file holds them all.

    Raises:
        InputError: as `list_cases`, or all cases have labels.
    """
    listing = list_cases(data)
    if len(listing.channels) != len(channels):
        listing = list_cases(data, ",".join(channels))
    cases = [case for case in listing.cases if case.label is None]
    if not cases:
        raise InputError(f"{data}: all {len(listing.cases)} cases have labels; name the images to predict any of them")
    return Found(cases, {})


def find_inputs(inputs: Sequence[Path], channels: int) -> Found:
    """Cases from files and folders, in the order given, a folder's by name.

    A folder gives its volumes; one without volumes its DICOM series and those of all folders below it, each named by
    the folders that lead to it, and by its description where a folder holds several. With several channels the files
    of a case are `NAME_0000`, `NAME_0001` and so on, or one file that holds them all along a fourth axis, which is a
    case whatever number its name ends with. With one channel `_0000` is dropped from a name where no other input would
    be called `NAME` or `NAME_` and four digits: then these are the numbers of cases.
    Links that lead out of a folder are not followed, but named among the problems, as are folders below it that cannot
    be read, cases that lack channels, and files whose case has the name of an earlier one.

    Raises:
        InputError: an input is missing, no volume or a folder that cannot be read, or a folder holds none.
    """
    problems: dict[str, str] = {}
    files = [entry for given in inputs for entry in _files(Path(given), problems)]
    names = [_name_and_channel(label) for label, _ in files] if channels > 1 else _case_names([f[0] for f in files])
    parts: dict[str, dict[int, Path]] = {}
    for (name, channel), (_, file) in zip(names, files, strict=True):
        other = parts.setdefault(name, {}).setdefault(channel, file)
        if other != file:
            problems[str(file)] = (
                f"{file}: the same case name as {other}; outputs would overwrite each other, rename one"
            )
    cases = []
    for name, found in parts.items():
        if sorted(found) == list(range(channels)):
            cases.append(Case(name, tuple(found[i] for i in range(channels)), None))
        elif all(_holds_all(file, channels) for file in found.values()):
            for number, file in found.items():  # that of a case, not of a channel, unless it is a lone 0000
                cases.append(Case(name if list(found) == [0] else f"{name}_{number:04d}", (file,) * channels, None))
        else:
            problems[name] = (
                f"{next(iter(found.values()))}: case {name} has channel files {sorted(found)}, the model expects "
                f"{channels}: " + ", ".join(f"{name}_{i:04d}" for i in range(channels))
            )
    return Found(cases, problems)


def _case_names(labels: Sequence[str]) -> list[tuple[str, int]]:
    """Of single-channel cases: the labels themselves, but for nnU-Net's `_0000` where it can be no number of a case."""
    split = [_name_and_channel(label) for label in labels]
    stems = Counter(_name_and_channel(label)[0] for label in set(labels))
    return [
        (stem if channel == 0 and stems[stem] == 1 else label, 0)
        for label, (stem, channel) in zip(labels, split, strict=True)
    ]


def _files(path: Path, problems: dict[str, str]) -> list[tuple[str, Path]]:
    """Names and files, or folders of DICOM series."""
    before = len(problems)
    if path.is_dir():
        try:
            inside = sorted(path.iterdir())
        except OSError as error:
            raise InputError(_closed(path, error)) from error
        found = [(strip_suffix(f.name), f) for f in inside if is_volume(f) and f.is_file()]
        found = [entry for entry in found if _inside(entry[1], path, problems)]
        found = found or list(_series(path, problems))
        if not found and len(problems) == before:
            data = any((path / name).exists() for name in ("dataset.json", "cases.csv", "images"))
            hint = "; of a data set name the folder of its images, or `medseg predict --unlabelled`" if data else ""
            raise InputError(
                f"{path}: no volumes in this folder; expected files ending in {', '.join(SUFFIXES)}, or DICOM series"
                f"{hint}"
            )
        return found
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not is_volume(path):
        raise InputError(f"{path}: not a volume by its name; expected one of {', '.join(SUFFIXES)}, or a DICOM folder")
    return [(strip_suffix(path.name), path)]


def _series(root: Path, problems: dict[str, str]) -> Iterator[tuple[str, Path]]:
    def closed(error: OSError) -> None:
        problems[str(error.filename)] = _closed(Path(error.filename), error)

    for folder, below, files in os.walk(root, onerror=closed):  # does not follow links to folders
        below.sort()
        here = Path(folder)
        for name in sorted(below):
            if (here / name).is_symlink() and not _inside(here / name, root, problems):
                below.remove(name)
        if any(not _inside(here / name, root, problems) for name in files if (here / name).is_symlink()):
            continue
        for name, series in series_of(here).items() if files else ():
            parts = [*here.relative_to(root).parts, *([name] if name else [])]
            yield safe_name("_".join(parts) or here.resolve().name) or "series", series


def _closed(folder: Path, error: OSError) -> str:
    return f"{folder}: a folder that cannot be read ({error.strerror}); check its permissions"


def _inside(path: Path, root: Path, problems: dict[str, str]) -> bool:
    if path.resolve().is_relative_to(root.resolve()):
        return True
    problems[str(path)] = f"{path}: a link that leads out of {root}; name its target on the command line instead"
    return False


def _holds_all(path: Path, channels: int) -> bool:
    """Whether one file has all channels along a fourth axis; what cannot be read has none."""
    try:
        return count_channels(path) == channels
    except InputError:
        return False


def _name_and_channel(label: str) -> tuple[str, int]:
    found = CHANNEL.match(label)
    return (found["case"], int(found["channel"])) if found else (label, 0)
