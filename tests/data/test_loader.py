from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from itertools import islice
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import psutil
import pytest
import torch

from medseg.data import CaseCache, PairedLoader, PatchDataset, RawBatch, load_cohort
from medseg.data.cache import IGNORE
from medseg.errors import InputError, last_words
from medseg.plan import Plan


@pytest.fixture(scope="module")
def datasets(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory, small_plan) -> dict[str, PatchDataset]:
    cohort = load_cohort(tiny_cohort, labelled=2, modality="MRI")
    plan: Plan = small_plan(classes=cohort.classes, spacing=(2.0, 2.0, 3.0))
    cache = CaseCache(tmp_path_factory.mktemp("cache"), plan, cohort.classes)
    return {
        "labelled": PatchDataset(cohort.labelled, cache, plan.patch_size, 3, seed=1),
        "unlabelled": PatchDataset(cohort.unlabelled, cache, plan.patch_size, 2, seed=1, purpose="unlabelled"),
        "none": PatchDataset((), cache, plan.patch_size, 2, seed=1, purpose="unlabelled"),
    }


def loader(datasets: dict[str, PatchDataset], first_step: int = 0, **options: object) -> PairedLoader:
    options = {"needs_unlabelled": True, **options}
    paired = PairedLoader(datasets["labelled"], datasets["unlabelled"], **options)  # type: ignore[arg-type]
    paired.first_step = first_step
    return paired


def same(one: RawBatch, other: RawBatch) -> bool:
    parts = [(one["labelled"], other["labelled"])]
    if one["unlabelled"] is not None and other["unlabelled"] is not None:
        parts.append((one["unlabelled"], other["unlabelled"]))
    return (
        one["step"] == other["step"]
        and (one["unlabelled"] is None) == (other["unlabelled"] is None)
        and all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in parts)
    )


def test_a_batch_holds_the_items_of_its_step(datasets: dict[str, PatchDataset]) -> None:
    for step, batch in enumerate(islice(loader(datasets), 3)):
        assert batch["step"] == step
        for part, size in (("labelled", 3), ("unlabelled", 2)):
            found = batch[part]  # type: ignore[literal-required]
            for name, tensor in found.items():
                assert len(tensor) == size
                for slot in range(size):
                    assert torch.equal(tensor[slot], datasets[part][step, slot][name])
        assert batch["labelled"]["label"].any()
        assert batch["unlabelled"] is not None
        assert (batch["unlabelled"]["label"] == IGNORE).all()


def test_what_a_step_gives_does_not_depend_on_where_one_began(datasets: dict[str, PatchDataset]) -> None:
    unbroken = list(islice(loader(datasets), 8))
    for first in (1, 5):
        resumed = list(islice(loader(datasets, first), 8 - first))
        assert [batch["step"] for batch in resumed] == list(range(first, 8))
        assert all(same(a, b) for a, b in zip(unbroken[first:], resumed, strict=True))
    assert not same(unbroken[0], {**unbroken[1], "step": 0})


def test_a_loader_can_be_read_again(datasets: dict[str, PatchDataset]) -> None:
    paired = loader(datasets)
    first, again = list(islice(paired, 3)), list(islice(paired, 3))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_workers_give_what_the_training_process_would(datasets: dict[str, PatchDataset]) -> None:
    alone = list(islice(loader(datasets, 3), 5))
    both = iter(loader(datasets, 3, workers=2))
    assert all(same(a, b) for a, b in zip(alone, islice(both, 5), strict=True))
    del both


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True) if process.status() != "zombie"}


def test_workers_end_when_reading_stops(datasets: dict[str, PatchDataset]) -> None:
    """In the middle, with batches read ahead; and none is left however often one begins."""
    before = children()
    for _ in range(3):
        batches = iter(loader(datasets, workers=2))
        next(batches)
        assert len(children() - before) == 4  # two for each part
        batches.close()  # type: ignore[attr-defined]
        assert not children() - before


def _read_with_a_killed_worker(batches: PairedLoader, found: SimpleQueue) -> None:
    try:
        reading = iter(batches)
        next(reading)
        os.kill(min(children()), signal.SIGKILL)
        for _ in range(100):
            next(reading)
    except (InputError, RuntimeError) as error:  # torch raises in a signal handler: it may be quicker than the loader
        found.put(last_words(error))
    finally:
        os._exit(0)  # without what the handler may raise still


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_killed_worker_is_one_clear_error(datasets: dict[str, PatchDataset]) -> None:
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    process = context.Process(target=_read_with_a_killed_worker, args=(loader(datasets, workers=2), found))
    process.start()
    process.join(60)  # no dead-lock
    assert process.exitcode == 0
    assert not found.empty()
    line, code = found.get()
    assert line.startswith("Error: a process that reads patches was ended from outside (DataLoader worker (pid")
    assert "--set workers=0" in line
    assert "\n" not in line
    assert code == 2


def test_global_random_state_has_no_influence(datasets: dict[str, PatchDataset]) -> None:
    torch.manual_seed(1)
    one = list(islice(loader(datasets), 2))
    torch.manual_seed(2)
    assert all(same(a, b) for a, b in zip(one, islice(loader(datasets), 2), strict=True))


