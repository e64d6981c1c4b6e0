"""Time and peak memory of the losses, forward and backward, against MONAI's at the same value.

python scripts/bench_losses.py [--size 96] [--repeats 15] [--threads 2] [--device cuda] [--compile]

Each repeat runs both, one after the other, and the ratio is the median of the repeats' ratios, so that a machine
that is busy for a while slows both. Memory is what was allocated at the peak beyond logits and labels, the gradient
included. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import monai.losses as monai
import torch
from bench_cost import memory, timed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medseg import losses

Loss = Callable[[Tensor, Tensor], Tensor]

BATCH, CLASSES = 2, 4
ONE_HOT = {"softmax": True, "to_onehot_y": True}


def main() -> None:
    """Parses the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile both sides")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{given.threads} threads"
    print(f"{BATCH} x {CLASSES} x {given.size}^3 float32, {name}, torch {torch.__version__}, "
          f"{'compiled' if given.compile else 'eager'}, medians of {given.repeats}\n")  # fmt: skip
    logits, target = volume(given.size, device)
    wrap = torch.compile if given.compile else lambda loss: loss
    print("| | medseg ms | reference ms | time ratio | medseg MB | reference MB | memory ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, (ours, theirs) in pairs().items():
        print(row(name, wrap(ours), wrap(theirs), logits, target, given.repeats))
    print("\n| points | ms | MB |\n|---|---|---|")
    for size in (given.size // 2, given.size, given.size * 4 // 3):
        logits, target = volume(size, device)
        sampled = step(losses.point_sampled_loss, logits, target)
        times = [timed(sampled, device) for _ in range(given.repeats)]
        peak = memory(sampled, device)
        gradient = logits.numel() * logits.element_size()
        print(f"| 12544 of {size}^3 | {statistics.median(times) * 1e3:.1f} | "
              f"{(peak - gradient) / 1e6:.1f} and the gradient |")  # fmt: skip


def pairs() -> dict[str, tuple[Loss, Loss]]:
    """Ours and a reference of the same value."""
    dice, dice_ce = monai.DiceLoss(**ONE_HOT), monai.DiceCELoss(**ONE_HOT)
    tversky, focal = (
        monai.TverskyLoss(**ONE_HOT, alpha=0.3, beta=0.7),
        monai.FocalLoss(to_onehot_y=True, use_softmax=True),
    )
    ours_ce = losses.CrossEntropyLoss()
    parts: dict[str, nn.Module] = {
        "dice": losses.DiceLoss(),
        "ce": losses.CrossEntropyLoss(),
        "tversky": losses.TverskyLoss(alpha=0.3, beta=0.7),
        "focal": losses.FocalLoss(),
    }
    compound = losses.CompoundLoss(parts, {"focal": 1 / CLASSES})
    return {
        "Dice": (losses.DiceLoss(), dice),
        "Dice + CE": (losses.DiceCELoss(dice_weight=1, ce_weight=1), dice_ce),
        "Tversky": (losses.TverskyLoss(alpha=0.3, beta=0.7), tversky),
        "focal": (lambda z, t: losses.focal_loss(z, t) / CLASSES, focal),
        "Dice + focal": (
            losses.DiceFocalLoss(dice_weight=1, focal_weight=1 / CLASSES),
            lambda z, t: dice(z, t) + focal(z, t),
        ),
        "Dice + CE + Tversky + focal": (
            lambda z, t: compound(z, t).total,
            lambda z, t: dice_ce(z, t) + tversky(z, t) + focal(z, t),
        ),
        "CE (reference: torch)": (ours_ce, lambda z, t: cross_entropy(z, t[:, 0])),
        "CE (reference: log_softmax alone)": (ours_ce, lambda z, _: z.log_softmax(1).mean()),
    }


def volume(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random logits and labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, CLASSES, size, size, size, generator=generator)
    target = torch.randint(0, CLASSES, (BATCH, 1, size, size, size), generator=generator)
    return logits.to(device), target.to(device)


def row(name: str, ours: Loss, theirs: Loss, logits: Tensor, target: Tensor, repeats: int) -> str:
    """One row of the table."""
    a, b = ours(logits, target).item(), theirs(logits, target).item()
    if "log_softmax" not in name and abs(a - b) > 1e-4 * abs(b):
        raise AssertionError(f"{name}: {a} is not {b}")
    steps, device = [step(loss, logits, target) for loss in (ours, theirs)], logits.device
    for one in steps:
        timed(one, device)
    times = [[timed(one, device) for one in steps] for _ in range(repeats)]
    ratio = statistics.median(x / y for x, y in times)
    first, second = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    peak, other = (memory(one, device) for one in steps)
    return (f"| {name} | {first:.1f} | {second:.1f} | {ratio:.2f} | {peak / 1e6:.0f} | {other / 1e6:.0f} | "
            f"{peak / other:.2f} |")  # fmt: skip


def step(loss: Loss, logits: Tensor, target: Tensor) -> Callable[[], None]:
    """The value and its gradient."""
    return lambda: loss(logits.detach().requires_grad_(), target).backward()


if __name__ == "__main__":
    main()
