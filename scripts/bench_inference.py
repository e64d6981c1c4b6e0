"""Time and peak memory of whole-volume prediction: medseg, MONAI, nnU-Net and the bare network on the same windows.

    python scripts/bench_inference.py --volume liver_ct --classes 2 105
    python scripts/bench_inference.py --volume 256 --classes 100 --nnunet-python PYTHON   # with nnunetv2 2.8.1
    python scripts/bench_inference.py --volume 128 --classes 2 --linear

Each measurement runs in a process of its own. One network of random weights, planned for the volume's spacing, is given
to all of them, with the same patch, overlap and batch and in the same precision. Time begins with the prepared volume
and ends with labels; memory is the highest resident size minus that before the call (Linux). Ratios are per window to
the first row. The CPU's seconds say on a busy machine what the clock does not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("forwards", "medseg", "monai", "nnunet")
WORKER = Path(__file__).with_name("bench_inference_method.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", default="liver_ct", help="liver_ct, or the edge of a random cube in voxels")
    parser.add_argument("--crop", type=int, nargs=3, help="use only so many voxels along each axis")
    parser.add_argument("--classes", type=int, nargs="+", default=[2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["forwards", "medseg", "monai"])
    parser.add_argument("--nnunet-python", help="of an environment with nnunetv2; measures it too")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--filters", type=int, default=16, help="channels of the network's first stage")
    parser.add_argument("--repeat", type=int, default=1, help="the fastest of so many is reported")
    parser.add_argument("--linear", action="store_true", help="medseg alone on one, two and four times the volume")
    parser.add_argument("--skip-outside", action="store_true", help="what leaving out windows outside the body changes")
    options = parser.parse_args()
    methods = [*options.methods, *(["nnunet"] if options.nnunet_python else [])]
    for classes in options.classes:
        with tempfile.TemporaryDirectory() as folder:
            job = prepare(Path(folder), options, classes)
            if options.linear:
                linear(job)
            elif options.skip_outside:
                found = {name: measure("medseg", job | {"skip_outside": name == "skipping"}, None)
                         for name in ("everywhere", "skipping")}  # fmt: skip
                report(job, found, "everywhere")
                changed = np.load(found["everywhere"]["labels"]) != np.load(found["skipping"]["labels"])
                print(f"labels changed: {changed.sum()} of {changed.size} voxels")
            else:
                report(job, {m: repeated(m, job, options) for m in methods}, methods[0])


def prepare(folder: Path, options: argparse.Namespace, classes: int) -> dict[str, Any]:
    """Writes volume and network, and what the processes need to know."""
    import torch

    from medseg.data.preprocess import plan_grid, prepare_images
    from medseg.data.volume import read_volume
    from medseg.engine import Autocast
    from medseg.networks import planned_unet
    from medseg.plan import ChannelPlan, NetworkPlan, Plan, save_plan
    from medseg.planning import Sizes
    from medseg.planning.topology import patch_and_topology

    spacing = (1.0, 1.0, 1.0)
    raw = None
    if options.volume == "liver_ct":
        root = Path(os.environ.get("MEDSEG_DATA", "../shared/data"))
        raw = read_volume(next(f for f in sorted((root / "liver_ct").rglob("*.nii.gz")) if "label" not in str(f)))
        spacing = tuple(max(float(f"{s:.5g}"), 1e-3) for s in raw.geometry.spacing)
    shape = raw.geometry.shape if raw else (int(options.volume),) * 3
    shape = tuple(min(n, c) for n, c in zip(shape, options.crop or shape, strict=True))
    limits = Sizes().filled(None)
    patch, strides, kernels = patch_and_topology(shape, spacing, limits.patch_voxels, limits.max_stages)
    plan = Plan(
        name="bench",
        channels=(
            ChannelPlan(name="CT", normalisation="clip_zscore", lower=-100.0, upper=250.0, mean=80.0, std=50.0),
        ),
        classes={i: str(i) for i in range(classes)},
        spacing=spacing,
        patch_size=patch,
        batch_size=2,
        network=NetworkPlan(
            filters=tuple(min(options.filters * 2**i, 320) for i in range(len(strides))),
            strides=strides, kernels=kernels, heads=0,
        ),
    )  # fmt: skip
    if raw:
        images = raw.array[None][(slice(None), *(slice(n) for n in shape))]
        grid = plan_grid(raw.geometry, plan.spacing)
        images = prepare_images(images, grid, plan) if images.shape[1:] == grid.native else (images - 80) / 50
    else:
        images = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    np.save(folder / "volume.npy", images.astype(np.float32))
    save_plan(plan, folder / "plan.yaml")
    network = planned_unet(plan).eval().to(memory_format=torch.channels_last_3d)
    torch.save(network.state_dict(), folder / "network.pt")
    precision = Autocast("cpu").precision if options.precision == "auto" else options.precision
    if options.nnunet_python:  # knows neither medseg nor MONAI
        with torch.no_grad():
            torch.jit.trace(network, torch.zeros(1, 1, *patch)).save(str(folder / "network.ts"))
    settings = plan.inference
    return {"folder": str(folder), "patch": patch, "classes": classes, "shape": images.shape[1:],
            "precision": precision, "overlap": settings.overlap, "batch": settings.batch,
            "skip_outside": False}  # fmt: skip


def repeated(method: str, job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    runs = [measure(method, job, options.nnunet_python) for _ in range(options.repeat)]
    return min(runs, key=lambda run: run["seconds"])


def measure(method: str, job: dict[str, Any], nnunet_python: str | None) -> dict[str, Any]:
    """One method in a fresh process."""
    python = nnunet_python if method == "nnunet" and nnunet_python else sys.executable
    done = subprocess.run([python, str(WORKER), method, json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(job: dict[str, Any], found: dict[str, dict[str, Any]], base: str) -> None:
    voxels = " x ".join(map(str, job["shape"]))
    patch = " x ".join(map(str, job["patch"]))
    print(f"\n{voxels} voxels, {job['classes']} classes, windows of {patch}, {job['precision']}")
    print(f"{'':12}{'windows':>8}{'seconds':>10}{'ratio':>8}{'cpu s':>10}{'ratio':>8}{'peak MB':>10}{'of MONAI':>10}")
    for name, run in found.items():
        ratios = [run[of] / run["windows"] / (found[base][of] / found[base]["windows"]) for of in ("seconds", "cpu")]
        memory = f"{run['peak_mb'] / found['monai']['peak_mb']:10.2f}" if "monai" in found else ""
        print(f"{name:12}{run['windows']:8}{run['seconds']:10.1f}{ratios[0]:8.3f}{run['cpu']:10.1f}{ratios[1]:8.3f}"
              f"{run['peak_mb']:10.0f}{memory}", flush=True)  # fmt: skip


def linear(job: dict[str, Any]) -> None:
    volume = np.load(Path(job["folder"]) / "volume.npy")
    print(f"\n{'voxels':>24}{'seconds':>10}{'us/voxel':>10}{'peak MB':>10}")
    for times in (1, 2, 4):
        longer = np.concatenate([volume] * times, axis=1)
        np.save(Path(job["folder"]) / "volume.npy", longer)
        run = measure("medseg", job, None)
        size = " x ".join(map(str, longer.shape[1:]))
        print(f"{size:>24}{run['seconds']:10.1f}{run['seconds'] / longer.size * 1e6:10.3f}{run['peak_mb']:10.0f}")


if __name__ == "__main__":
    main()
