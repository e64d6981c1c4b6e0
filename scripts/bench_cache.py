"""The cache: memory with many cases, and its format.

    python scripts/bench_cache.py growth [--many 2000] [--size 48] [--patch 32 32 32]
    python scripts/bench_cache.py formats [--size 320] [--patch 96 96 96]

`growth`: the memory and the open files of the loader with 20 and with --many cases.
`formats`: a patch from a .npy file, as the cache reads it and mapped at once, and from blosc2 files; in the page cache
and dropped from it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_volumes import CLASSES, peak_memory, planned, volume, write_volumes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["growth", "formats"])
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--patch", type=int, nargs=3, default=None)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where volumes are written; a temporary one")
    options = parser.parse_args()
    small = options.what == "growth"
    options.size = options.size or (48 if small else 320)
    options.patch = options.patch or [32 if small else 96] * 3
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = Path(folder)
        (growth if small else formats)(options)


def growth(options: argparse.Namespace) -> None:
    import psutil

    from medseg.data import CaseCache, PairedLoader, PatchDataset
    from medseg.data.case import Case

    write_volumes(options.folder, options.many, options.size)
    data = [
        Case(f"c{i}", (options.folder / f"c{i}.nii",), options.folder / f"c{i}_label.nii") for i in range(options.many)
    ]
    plan = planned(options.patch, options.batch)
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


if __name__ == "__main__":
    main()
