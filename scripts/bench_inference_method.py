"""One method of bench_inference.py, which runs this in a process of its own:

    PYTHON scripts/bench_inference_method.py METHOD JOB

JOB is what its `prepare` gives, as JSON. PYTHON may be one that has nnunetv2 and neither medseg nor MONAI.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch


def main(method: str, job: dict[str, Any]) -> None:
    """Runs one method and prints seconds, peak memory and windows as JSON."""
    volume = torch.from_numpy(np.load(Path(job["folder"]) / "volume.npy"))
    predict, count = {"forwards": forwards, "medseg": medseg, "monai": monai, "nnunet": nnunet}[method](job, volume)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=job["precision"] == "bf16"):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        begin, cpu = time.perf_counter(), time.process_time()
        labels = predict()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = _status("VmHWM") - before
    found = {"seconds": seconds, "cpu": cpu, "peak_mb": peak / 1e3, "windows": count[0]}
    if method == "medseg":
        found["labels"] = str(Path(job["folder"]) / f"labels{int(job['skip_outside'])}.npy")
        np.save(found["labels"], labels)
    print(json.dumps(found))


def _status(field: str) -> int:
    """A field of this process's memory in kB. (ru_maxrss would begin with that of the process that started it.)"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def _counted(network: Any) -> tuple[Any, list[int]]:
    """The network, and how many windows it has seen."""
    count = [0]
    network.register_forward_pre_hook(lambda _, inputs: count.__setitem__(0, count[0] + len(inputs[0])))
    return network, count


def _network(job: dict[str, Any]) -> Any:
    from medseg.networks import planned_unet
    from medseg.plan import load_plan

    network = planned_unet(load_plan(Path(job["folder"]) / "plan.yaml"), device="cpu").eval()
    network.load_state_dict(torch.load(Path(job["folder"]) / "network.pt", weights_only=True))
    return network


def forwards(job: dict[str, Any], volume: Any) -> tuple[Any, list[int]]:
    """The network on medseg's windows, its output thrown away."""
    from medseg.inference.windows import pad_with_edge, window_starts

    network, count = _counted(_network(job))

    def predict() -> None:
        padded = pad_with_edge(volume, job["patch"])[0]
        starts = [window_starts(n, p, job["overlap"]) for n, p in zip(padded.shape[1:], job["patch"], strict=True)]
        corners = list(itertools.product(*starts))
        for at in range(0, len(corners), job["batch"]):
            network(torch.stack([
                padded[(slice(None), *(slice(c, c + p) for c, p in zip(corner, job["patch"], strict=True)))]
                for corner in corners[at : at + job["batch"]]
            ]))  # fmt: skip

    return predict, count


def medseg(job: dict[str, Any], volume: Any) -> tuple[Any, list[int]]:
    from medseg.inference.head import split
    from medseg.inference.inferer import PlannedInferer
    from medseg.inference.reduce import reduce_rows
    from medseg.inference.resample import native_rows
    from medseg.plan import load_plan

    plan, count = load_plan(Path(job["folder"]) / "plan.yaml"), [0]
    inferer = PlannedInferer(plan, skip_outside=job["skip_outside"])
    parts, shape = split([_network(job)]), tuple(volume.shape[1:])

    def predict() -> Any:
        slabs = inferer.stream(volume, parts.body, lambda _, total: count.__setitem__(0, total))
        return reduce_rows(native_rows(slabs, shape, shape, values=plan.outputs), shape, plan, parts.head).labels

    return predict, count


def monai(job: dict[str, Any], volume: Any) -> tuple[Any, list[int]]:
    from monai.inferers import sliding_window_inference

    network, count = _counted(_network(job))
    options = {"overlap": job["overlap"], "mode": "gaussian", "sigma_scale": 0.125, "padding_mode": "replicate"}
    predict = lambda: sliding_window_inference(volume[None], job["patch"], job["batch"], network, **options).argmax(1)  # noqa: E731
    return predict, count


def nnunet(job: dict[str, Any], volume: Any) -> tuple[Any, list[int]]:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=1 - job["overlap"], use_mirroring=False, perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    network, count = torch.jit.load(Path(job["folder"]) / "network.ts"), [0]

    class Network(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            count[0] += len(x)
            return network(x.contiguous(memory_format=torch.channels_last_3d))

    predictor.network = Network()
    predictor.configuration_manager = SimpleNamespace(patch_size=list(job["patch"]))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=job["classes"])
    return lambda: predictor.predict_sliding_window_return_logits(volume).argmax(0), count


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
