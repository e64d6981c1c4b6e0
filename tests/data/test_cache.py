from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.data.cache import IGNORE, CaseCache, file_digest
from medseg.data.case import Case, load_case
from medseg.data.cohort import load_cohort
from medseg.data.preprocess import labels_to_grid, plan_grid, prepare_images
from medseg.errors import InputError
from medseg.plan import Plan, save_plan

CLASSES = {0: "background", 1: "organ", 2: "ignore", 3: "tumour"}
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
Build = Callable[..., Plan]


@pytest.fixture
def plan(small_plan: Build) -> Plan:
    return small_plan(classes={value: name for value, name in CLASSES.items() if name != "ignore"})


@pytest.fixture
def cache(tmp_path: Path, plan: Plan) -> CaseCache:
    return CaseCache(tmp_path / "cache", plan, CLASSES)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "data", "a", seed=0)


def make_case(folder: Path, name: str, seed: int, label: np.ndarray | None = None) -> Case:
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    image, label_path = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
    nib.save(nib.Nifti1Image(random.normal(50, 20, (12, 10, 6)).astype(np.float32), AFFINE), image)
    if label is None:
        label = np.zeros((12, 10, 6))
        label[2:6, 2:8, 1:5], label[8:11, 3:6, 2:4], label[:, :, 0] = 1, 3, 2
    nib.save(nib.Nifti1Image(label.astype(np.uint8), AFFINE), label_path)
    return Case(name, (image,), label_path)


def files(cache: CaseCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def stamps(cache: CaseCache) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in cache.folder.iterdir()}


def test_what_is_prepared(cache: CaseCache, case: Case, plan: Plan) -> None:
    (prepared,) = cache.prepare([case])
    images, labels, geometry = load_case(case, CLASSES)
    assert labels is not None
    grid = plan_grid(geometry, plan.spacing)
    assert prepared.name == "a"
    assert prepared.images.dtype == np.float32
    assert np.array_equal(prepared.images, prepare_images(images, grid, plan))
    assert prepared.images.shape == (1, 12, 10, 12)
    assert prepared.labels is not None
    assert prepared.labels.dtype == np.uint8
    # class indices, not values: 3 is the third class; what is ignored says so
    for value, index in {0: 0, 1: 1, 3: 2, 2: IGNORE}.items():
        assert np.array_equal(prepared.labels == index, labels_to_grid(labels, grid) == value)
    assert isinstance(prepared.images, np.memmap)
    assert not prepared.images.flags.writeable
    assert not prepared.labels.flags.writeable


def test_foreground_positions(cache: CaseCache, case: Case) -> None:
    prepared = cache.case(case)
    assert prepared.labels is not None
    rows = prepared.foreground
    assert set(rows[:, 0]) == {1, 2}  # neither background nor what is ignored
    assert (prepared.labels[tuple(rows[:, 1:].T)] == rows[:, 0]).all()
    assert len(np.unique(rows, axis=0)) == len(rows) == np.isin(prepared.labels, (1, 2)).sum()


def test_positions_of_a_large_class_are_spread_over_it(tmp_path: Path, small_plan: Build) -> None:
    label = np.ones((40, 20, 10))
    label[0, 0, 0] = 0
    case = make_case(tmp_path, "a", 0, label)
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.float32), np.eye(4)), case.images[0])
    nib.save(nib.Nifti1Image(label.astype(np.uint8), np.eye(4)), case.label)
    plan = small_plan()
    rows = CaseCache(tmp_path / "cache", plan, plan.classes).case(case).foreground
    assert len(rows) == len(np.unique(rows, axis=0)) == 2000
    assert np.allclose(rows[:, 1:].mean(0), [19.5, 9.5, 4.5], atol=0.5)
    assert (rows[:, 1:].max(0) == [39, 19, 9]).all()


def test_an_empty_label_has_no_positions(cache: CaseCache, tmp_path: Path) -> None:
    for value in (0, 2):
        case = make_case(tmp_path / "data", f"empty{value}", 0, np.full((12, 10, 6), value))
        for _ in range(2):  # written, and read
            prepared = cache.case(case)
            assert prepared.foreground.shape == (0, 4)
            assert set(np.unique(prepared.labels)) == {IGNORE if value else 0}


def test_a_second_run_reads_what_the_first_wrote(cache: CaseCache, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.case(case)
    before = stamps(cache)
    monkeypatch.setattr("medseg.data.cache.load_case", lambda *_: pytest.fail("prepared again"))
    again = CaseCache(cache.folder, cache.plan, cache.classes).case(case)
    assert stamps(cache) == before
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.foreground, again.foreground)


