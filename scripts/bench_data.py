"""Reading patches: speed and memory against MONAI's CacheDataset and PersistentDataset and nnU-Net's loader.

    python scripts/bench_data.py loaders [--cases 20] [--size 160] [--patch 96 96 96] [--nnunet-python PATH]
    python scripts/bench_data.py growth [--many 2000] [--size 48] [--patch 32 32 32]
    python scripts/bench_data.py formats [--size 320] [--patch 96 96 96]

`loaders`: the same synthetic volumes (noise in a ball in air, two classes), the same patch size, half of the patches
around a labelled voxel, one process, no augmentation. Each loader runs in a process of its own: patches a second after
a first lap, and the peak of its memory beyond that after a batch of patches of 16^3 (resident: what is mapped and read
counts). MONAI gets the volumes prepared, as `.npy`, so that none of its preprocessing is measured; nnU-Net gets its own
blosc2 files, written by its own `save_case`; its Python is named by --nnunet-python, or it is left out.
`growth`: the memory and the open files of medseg's loader with 20 and with --many cases.
`formats`: a patch from a .npy file, as the cache reads it and mapped at once, and from blosc2 files; in the page cache
and dropped from it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SECONDS = 5.0  # that each loader is read for
CLASSES = {0: "background", 1: "large", 2: "small"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["loaders", "growth", "formats", "one"])
    parser.add_argument("loader", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--patch", type=int, nargs=3, default=None)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where volumes are written; a temporary one")
    parser.add_argument("--nnunet-python", default=None)
    options = parser.parse_args()
    small = options.what == "growth"
    options.size = options.size or {"growth": 48, "formats": 320}.get(options.what, 160)
    options.patch = options.patch or ([32] * 3 if small else [96] * 3)
    if options.what == "one":
        print(json.dumps(LOADERS[options.loader](options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = Path(folder)
        {"loaders": loaders, "growth": growth, "formats": formats}[options.what](options)


# ---- loaders


def loaders(options: argparse.Namespace) -> None:
    write_volumes(options.folder, options.cases, options.size)
    print(f"{options.cases} volumes of {options.size}^3, patches of {options.patch}, batches of {options.batch}")
    print("| | patches/s | peak MB | first lap s | files MB |\n|---|---|---|---|---|")
    for name in LOADERS:
        python = options.nnunet_python if name == "nnunet" else sys.executable
        if python is None:
            print("| nnunet | - | - | - | - | (no --nnunet-python)")
            continue
        found = in_a_process(python, name, options)
        print(
            f"| {name} | {found['rate']:.0f} | {found['peak']:.0f} | {found['first']:.1f} | {found['files']:.0f} |",
            flush=True,
        )


def in_a_process(python: str, name: str, options: argparse.Namespace) -> dict[str, float]:
    command = [python, __file__, "one", name, "--folder", options.folder, "--batch", options.batch, "--patch"]
    command += [*options.patch, "--size", options.size, "--cases", options.cases]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def medseg(options: argparse.Namespace) -> dict[str, float]:
    from medseg.data import CaseCache, PairedLoader, PatchDataset
    from medseg.data.case import Case

    names = [f"c{i}" for i in range(options.cases)]
    data = [Case(n, (options.folder / f"{n}.nii",), options.folder / f"{n}_label.nii") for n in names]
    folder = options.folder / "cache"

    def begin(cases: int, patch: list[int]) -> Iterator[object]:
        cache = CaseCache(folder, planned(options), CLASSES)
        return iter(PairedLoader(PatchDataset(data[:cases], cache, patch, options.batch, seed=0)))

    begin(options.cases, options.patch)  # prepared, as the others' are
    return measured(begin, options, folder)


def monai_cache(options: argparse.Namespace) -> dict[str, float]:
    from monai.data import CacheDataset

    data = as_npy(options)

    def begin(cases: int, patch: list[int]) -> Iterator[object]:
        return monai_batches(CacheDataset(data[:cases], transforms(patch), progress=False), options)

    return measured(begin, options, None)


def monai_persistent(options: argparse.Namespace) -> dict[str, float]:
    from monai.data import PersistentDataset

    data, folder = as_npy(options), options.folder / "persistent"

    def begin(cases: int, patch: list[int]) -> Iterator[object]:
        return monai_batches(PersistentDataset(data[:cases], transforms(patch), cache_dir=folder), options)

    dataset = PersistentDataset(data, transforms(options.patch), cache_dir=folder)
    for i in range(len(dataset)):
        dataset[i]
    return measured(begin, options, folder)


def transforms(patch: list[int]) -> object:
    from monai.transforms import Compose, EnsureTyped, LoadImaged, RandCropByPosNegLabeld

    keys = ("image", "label")
    return Compose(
        [
            LoadImaged(keys, reader="NumpyReader", image_only=True),
            EnsureTyped(keys, track_meta=False),
            RandCropByPosNegLabeld(keys, "label", patch, pos=1, neg=1, num_samples=1),
        ]
    )


def monai_batches(dataset: object, options: argparse.Namespace) -> Iterator[object]:
    from monai.data import DataLoader

    while True:
        yield from DataLoader(dataset, batch_size=options.batch, shuffle=True, num_workers=0)


def nnunet(options: argparse.Namespace) -> dict[str, float]:
    """In nnU-Net's own environment: nothing of medseg is imported."""
    from types import SimpleNamespace

    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    folder = options.folder / "nnunet"
    folder.mkdir()
    for i in range(options.cases):
        image, label = volume(i, options.size)
        places = {c: np.argwhere(label[None] == c)[:: max(1, (label == c).sum() // 10_000)] for c in (1, 2)}
        shape, bytes_a_value = (1, *image.shape), image.itemsize
        blocks, chunks = comp_blosc2_params(shape, tuple(options.patch), bytes_a_value)
        nnUNetDatasetBlosc2.save_case(
            image[None], label[None].astype(np.int8), {"class_locations": places}, str(folder / f"c{i}"),
            chunks=chunks, blocks=blocks, chunks_seg=chunks, blocks_seg=blocks,
        )  # fmt: skip
    labels = SimpleNamespace(all_labels=[1, 2], has_ignore_label=False)

    def begin(cases: int, patch: list[int]) -> Iterator[object]:
        data = nnUNetDatasetBlosc2(str(folder), [f"c{i}" for i in range(cases)])
        return nnUNetDataLoader(data, options.batch, patch, patch, labels, oversample_foreground_percent=0.5)

    return measured(begin, options, folder)


LOADERS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "medseg": medseg, "monai_cache": monai_cache, "monai_persistent": monai_persistent, "nnunet": nnunet,
}  # fmt: skip


def measured(
    begin: Callable[[int, list[int]], Iterator[object]], options: argparse.Namespace, folder: Path | None
) -> dict[str, float]:
    """Reads a first lap, then for some seconds. Before, a batch of tiny patches: what is imported or set up at first
    use is not what a loader takes for its data."""
    for _ in range(2):
        next(begin(1, [16] * 3))
    gc.collect()
    with peak_memory() as memory:
        start = time.perf_counter()
        batches = begin(options.cases, options.patch)
        for _ in range(-(-options.cases // options.batch)):
            next(batches)
        first = time.perf_counter() - start
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            next(batches)
            steps += 1
        rate = steps * options.batch / (time.perf_counter() - start)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0
    return {"rate": rate, "peak": memory["peak"] / 1e6, "first": first, "files": size / 1e6}


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """The largest resident memory of this process beyond that at the start, looked at every 5 ms."""
    done, found = threading.Event(), {"peak": 0.0}
    base = resident()

    def watch() -> None:
        while not done.wait(0.005):
            found["peak"] = max(found["peak"], resident() - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def resident() -> int:
    """Bytes of this process in memory; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- growth


def growth(options: argparse.Namespace) -> None:
    import psutil

    from medseg.data import CaseCache, PairedLoader, PatchDataset
    from medseg.data.case import Case

    write_volumes(options.folder, options.many, options.size)
    data = [
        Case(f"c{i}", (options.folder / f"c{i}.nii",), options.folder / f"c{i}_label.nii") for i in range(options.many)
    ]
    plan = planned(options)
    start = time.perf_counter()
    CaseCache(options.folder / "cache", plan, CLASSES).prepare(data)
    print(f"{options.many} volumes of {options.size}^3 prepared in {time.perf_counter() - start:.0f} s")
    print("| cases | again s | MB | open files | patches/s |\n|---|---|---|---|---|")
    for cases in (20, options.many):
        with peak_memory() as memory:
            start = time.perf_counter()
            dataset = PatchDataset(
                data[:cases], CaseCache(options.folder / "cache", plan, CLASSES), options.patch, options.batch, seed=0
            )
            again = time.perf_counter() - start
            batches, start = iter(PairedLoader(dataset)), time.perf_counter()
            for _ in range(2 * options.many // options.batch):  # every case twice
                next(batches)
            rate = 2 * options.many / (time.perf_counter() - start)
        handles = len(psutil.Process().open_files())
        print(f"| {cases} | {again:.1f} | {memory['peak'] / 1e6:.1f} | {handles} | {rate:.0f} |", flush=True)


# ---- formats


def formats(options: argparse.Namespace) -> None:
    import blosc2

    blosc2.set_nthreads(1)
    image, _ = volume(0, options.size)
    files = {"npy": options.folder / "image.npy", "npy, mapped": options.folder / "image.npy"}
    np.save(files["npy"], image)
    for codec, level in ((blosc2.Codec.LZ4, 1), (blosc2.Codec.ZSTD, 3)):
        for block in (16, 32):
            name = f"blosc2 {codec.name}, blocks of {block}"
            files[name] = options.folder / f"{codec.name}{block}.b2nd"
            parameters = {"codec": codec, "clevel": level, "nthreads": 1}
            blosc2.asarray(image, urlpath=str(files[name]), chunks=(64,) * 3, blocks=(block,) * 3, cparams=parameters)
    os.sync()
    print(f"patches of {options.patch} from {options.size}^3 float32")
    print("| | MB | cached ms | dropped ms |\n|---|---|---|---|")
    for name, path in files.items():
        warm, cold = (read_time(name, path, options, dropped) for dropped in (False, True))
        print(f"| {name} | {path.stat().st_size / 1e6:.0f} | {warm * 1e3:.2f} | {cold * 1e3:.2f} |", flush=True)


def read_time(name: str, path: Path, options: argparse.Namespace, dropped: bool) -> float:
    """Median seconds of 30 patches."""
    import blosc2

    from medseg.data.stored import ArrayFile, Stored

    shape = (options.size,) * 3
    stored = Stored(ArrayFile(path, shape, "<f4", path.stat().st_size - 4 * options.size**3))
    random, times = np.random.default_rng(0), []
    for _ in range(30):
        if dropped:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        low = [int(random.integers(0, options.size - n + 1)) for n in options.patch]
        box = tuple(slice(a, a + n) for a, n in zip(low, options.patch, strict=True))
        start = time.perf_counter()
        if name == "npy":
            stored.box(low, options.patch)
        elif path.suffix == ".npy":
            np.array(np.load(path, mmap_mode="r")[box])
        else:
            blosc2.open(str(path), mode="r", mmap_mode="r")[box]
        times.append(time.perf_counter() - start)
    return float(np.median(times))


# ---- volumes


def volume(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise in a ball in air, z-scored (float32), with a large and a small class (uint8)."""
    random = np.random.default_rng(seed)
    axis = (np.arange(size) - size / 2 + 0.5) / size
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    image = random.normal(size=(size,) * 3).astype(np.float32)
    image += np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, 1, 2)
    image[radius > 0.5] = -6
    label = (radius < 0.2).astype(np.uint8)
    label[radius < 0.05] = 2
    return image, label


def write_volumes(folder: Path, cases: int, size: int) -> None:
    import nibabel as nib

    for i in range(cases):
        image, label = volume(i, size)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"c{i}.nii")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"c{i}_label.nii")


def as_npy(options: argparse.Namespace) -> list[dict[str, str]]:
    """The volumes as MONAI reads them quickest: prepared, (1, X, Y, Z)."""
    found = []
    for i in range(options.cases):
        paths = {key: str(options.folder / f"monai_{i}_{key}.npy") for key in ("image", "label")}
        if not Path(paths["image"]).exists():
            for path, array in zip(paths.values(), volume(i, options.size), strict=True):
                np.save(path, array[None])
        found.append(paths)
    return found


def planned(options: argparse.Namespace) -> object:
    from medseg.plan import ChannelPlan, NetworkPlan, Plan

    return Plan(
        name="bench",
        channels=(ChannelPlan(name="MRI", normalisation="zscore"),),
        classes=CLASSES,
        spacing=(1.0, 1.0, 1.0),
        patch_size=tuple(options.patch),
        batch_size=options.batch,
        network=NetworkPlan(filters=(4, 8), strides=((1, 1, 1), (1, 1, 1)), kernels=((3, 3, 3),) * 2, heads=0),
    )


if __name__ == "__main__":
    main()
