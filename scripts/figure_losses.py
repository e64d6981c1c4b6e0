"""Makes the figures of docs/losses.md: value and gradient of the losses against error.

python scripts/figure_losses.py [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor

from medseg import losses

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Loss = Callable[[Tensor, Tensor], Tensor]

SIZE, RADIUS = 40, 10
SHARP = 2.0  # logits per voxel of distance from the predicted surface


def main(folder: Path) -> None:
    """Writes one PNG per family to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6}
    voxelwise(folder / "losses_voxelwise.png")
    overlap(folder / "losses_overlap.png")
    boundary(folder / "losses_boundary.png")


def voxelwise(path: Path) -> None:
    """One voxel: the cost of the probability that it gives to its own class, and the pull on its logit."""
    family: dict[str, Loss] = {
        "cross entropy": losses.cross_entropy_loss,
        "cross entropy, label smoothing 0.1": lambda z, t: losses.cross_entropy_loss(z, t, label_smoothing=0.1),
        "focal, gamma 1": lambda z, t: losses.focal_loss(z, t, gamma=1),
        "focal, gamma 2": losses.focal_loss,
        "L1": losses.region_l1_loss,
        "smooth L1": lambda z, t: losses.region_l1_loss(z, t, smooth=True),
        "Lovasz hinge": losses.lovasz_loss,
    }
    p = torch.linspace(0.005, 0.995, 200, dtype=torch.float64)
    target = torch.ones(1, 1, 1, 1, 1, dtype=torch.long)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, loss in family.items():
        values, slopes = curve(loss, ((logit.view(1, 1, 1, 1, 1), target) for logit in p.logit()))
        left.plot(p, values, label=name)
        right.plot(p, slopes)
    titled(left, "value", "probability of the voxel's own class", (0, 3.5))
    titled(right, "size of the gradient by the logit", "probability of the voxel's own class", (0, 1.15))
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=90)


def overlap(path: Path) -> None:
    """A ball found too small (misses) or too large (false alarms); overlap of the ball alone where one can choose."""
    family: dict[str, Loss] = {
        "Dice": losses.DiceLoss(include_background=False),
        "Jaccard": losses.JaccardLoss(include_background=False),
        "Tversky, alpha 0.3, beta 0.7": losses.TverskyLoss(alpha=0.3, beta=0.7, include_background=False),
        "focal Tversky": losses.FocalTverskyLoss(include_background=False),
        "generalised Dice": losses.generalized_dice_loss,
        "Lovasz": losses.LovaszLoss(include_background=False),
        "Dice + cross entropy": losses.dice_ce_loss,
        "cross entropy": losses.cross_entropy_loss,
    }
    offsets = torch.linspace(-RADIUS, RADIUS, 21, dtype=torch.float64)
    distance = distances()
    target = (distance < RADIUS).long()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, loss in family.items():
        values, slopes = curve(loss, ((two_classes(RADIUS + o - distance), target) for o in offsets))
        style = "--" if name == "Lovasz" else "-"  # on top of Jaccard
        left.plot(offsets, values, style, label=name)
        right.plot(offsets, slopes, style)
    where = f"radius found minus radius ({RADIUS} voxels)"
    titled(left, "value", where, (0, 1.05))
    titled(right, "size of the gradient by the logits (L1)", where, None)
    right.set_yscale("log")
    for axes in (left, right):
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    left.text(0.02, 0.02, "misses", transform=left.transAxes, color="0.4")
    left.text(0.98, 0.02, "false alarms", transform=left.transAxes, color="0.4", ha="right")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=90)


def boundary(path: Path) -> None:
    """A ball found at the right size but shifted, and at the right place but blurred."""
    family: dict[str, Loss] = {
        "Dice": losses.dice_loss,
        "L1 in the band": lambda z, t: losses.region_l1_loss(z, t, region="band"),
        "L1 everywhere": losses.region_l1_loss,
        "gradient": losses.gradient_loss,
        "Laplacian pyramid": losses.laplacian_pyramid_loss,
    }
    distance = distances()
    target = (distance < RADIUS).long()
    shifts = torch.linspace(0, RADIUS, 11, dtype=torch.float64)
    widths = torch.logspace(-0.7, 1, 15, dtype=torch.float64)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, loss in family.items():
        values, _ = curve(loss, ((two_classes(RADIUS - distances(float(s))), target) for s in shifts))
        left.plot(shifts, values, label=name)
        values, _ = curve(loss, ((two_classes((RADIUS - distance) / (SHARP * w)), target) for w in widths))
        right.plot(widths, values)
    titled(left, "value, shifted", "shift, voxels", (3e-3, 1))
    titled(right, "value, blurred", "width of the edge found, voxels", (3e-3, 1))
    right.set_xscale("log")
    left.set_yscale("log")
    right.set_yscale("log")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=90)


def curve(loss: Loss, points: Iterable[tuple[Tensor, Tensor]]) -> tuple[list[float], list[float]]:
    """Value, and sum of the absolute gradient by the logits, at each of `points`."""
    values, slopes = [], []
    for logits, target in points:
        z = logits.detach().requires_grad_()
        value = loss(z, target)
        value.backward()
        assert z.grad is not None
        values.append(value.item())
        slopes.append(z.grad.abs().sum().item())
    return values, slopes


def distances(shift: float = 0.0) -> Tensor:
    """(1, 1, SIZE, SIZE, SIZE): the distance in voxels from the middle, which lies `shift` along the first axis."""
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    x, y, z = (axis - shift).view(-1, 1, 1), axis.view(1, -1, 1), axis.view(1, 1, -1)
    return (x**2 + y**2 + z**2).sqrt()[None, None]


def two_classes(inside: Tensor) -> Tensor:
    """Logits of background and ball from the depth below the predicted surface."""
    return torch.cat([-SHARP * inside / 2, SHARP * inside / 2], 1)


def titled(axes: Axes, title: str, below: str, limits: tuple[float, float] | None) -> None:
    """Title, x label and y limits."""
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel(below)
    if limits is not None:
        axes.set_ylim(*limits)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures"))