def test_names_and_places_are_no_part_of_the_key(cache: CaseCache, case: Case, tmp_path: Path) -> None:
    cache.case(case)
    before = stamps(cache)
    moved = shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    assert case.label is not None
    (moved / "a.nii.gz").rename(moved / "b.nii.gz")
    other = Case("b", (moved / "b.nii.gz",), moved / case.label.name)
    assert cache.case(other).name == "b"
    assert stamps(cache) == before


def test_content_is_part_of_the_key(cache: CaseCache, case: Case, tmp_path: Path) -> None:
    cache.case(case)
    assert len(files(cache)) == 3
    cache.case(make_case(tmp_path / "data", "a", seed=1))  # another image in the same file: all anew
    assert len(files(cache)) == 6
    label = np.zeros((12, 10, 6))
    label[5] = 1
    changed = cache.case(make_case(tmp_path / "data", "a", 1, label))  # another label: the image stays
    assert len(files(cache)) == 8
    assert changed.labels is not None
    assert changed.labels[5].all()


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"name": "other", "batch_size": 7, "patch_size": (8, 8, 8)}, False),
        ({"network": {"filters": (8, 16)}, "inference": {"overlap": 0.1}}, False),
        ({"spacing": (1.0, 1.0, 1.5)}, True),
        (
            {"channels": [{"name": "CT", "normalisation": "clip_zscore", "lower": 0, "upper": 9, "mean": 5, "std": 2}]},
            True,
        ),
        ({"classes": {0: "background", 3: "tumour"}}, True),
    ],
)
def test_only_what_changes_the_prepared_case_is_part_of_the_key(
    cache: CaseCache, case: Case, small_plan: Build, change: dict[str, Any], anew: bool
) -> None:
    cache.case(case)
    plan = small_plan(**{"classes": cache.plan.classes, **change})
    CaseCache(cache.folder, plan, CLASSES).case(case)
    assert len(files(cache)) == (6 if anew else 3)


def test_the_same_labels_mean_something_else_where_a_class_is_ignored(
    cache: CaseCache, case: Case, small_plan: Build
) -> None:
    kept = {**CLASSES, 2: "cyst"}
    other = CaseCache(cache.folder, small_plan(classes=kept), kept).case(case)
    assert IGNORE in np.unique(cache.case(case).labels)
    assert set(np.unique(other.labels)) == {0, 1, 2, 3}


def test_an_image_is_prepared_once_for_all_budgets(tiny_cohort: Path, tmp_path: Path, small_plan: Build) -> None:
    cohorts = [load_cohort(tiny_cohort, labelled=budget, modality="MRI") for budget in (1, 2)]
    plan = small_plan(classes=cohorts[0].classes, spacing=(3.0, 3.0, 3.0))
    cache = CaseCache(tmp_path / "cache", plan, cohorts[0].classes)
    few, many = cohorts
    assert {case.name for case in few.unlabelled} > {case.name for case in many.unlabelled}
    prepared = {case.name: case for case in cache.prepare([*few.labelled, *few.unlabelled])}
    before = stamps(cache)
    assert len(before) == 4 + 2  # four images, one label
    again = {case.name: case for case in cache.prepare([*many.labelled, *many.unlabelled])}
    after = stamps(cache)
    assert len(after) == 4 + 4
    images = [name for name in before if name.count(".") == 1]
    assert len(images) == 4
    for name in set(again) & set(prepared):
        assert np.array_equal(prepared[name].images, again[name].images)
    assert sum(case.labels is None for case in prepared.values()) == 3
    assert sum(case.labels is None for case in again.values()) == 2
    assert all(len(case.foreground) == 0 for case in again.values() if case.labels is None)


@pytest.mark.parametrize("kind", ["images", "labels", "foreground"])
@pytest.mark.parametrize("damage", ["truncated", "header only", "empty", "garbage", "gone", "folder of no use"])
def test_torn_files_are_made_again(cache: CaseCache, case: Case, kind: str, damage: str) -> None:
    cache.case(case)
    whole = files(cache)
    (path,) = [
        path
        for path in cache.folder.iterdir()
        if (kind in path.name) or (kind == "images" and path.name.count(".") == 1)
    ]
    content = path.read_bytes()
    damaged = {"truncated": content[:-1], "header only": content[:128], "empty": b"", "garbage": b"x" * len(content)}
    if damage == "gone":
        path.unlink()
    elif damage == "folder of no use":
        path.unlink()
        path.mkdir()
        with pytest.raises(InputError, match="cannot be written"):
            cache.case(case)
        return
    else:
        path.write_bytes(damaged[damage])
    again = cache.case(case)
    assert files(cache) == whole
    assert np.array_equal(again.labels, np.load(next(cache.folder.glob("*.labels.npy"))))


