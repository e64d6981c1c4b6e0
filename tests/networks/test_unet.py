from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.networks import NetworkOutput, UNet, planned_unet
from medseg.plan import Plan

Build = Callable[..., Plan]
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "isotropic": {
        "filters": (4, 6, 8),
        "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        "kernels": ((3, 3, 3),) * 3,
        "heads": 1,
    },
    "anisotropic": {
        "filters": (4, 6, 8, 8),
        "strides": ((1, 1, 1), (2, 2, 1), (2, 1, 1), (1, 2, 2)),
        "kernels": ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)),
        "heads": 2,
    },
    "two stages": {"filters": (4, 8), "strides": ((1, 1, 1), (1, 2, 2)), "kernels": ((1, 3, 3),) * 2, "heads": 0},
    "nothing halved": {"filters": (4, 4), "strides": ((1, 1, 1),) * 2, "kernels": ((3, 3, 3),) * 2, "heads": 0},
}


@pytest.fixture
def plan(small_plan: Build) -> Callable[..., Plan]:
    def plan(name: str = "isotropic", channels: int = 1, classes: int = 2, **network: Any) -> Plan:
        return small_plan(
            network=TOPOLOGIES[name] | network,
            patch_size=(16, 8, 8),
            channels=[{"name": f"c{i}", "normalisation": "zscore"} for i in range(channels)],
            classes={i: f"class {i}" for i in range(classes)},
        )

    return plan


def image(channels: int = 1, shape: tuple[int, int, int] = (16, 8, 8), samples: int = 2) -> Tensor:
    return torch.randn(samples, channels, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 4)])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_shapes(plan: Build, name: str, channels: int, classes: int, residual: bool) -> None:
    made = plan(name, channels, classes, residual=residual)
    network = planned_unet(made).train()
    output = network(image(channels))
    assert isinstance(output, NetworkOutput)
    assert output.logits.shape == (2, classes, 16, 8, 8)
    sizes = 16 * np.ones(3) * [1, 0.5, 0.5] / np.cumprod(made.network.strides, axis=0)
    stages = len(made.network.filters)
    assert len(output.deep) == made.network.heads
    for level, deep in enumerate(output.deep, start=1):
        assert deep.shape == (2, classes, *sizes[level])
    assert list(output.features) == [
        *(f"encoder{i}" for i in range(stages)),
        *(f"decoder{i}" for i in reversed(range(stages - 1))),
    ]
    for feature, tensor in output.features.items():
        stage = int(feature[-1])
        assert tensor.shape == (2, made.network.filters[stage], *sizes[stage])
    assert all(tensor.isfinite().all() for tensor in (output.logits, *output.deep))
    network.eval()
    with torch.no_grad():
        logits = network(image(channels))
    assert type(logits) is Tensor
    assert logits.shape == output.logits.shape


def test_features_are_what_heads_and_classifier_see(plan: Build) -> None:
    network = planned_unet(plan("anisotropic")).train()
    output = network(image())
    assert torch.equal(network.classifier(output.features["decoder0"]), output.logits)
    assert torch.equal(network.heads[0](output.features["decoder1"]), output.deep[0])
    assert torch.equal(network.heads[1](output.features["decoder2"]), output.deep[1])


def test_training_and_evaluation_give_the_same_logits(plan: Build) -> None:
    network = planned_unet(plan())
    training = network.train()(image())
    evaluation = network.eval()(image())
    assert torch.equal(training.logits, evaluation)
    named = network.outputs(image())
    assert torch.equal(named.logits, evaluation)
    assert torch.equal(named.features["decoder0"], training.features["decoder0"])


def test_every_parameter_learns(plan: Build) -> None:
    network = planned_unet(plan("anisotropic")).train()
    output = network(image())
    sum((tensor**2).mean() for tensor in (output.logits, *output.deep)).backward()
    without = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # an instance norm takes the mean of what a convolution adds, so that biases before one learn nothing
    assert not [name for name in without if not name.endswith("conv.bias")]


def test_features_carry_gradients(plan: Build) -> None:
    network = planned_unet(plan()).train()
    network(image()).features["decoder0"].mean().backward()
    assert network.encoders[0].conv1.conv.weight.grad.any()


def test_samples_do_not_see_each_other(plan: Build) -> None:
    network = planned_unet(plan()).train()
    together = network(image(samples=3)).logits
    alone = torch.cat([network(image(samples=3)[i : i + 1]).logits for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("name", ["anisotropic", "two stages"])
def test_scripted_equals_eager(plan: Build, name: str) -> None:
    network = planned_unet(plan(name)).eval()
    scripted = torch.jit.script(network)
    with torch.no_grad(), torch.jit.optimized_execution(False):  # compiling its optimised form takes seconds
        assert torch.equal(scripted(image()), network(image()))
        larger = image(shape=(32, 16, 8), samples=1)
        assert torch.equal(scripted(larger), network(larger))


def test_other_sizes_than_the_patch(plan: Build) -> None:
    network = planned_unet(plan()).eval()
    with torch.no_grad():
        assert network(image(shape=(24, 12, 20), samples=1)).shape == (1, 2, 24, 12, 20)


# ---- seeds


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 100))
def test_weights_are_a_function_of_the_seed(small_plan: Build, seed: int, state: int) -> None:
    torch.manual_seed(state)
    one = planned_unet(small_plan(), seed)
    torch.rand(3)
    assert equal(one, planned_unet(small_plan(), seed))
    assert not equal(one, planned_unet(small_plan(), seed + 1))


def test_the_global_random_state_stays_as_it_was(small_plan: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.manual_seed seeds the GPUs' generators too, which fork_rng(devices=[]) does not restore
    monkeypatch.setattr(torch, "manual_seed", lambda _: pytest.fail("seeds every device"))
    before = torch.get_rng_state()
    planned_unet(small_plan(), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_is_put_on_a_device_has_the_same_weights(small_plan: Build) -> None:
    one, other = planned_unet(small_plan(), 5), planned_unet(small_plan(), 5, "cpu")
    assert equal(one, other)
    weight = other.encoders[0].conv1.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert torch.allclose(one.eval()(image()), other.eval()(image()), atol=1e-4)


def test_weights_are_scaled_for_leaky_rectifiers(small_plan: Build) -> None:
    """He et al. 2015: a variance of 2 / ((1 + a^2) fan_in); biases begin at 0."""
    network = planned_unet(small_plan(network={"filters": (16, 32)}))
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            fan_in = module.weight[0].numel()
            if module.weight.numel() > 1000:
                assert module.weight.var().item() == pytest.approx(2 / (1.0001 * fan_in), rel=0.15)
            assert module.bias is None or not module.bias.any()


def test_the_module_can_be_built_without_a_plan() -> None:
    network = UNet(1, 3, (4, 8), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3), (3, 3, 3))).eval()
    with torch.no_grad():
        assert network(image()).shape == (2, 3, 16, 8, 8)


def test_bf16_autocast(plan: Build) -> None:
    network = planned_unet(plan()).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(image())
    assert output.logits.dtype == torch.bfloat16
    expected = network(image()).logits
    assert (output.logits.float() - expected).norm() < 0.03 * expected.norm()
