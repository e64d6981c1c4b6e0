"""What is blended over the windows: logits, or the maps before them where these are fewer.

A network's last layer is linear in each voxel, blending and interpolation are linear too and their weights sum to one:
so blending the maps before that layer and applying it once a voxel gives the same logits, up to rounding. With 100
classes that is a sixth of the memory, and the layer is not computed for every window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from medseg.inference.ensemble import Ensemble, mean_logits
from medseg.networks.unet import UNet

__all__ = ["Head", "Split", "split"]


@dataclass(frozen=True)
class Head:
    """A linear layer: weight (K, V) and bias (K, 1), float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Logits (K, N) of values (V, N), in float32 whatever the surrounding autocast."""
        with torch.autocast(values.device.type, enabled=False):
            return torch.addmm(self.bias, self.weight, values)


@dataclass(frozen=True)
class Split:
    """A network or an ensemble in two parts: `body` gives the values that are blended, (B, V, X, Y, Z), `head` turns
    them into logits; None where they are logits."""

    body: Callable[[Tensor], Tensor]
    head: Head | None


def split(
    networks: Sequence[nn.Module | Callable[[Tensor], Tensor]], mirror_axes: Sequence[int] = (), whole: bool = False
) -> Split:
    """The mean of the networks' logits, each also the mean over all mirrorings along `mirror_axes` (0 to 2).

    Networks are split where each is a `UNet` and their last maps together have fewer channels than the logits, unless
    `whole` asks for logits.

    Raises:
        ValueError: no network.
    """
    networks = [m for n in networks for m in (n.members if isinstance(n, Ensemble) else [n])]
    if not networks:
        raise ValueError("an ensemble needs at least one network")
    unets = [network for network in networks if isinstance(network, UNet)]
    layers = [unet.classifier.conv.conv for unet in unets]
    width = sum(layer.in_channels for layer in layers)
    if whole or len(unets) < len(networks) or width >= layers[0].out_channels:
        return Split(_mirrored(_mean(networks), mirror_axes), None)
    with torch.no_grad():
        weight = torch.cat([layer.weight.float().flatten(1) for layer in layers], dim=1) / len(layers)
        bias = torch.stack([layer.bias.float() for layer in layers]).mean(0)[:, None]
    return Split(_mirrored(_joined([unet.last_map for unet in unets]), mirror_axes), Head(weight, bias))


def _mean(networks: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    return networks[0] if len(networks) == 1 else partial(mean_logits, networks)


def _joined(bodies: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    return bodies[0] if len(bodies) == 1 else lambda windows: torch.cat([body(windows) for body in bodies], dim=1)


def _mirrored(network: Callable[[Tensor], Tensor], axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    if not axes:
        return network
    flips: list[list[int]] = [[]]
    for axis in sorted(set(axes)):
        flips += [[*flip, axis + 2] for flip in flips]

    def mean(windows: Tensor) -> Tensor:
        total = network(windows).float()
        for flip in flips[1:]:
            total = total + network(windows.flip(flip)).flip(flip)
        return total / len(flips)

    return mean