def test_a_cache_that_is_emptied_does_not_disturb_who_reads_it(cache: CaseCache, case: Case) -> None:
    prepared = cache.case(case)
    expected = np.array(prepared.images)
    shutil.rmtree(cache.folder)
    assert np.array_equal(prepared.images, expected)
    cache.prepare([case])
    assert len(files(cache)) == 3


@pytest.mark.parametrize("gone", ["image", "label"])
def test_sources_that_vanish_are_named(cache: CaseCache, case: Case, gone: str) -> None:
    assert case.label is not None
    path = case.images[0] if gone == "image" else case.label
    path.unlink()
    for attempt in (cache.case, lambda one: cache.prepare([one])):
        with pytest.raises(InputError, match=rf"{path.name}: not readable \(No such file or directory\); restore it"):
            attempt(case)
    assert not cache.folder.exists() or not files(cache)


def test_a_broken_case_leaves_nothing_half_written(cache: CaseCache, case: Case, tmp_path: Path) -> None:
    wrong = make_case(tmp_path / "data", "b", 1, np.full((12, 10, 6), 7))
    with pytest.raises(InputError, match=r"b_label.nii.gz: label value 7 \(720 voxels\) is not of the task"):
        cache.prepare([case, wrong])
    assert set(files(cache)) <= set(files_of(cache, case))


def files_of(cache: CaseCache, case: Case) -> dict[str, bytes]:
    shutil.rmtree(cache.folder)
    cache.prepare([case])
    return files(cache)


def test_a_folder_that_cannot_be_written(tmp_path: Path, plan: Plan, case: Case) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: not a writable folder"):
        CaseCache(tmp_path / "file", plan, CLASSES).prepare([case])


def test_too_many_classes_for_a_byte(tmp_path: Path, small_plan: Build) -> None:
    most = {value: str(value) for value in range(255)}
    CaseCache(tmp_path, small_plan(classes=most), most)
    with pytest.raises(ValueError, match="at most 255 classes, found 256"):
        CaseCache(tmp_path, small_plan(classes=most | {255: "255"}), most)


def test_a_complete_cache_is_not_written_to(cache: CaseCache, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a group shares is read-only for most of them."""
    cache.prepare([case])
    monkeypatch.setattr("medseg.data.cache.make_folder", lambda *_: pytest.fail("asked for a writable folder"))
    cache.prepare([case])


def test_nothing_is_prepared_of_no_cases(cache: CaseCache) -> None:
    assert cache.prepare([]) == []


def test_several_channels(tmp_path: Path, small_plan: Build, case: Case) -> None:
    other = make_case(tmp_path / "data", "b", 1)
    plan = small_plan(channels=[{"name": name, "normalisation": "zscore"} for name in "ab"])
    cache = CaseCache(tmp_path / "cache", plan, CLASSES)
    both = cache.case(Case("x", (*case.images, *other.images), None))
    swapped = cache.case(Case("x", (*other.images, *case.images), None))
    assert both.images.shape[0] == 2
    assert np.array_equal(both.images, swapped.images[::-1])
    assert not np.array_equal(both.images[0], both.images[1])


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").hex().startswith("ba7816bf")  # SHA-256 of abc, FIPS 180-2
    with pytest.raises(InputError, match="a folder without DICOM images"):
        file_digest(tmp_path)


def test_two_processes_prepare_the_same_folder(tmp_path: Path, plan: Plan, case: Case) -> None:
    others = [make_case(tmp_path / "data", f"c{i}", i + 1) for i in range(5)]
    names = [one.name for one in (case, *others)]
    save_plan(plan, tmp_path / "plan.yaml")
    code = (
        "import sys, hashlib; from pathlib import Path\n"
        "from medseg.data import CaseCache, Case\n"
        "from medseg.plan import load_plan\n"
        f"root, names, classes = Path(sys.argv[1]), {names!r}, {CLASSES!r}\n"
        "data = root / 'data'\n"
        "cases = [Case(n, (data / f'{n}.nii.gz',), data / f'{n}_label.nii.gz') for n in names]\n"
        "cache = CaseCache(root / 'cache', load_plan(root / 'plan.yaml'), classes)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "digest = hashlib.sha256()\n"
        "for _ in range(5):\n"
        "    for one in cache.prepare(cases):\n"
        "        for array in (one.images, one.labels, one.foreground): digest.update(array.tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:  # both begin at once
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(list((tmp_path / "cache").iterdir())) == 3 * len(names)  # nothing temporary is left
