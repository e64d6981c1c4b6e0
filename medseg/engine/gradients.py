"""One gradient for all processes of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg import ranks

__all__ = ["average_gradients", "equal_weights"]


def average_gradients(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Replaces each gradient by its mean over all processes, in one message; the mean of their losses. Alone, nothing.

    Where the loss is a mean over samples and all processes have equally many, this is the gradient of the joint batch.
    A parameter without a gradient has one of 0 in the mean, and keeps none where no process has one. This is asked of
    parameters after the backward pass, not of networks before it: methods may call several networks, several times,
    and leave out some of their parameters.
    """
    if ranks.size() == 1:
        return loss
    present = torch.tensor([p.grad is not None for p in parameters], device=parameters[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    joint = torch.cat([g.flatten() for g in gradients] + [present.float(), loss.detach().float().reshape(1)])
    ranks.sum_in_place(joint)
    *sums, anywhere, total_loss = joint.split([*(g.numel() for g in gradients), len(parameters), 1])
    for parameter, gradient, total, has_one in zip(parameters, gradients, sums, anywhere.tolist(), strict=True):
        if has_one:
            parameter.grad = gradient.copy_((total / ranks.size()).view_as(gradient))  # in its own memory layout
    return total_loss[0] / ranks.size()


@torch.no_grad()
def equal_weights(networks: Sequence[nn.Module]) -> None:
    """Gives all processes the first one's weights and buffers. Alone, nothing."""
    if ranks.size() == 1:
        return
    first = ranks.from_first(lambda: [{k: v.cpu() for k, v in n.state_dict().items()} for n in networks])
    for network, state in zip(networks, first, strict=True):
        network.load_state_dict(state)
