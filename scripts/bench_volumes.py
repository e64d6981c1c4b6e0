"""What the benchmarks of reading share: synthetic volumes, a plan of them, and the memory of this process.

Imported in nnU-Net's environment too: of medseg only inside functions.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

CLASSES = {0: "background", 1: "large", 2: "small"}


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


def planned(patch: Sequence[int], batch: int) -> object:
    from medseg.plan import ChannelPlan, NetworkPlan, Plan

    return Plan(
        name="bench",
        channels=(ChannelPlan(name="MRI", normalisation="zscore"),),
        classes=CLASSES,
        spacing=(1.0, 1.0, 1.0),
        patch_size=tuple(patch),
        batch_size=batch,
        network=NetworkPlan(filters=(4, 8), strides=((1, 1, 1), (1, 1, 1)), kernels=((3, 3, 3),) * 2, heads=0),
    )


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
