from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.losses import DeepSupervisionLoss, DiceCELoss
from medseg.networks import planned_unet
from medseg.plan import ChannelPlan, NetworkPlan, Plan
from medseg.planning.memory import TrainingMemory, filters_of
from medseg.planning.sizes import Limits, Sizes
from medseg.planning.topology import Topology, patch_and_topology

Spacing = tuple[float, float, float]


def planned(topology: Topology, limits: Limits, spacing: Spacing, channels: int, outputs: int, heads: int = 2) -> Plan:
    return Plan(
        name="memory",
        channels=tuple(ChannelPlan(name=str(i), normalisation="zscore") for i in range(channels)),
        classes={i: str(i) for i in range(outputs)},
        spacing=spacing,
        patch_size=topology.patch,
        batch_size=2,
        network=NetworkPlan(
            filters=filters_of(limits, len(topology.strides)),
            strides=topology.strides,
            kernels=topology.kernels,
            residual=limits.residual,
            heads=min(heads, len(topology.strides) - 2),
        ),
    )


@pytest.mark.parametrize(
    ("residual", "shape", "spacing", "filters", "channels", "outputs", "bf16"),
    [
        (True, (32, 32, 32), (1, 1, 1), 16, 1, 3, False),
        (False, (48, 32, 8), (1, 1, 5), 16, 2, 3, True),
        pytest.param(True, (48, 48, 48), (1, 1, 1), 16, 1, 3, True, marks=pytest.mark.slow),
        pytest.param(True, (32, 32, 32), (1, 1, 1), 32, 1, 3, True, marks=pytest.mark.slow),
        pytest.param(False, (64, 64, 12), (1, 1, 5), 16, 1, 2, False, marks=pytest.mark.slow),
        pytest.param(True, (32, 32, 32), (1, 1, 1), 16, 1, 14, False, marks=pytest.mark.slow),
    ],
)
def test_the_model_is_within_15_percent_of_what_a_step_allocates(
    residual: bool, shape: Any, spacing: Spacing, filters: int, channels: int, outputs: int, bf16: bool
) -> None:
    limits = Sizes(base_filters=filters, residual=residual).filled(None)
    topology = patch_and_topology(shape, spacing, 10**9, limits.max_stages)
    needs = TrainingMemory(limits, channels, outputs, 2 if bf16 else 4)
    found = peak_of_a_step(planned(topology, limits, spacing, channels, outputs), 2, bf16)
    # a supervised step with no views; weights, and gradients, which come when activations go, were there before
    views = (12 * channels + 9) * topology.voxels
    copies = (needs.weights(topology) - 20 * needs.parameters(topology)) if bf16 else 0
    expected = 2 * (needs.patch(topology) - views) + copies
    assert expected == pytest.approx(found, rel=0.15)


def peak_of_a_step(plan: Plan, batch: int, bf16: bool) -> float:
    """Bytes allocated at the peak of forward and backward pass, beyond what was there before."""
    from torch.profiler import ProfilerActivity, profile

    network = planned_unet(plan, device="cpu").train()
    loss = DeepSupervisionLoss(DiceCELoss())
    image = torch.randn(batch, len(plan.channels), *plan.patch_size)
    label = torch.randint(0, plan.outputs, (batch, 1, *plan.patch_size))

    def step() -> None:
        network.zero_grad(set_to_none=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output = network(image)
            total = loss((output.logits, *output.deep), label).total
        total.backward()

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        step()
    events = [event for event in measured.profiler.kineto_results.events() if event.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0)])
def test_parameters_are_counted_exactly(residual: bool, spacing: Spacing) -> None:
    limits = Sizes(base_filters=8, max_filters=40, residual=residual).filled(8e9)
    topology = patch_and_topology((64, 48, 16), spacing, 10**9, limits.max_stages)
    with torch.device("meta"):
        network = planned_unet(planned(topology, limits, spacing, 3, 5, heads=0))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert TrainingMemory(limits, 3, 5).parameters(topology) == count


def test_memory_grows_with_what_is_asked_for() -> None:
    limits = Sizes().filled(8e9)
    needs = TrainingMemory(limits, 1, 2)
    small, large = (patch_and_topology((n,) * 3, (1, 1, 1), 10**9, 6) for n in (64, 128))
    assert needs.of(small, 2) < needs.of(small, 4) < needs.of(large, 4)
    assert needs.fits(large, 2, 12e9)
    assert not needs.fits(large, 16, 12e9)
    single = TrainingMemory(limits, 1, 2, bytes_a_value=4)
    assert 1.5 < single.patch(large) / needs.patch(large) < 2
