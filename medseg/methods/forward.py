"""Several views through a network in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medseg.networks.unet import NetworkOutput

__all__ = ["forward_all"]


def forward_all(student: nn.Module, views: Mapping[str, Tensor]) -> dict[str, NetworkOutput]:
    """What a network in training mode makes of each view (B_i, C, D, H, W), from one pass over all of them.

    Samples do not influence each other (instance norm), so this equals one pass a view. Views without a sample are
    left out.
    """
    names = [name for name, view in views.items() if len(view)]
    sizes = [len(views[name]) for name in names]
    output: NetworkOutput = student(torch.cat([views[name] for name in names]))
    logits = output.logits.split(sizes)
    deep = [head.split(sizes) for head in output.deep]
    features = {stage: values.split(sizes) for stage, values in output.features.items()}
    return {
        name: NetworkOutput(
            logits[i], tuple(head[i] for head in deep), {stage: values[i] for stage, values in features.items()}
        )
        for i, name in enumerate(names)
    }
