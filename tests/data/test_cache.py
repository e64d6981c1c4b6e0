from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

from medseg.data.cache import IGNORE, CaseCache, PreparedCase
from medseg.data.case import Case, load_case
from medseg.data.cohort import load_cohort
from medseg.data.patches import PatchDataset
from medseg.data.preprocess import images_to_grid, labels_to_grid, normalise, plan_grid, prepare_images
from medseg.data.stored import ArrayFile
from medseg.errors import InputError
from medseg.plan import Plan

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
    """The arrays; records hold times."""
    return {path.name: path.read_bytes() for path in cache.folder.glob("*.npy")}


def stamps(cache: CaseCache) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in cache.folder.iterdir() if path.name != "digests.txt"}


def labels_of(prepared: PreparedCase) -> np.ndarray:
    assert prepared.labels is not None
    return prepared.labels.whole(prepared.shape)


def positions_of(prepared: PreparedCase) -> np.ndarray:
    """Rows of class index and position."""
    positions = prepared.foreground.positions
    assert isinstance(positions, ArrayFile)
    counts = prepared.foreground.counts
    return np.column_stack([np.repeat(list(counts), list(counts.values())), positions.mapped()])


def test_what_is_prepared(cache: CaseCache, case: Case, plan: Plan) -> None:
    (prepared,) = cache.prepare([case])
    images, labels, geometry = load_case(case, CLASSES)
    assert labels is not None
    grid = plan_grid(geometry, plan.spacing)
    assert prepared.name == "a"
    assert prepared.shape == (12, 10, 12)
    stored = prepared.images.array()
    assert stored.dtype == np.float32
    assert np.array_equal(stored, prepare_images(images, grid, plan))
    assert stored.shape == (1, 12, 10, 12)
    found = labels_of(prepared)
    # class indices, not values: 3 is the third class; what is ignored says so
    for value, index in {0: 0, 1: 1, 3: 2, 2: IGNORE}.items():
        assert np.array_equal(found == index, labels_to_grid(labels, grid) == value)
        assert prepared.class_voxels.get(index, 0) == (0 if index == IGNORE else (found == index).sum())
    assert not stored.flags.writeable


def test_foreground_positions(cache: CaseCache, case: Case) -> None:
    prepared = cache.case(case)
    labels, rows = labels_of(prepared), positions_of(prepared)
    assert set(rows[:, 0]) == {1, 2}  # neither background nor what is ignored
    assert (labels[tuple(rows[:, 1:].T)] == rows[:, 0]).all()
    assert len(np.unique(rows, axis=0)) == len(rows) == np.isin(labels, (1, 2)).sum()
    random = np.random.default_rng(0)
    drawn = np.array([prepared.foreground.draw(random) for _ in range(400)])
    share = (labels[tuple(drawn.T)] == 2).mean()
    assert share == pytest.approx(0.5, abs=0.08)  # classes evenly, though one is larger


def test_positions_of_a_large_class_are_spread_over_it(tmp_path: Path, small_plan: Build) -> None:
    label = np.ones((40, 20, 10))
    label[0, 0, 0] = 0
    case = make_case(tmp_path, "a", 0, label)
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.float32), np.eye(4)), case.images[0])
    nib.save(nib.Nifti1Image(label.astype(np.uint8), np.eye(4)), case.label)
    plan = small_plan()
    rows = positions_of(CaseCache(tmp_path / "cache", plan, plan.classes).case(case))
    assert len(rows) == len(np.unique(rows, axis=0)) == 2000
    assert np.allclose(rows[:, 1:].mean(0), [19.5, 9.5, 4.5], atol=0.5)
    assert (rows[:, 1:].max(0) == [39, 19, 9]).all()


def test_an_empty_label_has_no_positions(cache: CaseCache, tmp_path: Path) -> None:
    for value in (0, 2):
        case = make_case(tmp_path / "data", f"empty{value}", 0, np.full((12, 10, 6), value))
        for _ in range(2):  # written, and read
            prepared = cache.case(case)
            assert positions_of(prepared).shape == (0, 4)
            assert prepared.foreground.draw(np.random.default_rng(0)) is None
            assert set(np.unique(labels_of(prepared))) == {IGNORE if value else 0}


