"""Time of HD95, ASSD and surface Dice together, ours against MONAI's, on one organ of a real volume.

    python scripts/bench_metrics.py [LABEL.nii.gz] [--repeats N]

By default the liver in ../shared/data/liver_ct. The prediction is the reference moved by (3, 2, 1) voxels, with a tenth
of its surface voxels flipped. Prints the values, which must agree, and the shortest time of each.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from medseg.data.volume import read_labels
from medseg.metrics.surface import assd, hd95, surface_dice, surface_distances

TOLERANCE_MM = 2.0


def perturbed(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """`mask` moved by (3, 2, 1) voxels, a tenth of its surface voxels flipped."""
    moved = np.roll(mask, (3, 2, 1), (0, 1, 2))
    edge = moved ^ ndimage.binary_erosion(moved)
    return moved ^ (edge & (np.random.default_rng(seed).random(mask.shape) < 0.1))


def ours(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float, float]:
    """HD95, ASSD and surface Dice: surfaces found once."""
    distances = surface_distances(prediction, reference, spacing)
    return hd95(distances), assd(distances), surface_dice(distances, TOLERANCE_MM)


def monais(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float, float]:
    """The same three by MONAI's functions."""
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    common = {"include_background": True, "spacing": list(spacing)}
    return (
        float(compute_hausdorff_distance(*pair, percentile=95, **common)),
        float(compute_average_surface_distance(*pair, symmetric=True, **common)),
        float(compute_surface_dice(*pair, class_thresholds=[TOLERANCE_MM], **common)),
    )


def shortest(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Prints the comparison."""
    root = Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label", nargs="?", type=Path, default=root / "liver_ct" / "label.nii.gz")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of MONAI's deprecations
    volume = read_labels(options.label)
    reference = volume.array > 0
    prediction, spacing = perturbed(reference), volume.geometry.spacing
    print(f"{options.label.name}: {reference.shape}, {int(reference.sum())} voxels, spacing {spacing} mm")
    seconds = {}
    for name, measure in (("medseg", ours), ("MONAI", monais)):
        values = measure(prediction, reference, spacing)
        seconds[name] = shortest(lambda measure=measure: measure(prediction, reference, spacing), options.repeats)
        shown = f"HD95 {values[0]:.4f} mm, ASSD {values[1]:.4f} mm, surface Dice {values[2]:.4f}"
        print(f"{name}: {seconds[name]:.2f} s, {shown}")
    print(f"ratio: {seconds['medseg'] / seconds['MONAI']:.2f}")


if __name__ == "__main__":
    main()
