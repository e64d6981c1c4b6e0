"""What a training step costs beyond the network's own: the whole iteration against forward, backward, optimiser step.

    python scripts/bench_training.py --threads 2
    python scripts/bench_training.py --device cuda --network large --set workers=4

The whole iteration is the loader's batch, augmentation, the method with its loss, backward, clipping, the optimiser's
step and the wait for it. The bare step is forward, the mean of all outputs, backward and AdamW on a batch that lies
ready, of the same network, size and precision. The two are interleaved; times are medians. Memory is what is allocated
at the peak of a step beyond what was there before. With CUDA, also the share of time in which the GPU works.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from bench_cost import memory, timed, wait
from monai.bundle import ConfigWorkflow
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from medseg.data.phantoms import write_cohort
from medseg.engine import Iteration
from medseg.engine.provenance import short_name
from medseg.methods import Progress
from medseg.share import bundle_folder, overlay_folder

# of a run, where all terms are there
HALF = (500, 1000)


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        iteration, loader, loss = built(options, Path(folder))
        batches = iter(loader)
        whole = Whole(iteration, batches)
        bare = Bare(iteration, next(batches)["labelled"]["image"])
        device = iteration.autocast.device
        for step in (whole, bare, whole, bare):  # to warm up
            step()
        times: dict[str, list[float]] = {"whole": [], "bare": []}
        for _ in range(options.steps):
            times["whole"].append(timed(whole, device))
            times["bare"].append(timed(bare, device))
        report(options, iteration, loss, times, whole, bare)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a dataset; by default phantoms, made now")
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--loss", default="dice_ce")
    parser.add_argument("--network", help="configs/network/NAME; by default the plan's own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of train.yaml")
    return parser.parse_args()


def built(options: argparse.Namespace, folder: Path) -> tuple[Iteration, Any, Any]:
    """Iteration, loader and loss, composed as `medseg train` composes them."""
    data = options.data
    if data is None:
        data = folder / "phantoms"
        write_cohort(data, labelled=4, unlabelled=4, validation=1, test=1)
    names = {"method": options.method, "loss": options.loss, "network": options.network}
    overlays = [overlay_folder() / concern / f"{name}.yaml" for concern, name in names.items() if name]
    override = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.set)}
    workflow = ConfigWorkflow(
        [str(file) for file in (bundle_folder() / "configs" / "train.yaml", *overlays)],
        workflow_type="train",
        logging_file=False,
        init_id="check",
        **{
            "dataset_dir": str(data),
            "cache_dir": str(folder / "cache"),
            "device_name": options.device,
            "precision": options.precision,
            "steps": HALF[1],
            **override,
        },
    )
    workflow.initialize()
    found = [workflow.parser.get_parsed_content(name) for name in ("iteration", "train#dataloader", "loss")]
    return found[0], found[1], found[2]


class Whole:
    """The step of a run."""

    def __init__(self, iteration: Iteration, batches: Iterator[Any]) -> None:
        self.iteration = iteration
        self.batches = batches
        self.parts: dict[str, list[float]] = {"loader": [], "augmentation": []}

    def __call__(self) -> None:
        self.iteration(next(self.batches), Progress(*HALF))

    def measure_parts(self) -> None:
        """Loader and augmentation by themselves."""
        device = self.iteration.autocast.device
        begin = time.perf_counter()
        raw = next(self.batches)
        loaded = time.perf_counter()
        self.iteration.batch(raw)
        wait(device)
        self.parts["loader"].append(loaded - begin)
        self.parts["augmentation"].append(time.perf_counter() - loaded)


class Bare:
    """Forward, the mean of all outputs, backward, AdamW."""

    def __init__(self, iteration: Iteration, image: Tensor) -> None:
        self.autocast = iteration.autocast
        self.image = image.to(self.autocast.device)
        self.network = copy.deepcopy(iteration.students[0]).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, weight_decay=0.01)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            output = self.network(self.image)
            total = torch.stack([head.float().mean() for head in (output.logits, *output.deep)]).sum()
        total.backward()
        self.optimizer.step()


def report(
    options: argparse.Namespace,
    iteration: Iteration,
    loss: object,
    times: dict[str, list[float]],
    whole: Whole,
    bare: Bare,
) -> None:
    device = iteration.autocast.device
    for _ in range(min(options.steps, 5)):
        whole.measure_parts()
    ratio = statistics.median(a / b for a, b in zip(times["whole"], times["bare"], strict=True))
    parameters = sum(p.numel() for p in iteration.students[0].parameters())
    print(
        f"torch {torch.__version__}, {device}, {iteration.autocast.precision}, {torch.get_num_threads()} threads; "
        f"{short_name(iteration.method)}, {short_name(loss)}, {parameters / 1e6:.2f} million parameters, "
        f"batch {tuple(bare.image.shape)}, {options.steps} steps each"
    )
    print("| | ms | ratio | MB |\n|---|---|---|---|")
    for name, step, shown in (("whole iteration", whole, f"{ratio:.3f}"), ("bare step", bare, "1")):
        milliseconds = 1e3 * statistics.median(times[name.split()[0]])
        print(f"| {name} | {milliseconds:.1f} | {shown} | {memory(step, device) / 1e6:.0f} |")
    for name, seconds in whole.parts.items():
        print(f"| of it {name} | {1e3 * statistics.median(seconds):.1f} | | |")
    if device.type == "cuda":
        print(f"GPU busy: {100 * busy(whole):.0f} % of the whole iteration, {100 * busy(bare):.0f} % of the bare step")


def busy(step: Callable[[], None], steps: int = 10) -> float:
    """The share of time in which a kernel or a copy runs on the GPU."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in found.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    covered, until = 0.0, -math.inf
    for first, last in spans:
        covered += max(0.0, last - max(first, until))
        until = max(until, last)
    return covered / 1e6 / seconds


if __name__ == "__main__":
    main()
