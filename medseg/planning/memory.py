"""What training takes in memory, counted from the topology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.planning.sizes import Limits
from medseg.planning.topology import Topology

__all__ = ["TrainingMemory", "filters_of"]

_SAVED_RESIDUAL = 11  # maps that a stage keeps for the backward pass, encoder and decoder together; measured
_SAVED_PLAIN = 10
_WORKING = 4  # further maps of the first stage while gradients are on their way through it
_USABLE = 0.85  # of a memory: the rest is the framework's, workspaces of convolutions and gaps between blocks


def filters_of(limits: Limits, stages: int) -> tuple[int, ...]:
    """Channels of each stage: doubled at each one."""
    return tuple(min(limits.base_filters * 2**i, limits.max_filters) for i in range(stages))


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a step of training takes at its peak: what the backward pass needs of all maps, the loss, the batch
    and its views, weights with gradients, AdamW's two moments and the teacher's average.

    Within 15 % of what is allocated for patches from 32^3 voxels on (tests/planning/test_memory.py, on a CPU).

    Attributes:
        limits: filters and the kind of block.
        channels: of the image.
        outputs: of the network.
        bytes_a_value: of maps: 2 under autocast, 4 in float32.
    """

    limits: Limits
    channels: int
    outputs: int
    bytes_a_value: int = 2

    def of(self, topology: Topology, batch: int) -> float:
        """With `batch` patches a step, labelled and unlabelled ones together."""
        return self.weights(topology) + batch * self.patch(topology)

    def fits(self, topology: Topology, batch: int, memory: float) -> bool:
        """Whether that is within the usable part of `memory` bytes."""
        return self.of(topology, batch) <= _USABLE * memory

    def patch(self, topology: Topology) -> float:
        """Of one patch."""
        filters = filters_of(self.limits, len(topology.strides))
        scale = np.cumprod([np.prod(stride) for stride in topology.strides])
        maps = float((np.array(filters) / scale).sum())
        saved = _SAVED_RESIDUAL if self.limits.residual else _SAVED_PLAIN
        network = self.bytes_a_value * (saved * maps + _WORKING * filters[0])
        loss = 16 * self.outputs  # float32: logits, probabilities and their gradients
        views = 12 * self.channels + 9  # float32 images as read, weak and strong; label and mask
        return topology.voxels * (network + loss + views)

    def weights(self, topology: Topology) -> float:
        """Of the network, whatever the batch."""
        copy = 0 if self.bytes_a_value == 4 else self.bytes_a_value  # autocast keeps one in its precision
        return self.parameters(topology) * (4 * 5 + copy)

    def parameters(self, topology: Topology) -> int:
        """Of a network without deep-supervision heads, which are few."""
        filters, kernels = filters_of(self.limits, len(topology.strides)), topology.kernels
        total = filters[0] * self.outputs + self.outputs
        width = self.channels
        for i, (out, kernel, stride) in enumerate(zip(filters, kernels, topology.strides, strict=True)):
            taps = int(np.prod(kernel))
            total += taps * out * (width + out) + 4 * out
            if self.limits.residual and (width != out or stride != (1, 1, 1)):
                total += width * out + 2 * out
            if i:  # the decoder above: a transposed convolution up, then two convolutions
                above, taps = filters[i - 1], int(np.prod(kernels[i - 1]))
                total += int(np.prod(stride)) * out * above + taps * above * 3 * above + 4 * above
            width = out
        return total
