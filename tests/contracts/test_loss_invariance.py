"""Contract 6: what must not matter does not; function = module; torch.compile in one graph."""

from __future__ import annotations

import inspect

import pytest
import torch
from loss_cases import BUILDERS, CASES, Case, Inputs, apart_from, draw, value, value_and_gradient
from monai.data import MetaTensor
from torch import Tensor
from torch.testing import assert_close

from medseg import losses
from medseg.report.configs import short_name

ORDERED_CLASSES = {
    "DiceLoss(include_background=False)": "class 0 is left out",
    "DiceLoss(class_weight=[1.0, 2.0, 3.0])": "weights go with the classes: test_class_weight_is_by_class",
    "CrossEntropyLoss(class_weight=[1.0, 2.0, 3.0])": "weights go with the classes",
    "CrossEntropyLoss(activation=sigmoid,class_weight=[1.0, 2.0, 3.0])": "weights go with the classes",
}
NOT_ONE_GRAPH = {
    "PointSampledLoss": "draws its points with a generator",
    "SampleRoutedLoss": "looks at the values to choose the composite",
}
SHAPE = (16, 17, 18)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("case", [c for c in apart_from(ORDERED_CLASSES) if c.classes > 1], ids=str)
def test_order_of_classes(case: Case, soft: bool) -> None:
    inputs = draw(case, SHAPE, soft=soft)
    order = torch.tensor([2, 0, 1])
    permuted = Inputs(inputs.x[:, order], inputs.other)
    if inputs.other is not None:
        hard = inputs.other.shape[1] == 1
        permuted.other = order.argsort()[inputs.other] if hard else inputs.other[:, order]
    first, gradient = value_and_gradient(case.build(), inputs)
    second, again = value_and_gradient(case.build(), permuted)
    assert_close(first, second)
    assert_close(gradient[:, order], again)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_order_of_samples(case: Case) -> None:
    inputs = draw(case, SHAPE, batch=3)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    first, gradient = value_and_gradient(case.build(), inputs)
    second, again = value_and_gradient(case.build(), inputs.each(lambda x: x.flip(0)))
    assert_close(first, second)
    assert_close(gradient.flip(0), again)


JOINT = {
    "TverskyLoss(batch=True)": "adds the samples' sums up first",
    "LovaszLoss(per_image=False)": "ranks the voxels of the batch together",
    "PointSampledLoss": "divides by the masks of all ranks: tests/losses/test_point_sampled.py",
}


@pytest.mark.parametrize("case", apart_from(JOINT), ids=str)
def test_processes_equal_the_joint_batch(case: Case) -> None:
    """The mean over processes of equal batches is the loss of the joint batch."""
    inputs = draw(case, SHAPE, batch=4)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    inputs.mask[0, :, 3:] = 0
    joint = value(case.build(), inputs)
    parts = [value(case.build(), inputs.each(lambda x, p=part: x[p])) for part in (slice(0, 2), slice(2, 4))]
    assert_close(joint, torch.stack(parts).mean())


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values, stored otherwise."""
    every_other = torch.stack([x, torch.zeros_like(x)], -1)[..., 0]
    turned = x.transpose(2, 4).contiguous().transpose(2, 4)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    return {"strided": every_other, "transposed": turned, "channels last": last, "meta": MetaTensor(x)}


@pytest.mark.parametrize("layout", ["strided", "transposed", "channels last", "meta"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_layout(case: Case, layout: str) -> None:
    inputs = draw(case, SHAPE)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    expected = value_and_gradient(case.build(), inputs)
    found = value_and_gradient(case.build(), inputs.each(lambda x: layouts(x)[layout]))
    assert type(found[0]) is Tensor
    assert_close(found[0], expected[0])
    assert_close(torch.Tensor(found[1]), torch.Tensor(expected[1]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs_are_not_changed(case: Case) -> None:
    inputs = draw(case, SHAPE, soft=True)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    before = inputs.each(torch.clone)
    value_and_gradient(case.build(), inputs)
    for now, then in zip((inputs.x, inputs.other, inputs.mask), (before.x, before.other, before.mask), strict=True):
        assert now is then is None or torch.equal(now, then)


@pytest.mark.parametrize("case", apart_from(dict.fromkeys(BUILDERS, "is a module only")), ids=str)
def test_function_is_module(case: Case) -> None:
    function, module = getattr(losses, f"{short_name(case.name)}_loss"), case.build()
    inputs = draw(case, SHAPE)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    arguments = [inputs.x] if inputs.other is None else [inputs.x, inputs.other]
    assert_close(function(*arguments, inputs.mask, **case.options), value(module, inputs))
    own, given = (inspect.signature(x).parameters for x in (function, type(module)))
    for name, parameter in given.items():
        assert own[name].default == parameter.default, f"{name} has another default in the function"
        assert hasattr(module, name), f"{name} is not an attribute"


def test_every_loss_has_a_function() -> None:
    classes = {name for name in losses.__all__ if name.endswith("Loss")} - set(BUILDERS)
    assert {name for name in losses.__all__ if name.endswith("_loss")} == {
        f"{short_name(name)}_loss" for name in classes
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [c for c in apart_from(NOT_ONE_GRAPH) if not c.options], ids=str)
def test_compiles_in_one_graph(case: Case) -> None:
    torch.compiler.reset()
    inputs = draw(case, SHAPE)
    inputs.mask = torch.rand_like(inputs.x[:, :1])
    loss = case.build()
    expected = value_and_gradient(loss, inputs)
    found = value_and_gradient(torch.compile(loss, fullgraph=True, backend="aot_eager"), inputs)
    assert_close(found, expected)


def test_class_weight_is_by_class() -> None:
    case = Case("DiceLoss")
    inputs = draw(case)
    one = [value(case.build(class_weight=torch.eye(3)[k]), inputs) for k in range(3)]
    assert_close(value(case.build(class_weight=[1.0, 2.0, 3.0]), inputs), (one[0] + 2 * one[1] + 3 * one[2]) / 6)


def test_exemptions_are_of_cases() -> None:
    names = {case.name for case in CASES} | {str(case) for case in CASES}
    for name, reason in {**ORDERED_CLASSES, **NOT_ONE_GRAPH, **JOINT}.items():
        assert name in names, f"{name} is exempt but not exported"
        assert len(reason) > 10