def test_a_supervised_method_reads_no_unlabelled_case(
    datasets: dict[str, PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_both = list(islice(loader(datasets), 2))
    read = datasets["unlabelled"]
    monkeypatch.setattr(type(read), "__getitem__", _refusing(read))
    alone = list(islice(loader(datasets, needs_unlabelled=False), 2))
    assert all(batch["unlabelled"] is None for batch in alone)
    for one, other in zip(alone, with_both, strict=True):  # and its labelled patches are those of every method
        assert all(torch.equal(one["labelled"][name], other["labelled"][name]) for name in one["labelled"])


def _refusing(refused: PatchDataset):
    original = PatchDataset.__getitem__

    def read(self: PatchDataset, index: tuple[int, int]) -> dict[str, torch.Tensor]:
        if self is refused:
            pytest.fail("an unlabelled case was read")
        return original(self, index)

    return read


@pytest.mark.parametrize("unlabelled", ["none", None])
def test_a_method_that_needs_unlabelled_cases_says_so(
    datasets: dict[str, PatchDataset], unlabelled: str | None
) -> None:
    with pytest.raises(InputError, match=r"needs unlabelled cases and the cohort has none; lower the label budget"):
        PairedLoader(datasets["labelled"], unlabelled and datasets[unlabelled], needs_unlabelled=True)
    PairedLoader(datasets["labelled"], unlabelled and datasets[unlabelled])


def _lose(cache: CaseCache, dataset: PatchDataset, number: int, tmp_path: Path) -> None:
    """Damages the prepared files of a case and its source."""
    case = dataset.data[number]
    dataset.data = [
        dataclasses.replace(case, images=(tmp_path / f"{case.name}.nii.gz",)) if i == number else other
        for i, other in enumerate(dataset.data)
    ]
    (tmp_path / f"{case.name}.nii.gz").write_bytes(b"no volume")
    for path in cache.folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 4096:
            path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_can_no_longer_be_read_is_named_or_left_out(
    workers: int, tiny_cohort: Path, small_plan, tmp_path: Path
) -> None:
    cohort = load_cohort(tiny_cohort, labelled=2, modality="MRI")
    plan: Plan = small_plan(classes=cohort.classes, spacing=(2.0, 2.0, 3.0))
    for skip_bad in (False, True):
        cache = CaseCache(tmp_path / f"cache{skip_bad}", plan, cohort.classes)
        dataset = PatchDataset(cohort.labelled, cache, plan.patch_size, 3, seed=1, skip_bad=skip_bad)
        whole = next(iter(PairedLoader(dataset, workers=workers)))
        _lose(cache, dataset, 1, tmp_path)
        bad, good = dataset.data[1].name, dataset.data[0].name
        batches = iter(PairedLoader(dataset, workers=workers))
        if not skip_bad:
            with pytest.raises(InputError, match=f"case {bad}: .*{bad}.nii.gz: ") as caught:
                list(islice(batches, 2))
            assert len(str(caught.value).splitlines()) == 1
            continue
        first = next(batches)
        planned = [dataset.data[dataset.planned(0, slot)].name for slot in range(3)]
        assert whole["cases"] == planned
        assert whole["bad"] == []
        assert first["cases"] == [good] * 3
        assert first["bad"] == [name for name in planned if name == bad]
        for slot, name in enumerate(planned):
            assert torch.equal(first["labelled"]["image"][slot], whole["labelled"]["image"][slot]) == (name == good)
        # a run that is resumed later prepares what can be read, and draws the same
        again = PatchDataset(dataset.data, cache, plan.patch_size, 3, seed=1, skip_bad=True)
        assert same(first, next(iter(PairedLoader(again, workers=workers))))
        with pytest.raises(InputError, match=f"{bad}.nii.gz"):
            PatchDataset(dataset.data, cache, plan.patch_size, 3, seed=1)


def test_processes_share_the_slots_of_a_step(
    datasets: dict[str, PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(islice(loader(datasets, needs_unlabelled=False), 2))
    monkeypatch.setattr("medseg.ranks.size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("medseg.ranks.rank", lambda rank=rank: rank)
        for batch, joint in zip(islice(loader(datasets, needs_unlabelled=False), 2), whole, strict=True):
            assert batch["labelled"]["slot"].tolist() == [rank]
            assert not batch["bad"]
            for name, tensor in joint["labelled"].items():
                assert torch.equal(batch["labelled"][name], tensor[rank::3])


def test_a_batch_that_cannot_be_shared_is_refused(
    datasets: dict[str, PatchDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.ranks.size", lambda: 3)
    with pytest.raises(InputError, match="2 unlabelled patches a step cannot be shared evenly by 3 processes; use 3"):
        loader(datasets)
    monkeypatch.setattr("medseg.ranks.size", lambda: 2)
    with pytest.raises(InputError, match="3 labelled patches a step cannot be shared evenly by 2 processes; use 4"):
        loader(datasets, needs_unlabelled=False)
