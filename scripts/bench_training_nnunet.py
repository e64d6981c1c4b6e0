"""nnU-Net's own training step on the CPU, of the network, patch and batch that it plans for a data set.

    PYTHON scripts/bench_training_nnunet.py ../shared/data/hippocampus --threads 2     # PYTHON has nnunetv2 2.8.1

The step is `nnUNetTrainer.train_step` (forward, loss of all heads, backward, clipping, SGD) on a batch of noise that
lies ready: its loader and augmentation, which work beside it in other processes, are not counted.
`scripts/bench_training.py --data ...` measures ours, with both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

NAME = "Dataset001_bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with a Decathlon dataset.json, of one channel")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(None):
            trainer = made(options.data, Path(folder))
        plan = trainer.configuration_manager
        image = torch.randn(plan.batch_size, 1, *plan.patch_size)
        classes = trainer.label_manager.num_segmentation_heads
        with torch.no_grad():
            trainer.network.eval()
            shapes = [head.shape[2:] for head in trainer.network(image)]
        trainer.network.train()
        target = [torch.randint(classes, (plan.batch_size, 1, *shape)).float() for shape in shapes]
        print(f"nnU-Net, batch {tuple(image.shape)}, {torch.get_num_threads()} threads")
        for precision in ("fp32", "bf16"):
            seconds = measured(trainer, {"data": image, "target": target}, precision, options.steps)
            print(f"{precision}: {seconds:.2f} s a step, {plan.batch_size / seconds:.2f} patches/s", flush=True)


def made(data: Path, folder: Path) -> Any:
    """nnU-Net's trainer for `data`, as nnU-Net plans it."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder / name)
        (folder / name / NAME).mkdir(parents=True)
    found = json.loads((data / "dataset.json").read_text())
    listed = {
        Path(case["image"]).name.partition(".")[0]: {
            "images": [str((data / case["image"]).resolve())],
            "label": str((data / case["label"]).resolve()),
        }
        for case in found["training"]
    }
    description = {
        "channel_names": found["modality"],
        "labels": {name: int(value) for value, name in found["labels"].items()},
        "numTraining": len(listed),
        "file_ending": ".nii.gz",
        "dataset": listed,
    }
    (folder / "raw" / NAME / "dataset.json").write_text(json.dumps(description))
    # reads the variables when it is imported
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([1], num_processes=2, show_progress_bar=False)
    plans = plan_experiments([1])
    file = folder / "preprocessed" / NAME / f"{plans}.json"
    plan = json.loads(file.read_text()) | {"continue_training": False}
    trainer = nnUNetTrainer(plan, "3d_fullres", 0, description, device=torch.device("cpu"))
    cases = Path(trainer.preprocessed_dataset_folder)  # of which it looks at the names alone
    cases.mkdir()
    (cases / "none.b2nd").touch()
    trainer.initialize()
    return trainer


def measured(trainer: Any, batch: dict[str, Any], precision: str, steps: int) -> float:
    """The median of the steps after one to warm up."""
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            trainer.train_step(batch)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
