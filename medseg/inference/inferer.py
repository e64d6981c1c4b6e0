"""The plan's sliding window as one object that a bundle config names once and every engine uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from medseg.inference.body import body_mask
from medseg.inference.head import split
from medseg.inference.sliding_window import Slab, sliding_window, stream
from medseg.plan import Plan

__all__ = ["PlannedInferer"]


class PlannedInferer:
    """Applies a network to a whole volume as the plan says.

    Args:
        plan: patch size, overlap, windows at a time, axes to mirror along.
        device: where the network is; None is where the volume is.
        mirror: whether each window is also seen mirrored along the plan's axes: up to eight times the work. None does
            so on GPUs: the one default of all that predicts and judges; training asks for none.
        skip_outside: whether windows that lie wholly outside the body are left out.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device | str | None = None,
        mirror: bool | None = None,
        skip_outside: bool = False,
    ) -> None:
        self.plan = plan
        self.device = device
        self.mirror = torch.device(device or "cpu").type != "cpu" if mirror is None else mirror
        self.skip_outside = skip_outside

    def __call__(self, inputs: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (K, X, Y, Z) float32 of a prepared volume (C, X, Y, Z); of a batch of one likewise, as MONAI's
        inferers are called.

        Raises:
            ValueError: a batch of several volumes.
        """
        if inputs.ndim == 5:
            if len(inputs) != 1:
                raise ValueError(f"volumes are predicted one at a time, found a batch of {len(inputs)}")
            return self(inputs[0], network)[None]
        settings = self.plan.inference
        both = split([network], self.mirrored_axes, whole=True).body
        return sliding_window(inputs, both, self.plan.patch_size, settings.overlap, settings.batch, device=self.device)

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """The axes that windows are mirrored along."""
        return self.plan.inference.mirror_axes if self.mirror else ()

    @property
    def elements(self) -> int:
        """How many numbers are worked on at a time: what a processor's cache holds; a GPU needs more to be busy."""
        return 2**20 if torch.device(self.device or "cpu").type == "cpu" else 2**26

    def stream(
        self, volume: Tensor, body: Callable[[Tensor], Tensor], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Slab]:
        """The slabs of a prepared volume (C, X, Y, Z) under `body`, which mirrors by itself (see `split`)."""
        settings = self.plan.inference
        wanted = body_mask(volume, self.plan) if self.skip_outside else None
        return stream(
            volume, body, self.plan.patch_size, settings.overlap, settings.batch, progress, self.device, wanted
        )
