"""Reading patches: speed and memory against MONAI's CacheDataset and PersistentDataset and nnU-Net's loader.

    python scripts/bench_data.py [--cases 20] [--size 160] [--patch 96 96 96] [--nnunet-python PATH]

The same synthetic volumes (noise in a ball in air, two classes), the same patch size, half of the patches around a
labelled voxel, one process, no augmentation. Each loader runs in a process of its own: patches a second after a first
lap, and the peak of its memory beyond that after a batch of patches of 16^3 (resident: what is mapped and read counts).
MONAI gets the volumes prepared, as `.npy`, so that none of its preprocessing is measured; nnU-Net gets its own blosc2
files, written by its own `save_case`; its Python is named by --nnunet-python, or it is left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench_volumes import CLASSES, peak_memory, planned, volume, write_volumes

SECONDS = 5.0  # that each loader is read for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loader", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--patch", type=int, nargs=3, default=[96] * 3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where volumes are written; a temporary one")
    parser.add_argument("--nnunet-python", default=None)
    options = parser.parse_args()
    if options.loader is not None:
        print(json.dumps(LOADERS[options.loader](options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = Path(folder)
        loaders(options)


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
    command = [python, __file__, name, "--folder", options.folder, "--batch", options.batch, "--patch"]
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
        cache = CaseCache(folder, planned(options.patch, options.batch), CLASSES)
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


if __name__ == "__main__":
    main()
