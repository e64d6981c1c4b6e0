"""The planned 3-D U-Net: deep-supervision heads and named features in training, a plain tensor in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from medseg.networks.norm import INSTANCE_NORM
from medseg.plan import Plan

__all__ = ["NetworkOutput", "UNet", "planned_unet", "students"]


class NetworkOutput(NamedTuple):
    """What one forward pass in training gives.

    Attributes:
        logits: raw scores (B, K, D, H, W), full resolution.
        deep: raw scores of the deep-supervision heads, each about half the resolution of the one before.
        features: maps by stage name: `encoder0` (full resolution) to `encoder{n-1}` (the bottleneck), and
            `decoder{n-2}` to `decoder0`, the last map before the classifier.
    """

    logits: Tensor
    deep: tuple[Tensor, ...]
    features: dict[str, Tensor]


class UNet(nn.Module):
    """A U-Net of MONAI's DynUNet blocks (Isensee et al. 2021, nnU-Net; residual encoder after He et al. 2016).

    Args:
        in_channels: image channels.
        out_channels: K: classes, background included, or regions.
        filters: channels of each stage, full resolution first.
        strides: stride at the start of each stage, the first (1, 1, 1).
        kernels: convolution kernel of each stage.
        residual: residual blocks in the encoder.
        heads: deep-supervision heads below the full resolution.

    Shape:
        image (B, C, D, H, W), each axis a multiple of the product of its strides. In training: `NetworkOutput`;
        in evaluation: logits (B, K, D, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]],
        residual: bool = True,
        heads: int = 0,
    ) -> None:
        super().__init__()
        block = UnetResBlock if residual else UnetBasicBlock
        norm = (INSTANCE_NORM, {"affine": True})
        widths = [in_channels, *filters]
        self.encoders = nn.ModuleList(
            block(3, widths[i], widths[i + 1], tuple(kernels[i]), tuple(strides[i]), norm) for i in range(len(filters))
        )
        # from the bottleneck up: decoder i joins stage i's skip connection
        self.decoders = nn.ModuleList(
            UnetUpBlock(3, filters[i + 1], filters[i], tuple(kernels[i]), 1, tuple(strides[i + 1]), norm)
            for i in reversed(range(len(filters) - 1))
        )
        self.classifier = UnetOutBlock(3, filters[0], out_channels)
        self.heads = nn.ModuleList(UnetOutBlock(3, filters[i + 1], out_channels) for i in range(heads))
        self.apply(_initialise)

    def forward(self, image):  # type: ignore[no-untyped-def]
        # no annotation: TorchScript sees one Tensor, training returns a NetworkOutput
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.classifier(self._maps(image)[-1])
        else:  # noqa: RET505  # TorchScript leaves out an else of is_scripting, not what follows a return
            if not self.training:
                return self.classifier(self._maps(image)[-1])
            return self.outputs(image)

    @torch.jit.unused
    def last_map(self, image: Tensor) -> Tensor:
        """The map before the classifier, (B, filters[0], D, H, W): `classifier(last_map(image))` are the logits."""
        return self._maps(image)[-1]

    def _maps(self, image: Tensor) -> list[Tensor]:
        """All stages' maps in the order in which they are computed: encoders, then decoders."""
        maps: list[Tensor] = []
        x = image
        for encoder in self.encoders:
            x = encoder(x)
            maps.append(x)
        below = len(maps) - 1
        for i, decoder in enumerate(self.decoders):
            x = decoder(x, maps[below - 1 - i])
            maps.append(x)
        return maps

    @torch.jit.unused
    def outputs(self, image: Tensor) -> NetworkOutput:
        """Logits, deep logits and all named features from one forward pass, in training and in evaluation."""
        maps = self._maps(image)
        stages = len(self.encoders)
        features = {f"encoder{i}": maps[i] for i in range(stages)}
        features |= {f"decoder{stages - 2 - i}": maps[stages + i] for i in range(stages - 1)}
        deep = tuple(head(features[f"decoder{i + 1}"]) for i, head in enumerate(self.heads))
        return NetworkOutput(self.classifier(features["decoder0"]), deep, features)


def planned_unet(plan: Plan, seed: int = 0, device: torch.device | str | None = None) -> UNet:
    """The network that `plan` describes, with fresh weights that are a pure function of `seed`.

    Args:
        plan: channels, classes and topology.
        seed: of the weights; the global random state stays as it was.
        device: where it is put, in the channels-last layout (faster for bf16); None leaves it as it is made.
    """
    network = plan.network
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators too
        unet = UNet(
            in_channels=len(plan.channels),
            out_channels=plan.outputs,
            filters=network.filters,
            strides=network.strides,
            kernels=network.kernels,
            residual=network.residual,
            heads=network.heads,
        )
    if device is None:
        return unet
    return unet.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def students(first: UNet, plan: Plan, number: int, seed: int) -> nn.ModuleList:
    """`first` and as many further networks of the plan as make `number`, each with weights of its own, where it is."""
    where = next(first.parameters()).device
    further = [planned_unet(plan, seed + 7919 * i, where) for i in range(1, number)]
    return nn.ModuleList([first, *further])


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
