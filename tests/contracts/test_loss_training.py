"""Contract 7: each segmentation loss alone trains a small U-Net to overfit one phantom."""

from __future__ import annotations

import pytest
import torch
from loss_cases import Case, Inputs, by_kind, value
from monai.networks.nets import UNet
from torch import Tensor

STEPS = 320
RATES = {"GradientLoss": 0.002}  # at 0.005 the softmax saturates before the inner edge is found


def phantom() -> tuple[Tensor, Tensor]:
    """A noisy image (1, 1, 16, 16, 16) of a ball with a smaller one inside, and its labels."""
    axis = torch.arange(16) - 7.5
    radius = (axis.view(-1, 1, 1) ** 2 + axis.view(1, -1, 1) ** 2 + axis.view(1, 1, -1) ** 2).sqrt()
    labels = (radius < 6).long() + (radius < 3.5).long()
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
    return (labels + 0.1 * noise)[None, None], labels[None, None]


@pytest.mark.parametrize("case", [c for c in by_kind("segmentation", "composite") if c == Case(c.name)], ids=str)
def test_overfits_one_phantom(case: Case) -> None:
    torch.manual_seed(0)
    image, labels = phantom()
    network = UNet(3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATES.get(case.name, 0.005))
    loss = case.build(**({"points": 1024} if case.name == "PointSampledLoss" else {}))
    for step in range(STEPS):
        optimiser.zero_grad()
        logits = network(image)
        if step % 20 == 19 and smallest_dice(logits, labels) > 0.95:
            return
        value(loss, Inputs(logits, labels)).backward()
        optimiser.step()
    pytest.fail(f"Dice {smallest_dice(network(image), labels):.3f} after {STEPS} steps")


def smallest_dice(logits: Tensor, labels: Tensor) -> float:
    """Of all classes, after arg-max."""
    found = logits.argmax(1, keepdim=True)
    pairs = [(found == label, labels == label) for label in range(logits.shape[1])]
    return min(float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs)