def in_air(tmp_path: Path, stray: bool) -> Case:
    """A body of 10x8x6 voxels in air of -1000, the organ within; a stray label far outside where wanted."""
    image, label = np.full((40, 30, 20), -1000, np.float32), np.zeros((40, 30, 20), np.uint8)
    image[20:30, 10:18, 8:14] = np.random.default_rng(0).normal(50, 20, (10, 8, 6))
    label[22:26, 12:16, 9:12] = 1
    label[2, 3, 4] = stray
    case = make_case(tmp_path, "air", 0)
    for path, array in ((case.images[0], image), (case.label, label)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return case


@pytest.mark.parametrize("stray", [False, True])
def test_what_is_kept_is_the_body(tmp_path: Path, small_plan: Build, stray: bool) -> None:
    """And no patch tells the difference: outside, air continues; nothing labelled is lost."""
    scale = {"lower": -100, "upper": 200, "mean": 50, "std": 20}
    plan = small_plan(channels=[{"name": "CT", "normalisation": "clip_zscore", **scale}], spacing=(1.0, 1.0, 1.25))
    case = in_air(tmp_path, stray)
    prepared = CaseCache(tmp_path / "cache", plan, plan.classes).case(case)
    images, labels, geometry = load_case(case, plan.classes)
    assert labels is not None
    grid = plan_grid(geometry, plan.spacing)
    assert prepared.shape == grid.target == (40, 30, 16)
    start, stop = prepared.body
    assert (start >= (16, 6, 2)).all()
    assert (stop <= (34, 22, 15)).all()
    whole = normalise(images_to_grid(images, grid), plan.channels)
    assert np.allclose(prepared.images.whole(prepared.shape), whole, atol=1e-5)
    assert np.array_equal(labels_of(prepared), labels_to_grid(labels, grid))
    assert labels_of(prepared)[2, 3].any() == stray
    for begin in ((0, 0, 0), (-4, -5, -6), (30, 20, 10), (24, 14, 8)):  # in air, over the edge, within
        box = [np.clip(np.arange(b, b + 8), 0, k - 1) for b, k in zip(begin, grid.target, strict=True)]
        assert np.allclose(prepared.images.box(begin, (8, 8, 8))[0], whole[0][np.ix_(*box)], atol=1e-5)


def test_a_second_run_reads_what_the_first_wrote(cache: CaseCache, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.case(case)
    before = stamps(cache)
    monkeypatch.setattr("medseg.data.cache.load_case", lambda *_: pytest.fail("prepared again"))
    again = CaseCache(cache.folder, cache.plan, cache.classes).case(case)
    assert stamps(cache) == before
    assert again == first


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
    assert labels_of(changed)[5].all()


@pytest.mark.parametrize(
    ("change", "arrays"),
    [
        ({"name": "other", "batch_size": 7, "patch_size": (8, 8, 8)}, 3),
        ({"network": {"filters": (8, 16)}, "inference": {"overlap": 0.1}}, 3),
        ({"spacing": (1.0, 1.0, 1.5)}, 6),
        (
            {"channels": [{"name": "CT", "normalisation": "clip_zscore", "lower": 0, "upper": 9, "mean": 5, "std": 2}]},
            6,
        ),
        ({"classes": {0: "background", 3: "tumour"}}, 5),
    ],
)
def test_only_what_changes_the_prepared_case_is_part_of_the_key(
    cache: CaseCache, case: Case, small_plan: Build, change: dict[str, Any], arrays: int
) -> None:
    cache.case(case)
    plan = small_plan(**{"classes": cache.plan.classes, **change})
    CaseCache(cache.folder, plan, CLASSES).case(case)
    assert len(files(cache)) == arrays  # 3: nothing new; 5: labels, their images stay


def test_the_same_labels_mean_something_else_where_a_class_is_ignored(
    cache: CaseCache, case: Case, small_plan: Build
) -> None:
    kept = {**CLASSES, 2: "cyst"}
    other = CaseCache(cache.folder, small_plan(classes=kept), kept).case(case)
    assert IGNORE in np.unique(labels_of(cache.case(case)))
    assert set(np.unique(labels_of(other))) == {0, 1, 2, 3}


def test_an_image_is_prepared_once_for_all_budgets(tiny_cohort: Path, tmp_path: Path, small_plan: Build) -> None:
    cohorts = [load_cohort(tiny_cohort, labelled=budget, modality="MRI") for budget in (1, 2)]
    plan = small_plan(classes=cohorts[0].classes, spacing=(3.0, 3.0, 3.0))
    cache = CaseCache(tmp_path / "cache", plan, cohorts[0].classes)
    few, many = cohorts
    assert {case.name for case in few.unlabelled} > {case.name for case in many.unlabelled}
    prepared = {case.name: case for case in cache.prepare([*few.labelled, *few.unlabelled])}
    before = files(cache)
    assert len(before) == 4 + 2  # four images, one label
    again = {case.name: case for case in cache.prepare([*many.labelled, *many.unlabelled])}
    assert len(files(cache)) == 4 + 4
    for name in set(again) & set(prepared):
        assert prepared[name].images == again[name].images
    assert sum(case.labels is None for case in prepared.values()) == 3
    assert sum(case.labels is None for case in again.values()) == 2
    assert all(not case.foreground.counts for case in again.values() if case.labels is None)


@pytest.mark.parametrize("kind", ["images", "labels", "foreground", "record"])
@pytest.mark.parametrize("damage", ["truncated", "header only", "empty", "flipped", "gone", "folder of no use"])
def test_torn_files_are_made_again(cache: CaseCache, case: Case, kind: str, damage: str) -> None:
    first = cache.case(case)
    whole = files(cache)
    path = next(path for path in sorted(cache.folder.iterdir()) if kind in path.name)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-9] ^= 64  # one bit, the size is the same
    damaged = {"truncated": content[:-1], "header only": content[:128], "empty": b"", "flipped": bytes(flipped)}
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
    assert cache.case(case) == first
    assert files(cache) == whole


def test_a_copied_cache_serves_where_it_is_whole(cache: CaseCache, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files have other times: their checksums are looked at, once."""
    cache.case(case)
    for path in cache.folder.glob("*.npy"):
        os.utime(path, (0, 0))
    monkeypatch.setattr("medseg.data.cache.load_case", lambda *_: pytest.fail("prepared again"))
    cache.case(case)
    monkeypatch.setattr("medseg.data.entries._checksum", lambda *_: pytest.fail("read again"))
    cache.case(case)


def test_a_cache_that_is_emptied_does_not_disturb_who_reads_it(cache: CaseCache, case: Case) -> None:
    patches = PatchDataset([case], cache, (8, 8, 8), 1, seed=0)
    before = patches[0, 0]
    shutil.rmtree(cache.folder)
    after = patches[0, 0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(files(cache)) == 3
    next(cache.folder.glob("*.images.npy")).write_bytes(b"")  # nor one that is damaged
    assert torch.equal(patches[0, 0]["image"], before["image"])


def test_no_file_stays_open_or_mapped(cache: CaseCache, case: Case) -> None:
    """So that the number of cases is limited by nothing but the disk."""
    patches = PatchDataset([case], cache, (8, 8, 8), 1, seed=0)
    items = [patches[step, 0] for step in range(5)]
    assert len(items) == 5
    process = psutil.Process()
    assert not [file for file in process.open_files() if "cache" in file.path]
    assert str(cache.folder) not in Path("/proc/self/maps").read_text()


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


def test_only_what_is_not_there_yet_is_announced(
    cache: CaseCache, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, said in (("labelled", f"preparing cases: 1 labelled; {cache.folder} keeps them\n"), ("", "")):
        cache.prepare([case], kind)
        assert capsys.readouterr() == ("", said)


def test_nothing_is_prepared_of_no_cases(cache: CaseCache) -> None:
    assert cache.prepare([]) == []


def test_several_channels(tmp_path: Path, small_plan: Build, case: Case) -> None:
    other = make_case(tmp_path / "data", "b", 1)
    plan = small_plan(channels=[{"name": name, "normalisation": "zscore"} for name in "ab"])
    cache = CaseCache(tmp_path / "cache", plan, CLASSES)
    both = cache.case(Case("x", (*case.images, *other.images), None))
    swapped = cache.case(Case("x", (*other.images, *case.images), None))
    assert both.images.shape[0] == 2
    assert np.array_equal(both.images.array(), swapped.images.array()[::-1])
    assert not np.array_equal(*both.images.array())


def _prepare(cache: CaseCache, cases: list[Case], begin: Event, results: SimpleQueue[str]) -> None:
    begin.wait(30)
    digest = hashlib.sha256()
    for _ in range(5):
        for one in cache.prepare(cases):
            digest.update(one.images.array().tobytes() + labels_of(one).tobytes() + positions_of(one).tobytes())
    results.put(digest.hexdigest())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_prepare_the_same_folder(cache: CaseCache, case: Case, tmp_path: Path) -> None:
    cases = [case, *(make_case(tmp_path / "data", f"c{i}", i + 1) for i in range(5))]
    context = multiprocessing.get_context("fork")
    begin, results = context.Event(), context.SimpleQueue()
    both = [context.Process(target=_prepare, args=(cache, cases, begin, results)) for _ in range(2)]
    for process in both:
        process.start()
    begin.set()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert results.get() == results.get()
    assert len(stamps(cache)) == 5 * len(cases)  # nothing temporary is left


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_many_cases_are_given_to_processes(
    start: str, cache: CaseCache, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those give what this one would, in order, and the error of a broken case comes through."""
    monkeypatch.setattr("medseg.data.preparing._WORTH_PROCESSES", 0.0)
    if start == "fork":  # quick: importing torch anew, which spawned processes do, takes many seconds
        monkeypatch.setattr("medseg.data.preparing._START", start)
    monkeypatch.setattr("medseg.data.preparing.os.cpu_count", lambda: 2)
    cases = [case, *(make_case(tmp_path / "data", f"c{i}", i + 1) for i in range(3))]
    wrong = make_case(tmp_path / "data", "wrong", 1, np.full((12, 10, 6), 7))
    with pytest.raises(InputError, match=r"wrong_label.nii.gz: label value 7"):
        cache.prepare([*cases, wrong])
    monkeypatch.setattr("medseg.data.cache.load_case", lambda *_: pytest.fail("not prepared by the others"))
    assert [one.name for one in cache.prepare(cases)] == ["a", "c0", "c1", "c2"]
