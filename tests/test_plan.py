from __future__ import annotations

import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg.errors import InputError
from medseg.plan import ChannelPlan, InferencePlan, Plan, load_plan, save_plan

CT = {"name": "CT", "normalisation": "clip_zscore", "lower": -100.0, "upper": 300.0, "mean": 40.0, "std": 80.0}
Build = Callable[..., Plan]
Load = Callable[..., Plan]


@pytest.fixture
def raw(small_plan: Build) -> dict[str, Any]:
    """A valid plan as it stands in a file."""
    return small_plan().model_dump(mode="json")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a plan from a file of the given text, bytes or mapping."""

    def load(content: str | bytes | dict[str, Any]) -> Plan:
        if isinstance(content, dict):
            content = yaml.safe_dump(content)
        path = tmp_path / "plan.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_plan(path)

    return load


def refusal(load: Load, content: Any) -> str:
    """What `load_plan` says: always one line that begins with the file."""
    with pytest.raises(InputError) as refused:
        load(content)
    message = str(refused.value)
    assert "plan.yaml: " in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


def test_a_plan_reads_back_equal(small_plan: Build, tmp_path: Path) -> None:
    plan = small_plan(
        name="CT: liver # and more",
        channels=(ChannelPlan(**CT), ChannelPlan(name="PET, SUV", normalisation="zscore")),
        classes={0: "background", 4: "leber: groß", 1: "null"},
        spacing=(0.7324, 1e-3, 999.0),
        inference=InferencePlan(overlap=0.25, batch=7),
    )
    save_plan(plan, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == plan
    assert load_plan(str(tmp_path / "plan.yaml")) == plan


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=200).filter(lambda text: "\x00" not in text),
    classes=st.dictionaries(st.integers(1, 2**15 - 1), st.text(max_size=20), min_size=1, max_size=5),
    spacing=st.tuples(*[st.floats(1e-3, 999)] * 3),
    values=st.tuples(*[st.floats(-1e30, 1e30)] * 3),
)
def test_any_valid_plan_reads_back_equal(
    small_plan: Build, tmp_path: Path, name: str, classes: dict[int, str], spacing: Any, values: Any
) -> None:
    lower, mean, upper = sorted(values)
    channel = CT | {"name": name, "lower": lower, "upper": upper, "mean": mean}
    plan = small_plan(name=name, channels=(channel,), classes=classes | {0: ""}, spacing=spacing)
    save_plan(plan, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == plan


def test_outputs_are_named_in_the_order_of_their_values(small_plan: Build) -> None:
    plan = small_plan(classes={7: "seven", 0: "nothing", 3: "three"})
    assert plan.label_values == (0, 3, 7)
    assert plan.class_names == ("nothing", "three", "seven")


def test_the_divisor_is_the_product_of_the_strides(small_plan: Build) -> None:
    network = {"filters": (4,) * 3, "strides": ((1, 1, 1), (2, 2, 1), (2, 3, 2)), "kernels": ((3, 3, 3),) * 3}
    plan = small_plan(network=network, patch_size=(8, 12, 6))
    assert plan.network.divisor() == (4, 6, 2)


def test_a_plan_cannot_be_changed(small_plan: Build) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        small_plan().name = "other"


def test_the_scale_of_a_channel() -> None:
    assert ChannelPlan(**CT).scale == (-100, 300, 40, 80)
    with pytest.raises(ValueError, match="channel MRI is normalised by zscore and has no fixed scale"):
        _ = ChannelPlan(name="MRI", normalisation="zscore").scale


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "version: Input should be 1"),
        ({"name": None}, "name: Input should be a valid string"),
        ({"name": "x" * 201}, "name: String should have at most 200 characters"),
        ({"channels": []}, "channels: Tuple should have at least 1 item"),
        ({"channels": [CT] * 65}, "channels: Tuple should have at most 64 items"),
        ({"channels": [CT | {"normalisation": "minmax"}]}, "channels.0.normalisation: Input should be 'zscore' or"),
        ({"channels": [CT, CT | {"upper": None}]}, "channels.1: clip_zscore needs lower, upper, mean and std"),
        ({"channels": [CT | {"lower": 301.0}]}, "channels.0: lower is above upper: 301.0 and 300.0"),
        ({"channels": [CT | {"std": 0}]}, "channels.0.std: Input should be greater than 0"),
        ({"channels": [CT | {"mean": float("nan")}]}, "channels.0.mean: Input should be a finite number"),
        ({"channels": [CT | {"std": float("inf")}]}, "channels.0.std: Input should be a finite number"),
        ({"classes": {0: "background"}}, "classes: Dictionary should have at least 2 items"),
        ({"classes": {1: "a", 2: "b"}}, r"classes must contain 0 \(background\), found \[1, 2\]"),
        ({"classes": {0: "a", -1: "b"}}, r"classes.-1.\[key\]: Input should be greater than or equal to 0"),
        ({"classes": {0: "a", 10**30: "b"}}, r"classes.10+.\[key\]: Input should be less than 32768"),
        ({"classes": {0: "a", "liver": 1}}, r"classes.liver.\[key\]: Input should be a valid integer"),
        ({"classes": dict.fromkeys(range(1025), "a")}, "classes: Dictionary should have at most 1024 items"),
        ({"spacing": [1, 1]}, "spacing.2: Field required"),
        ({"spacing": [0, 1, 1]}, "spacing.0: Input should be greater than or equal to 0.001"),
        ({"spacing": [1, 1e-300, 1]}, "spacing.1: Input should be greater than or equal to 0.001"),
        ({"spacing": [1, 1, 1000]}, "spacing.2: Input should be less than 1000"),
        ({"spacing": [1, float("nan"), 1]}, "spacing.1: Input should be a finite number"),
        ({"spacing": [1, "nan", 1]}, "spacing.1: Input should be a finite number"),
        (
            {"patch_size": [16, 15, 8]},
            r"patch_size \(16, 15, 8\) is not a multiple of the network's strides \(2, 2, 2\)",
        ),
        ({"patch_size": [0, 16, 16]}, "patch_size.0: Input should be greater than or equal to 1"),
        ({"patch_size": [10**9, 16, 16]}, "patch_size.0: Input should be less than or equal to 4096"),
        ({"patch_size": [16.5, 16, 16]}, "patch_size.0: Input should be a valid integer"),
        ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1"),
        ({"batch_size": 10**30}, "batch_size: Input should be less than or equal to 4096"),
        ({"foreground": 1.1}, "foreground: Input should be less than or equal to 1"),
        ({"mirror_axes": [3]}, "mirror_axes.0: Input should be 0, 1 or 2"),
        ({"reasons": {"spacing": 1}}, "reasons.spacing: Input should be a valid string"),
        ({"inference": {"overlap": 1}}, "inference.overlap: Input should be less than 1"),
        ({"inference": {"overlap": float("nan")}}, "inference.overlap: Input should be less than 1"),
        ({"inference": {"batch": -1}}, "inference.batch: Input should be greater than or equal to 1"),
        ({"inference": {"gaussian": True}}, "inference.gaussian: Extra inputs are not permitted"),
        ({"_target_": "os.system"}, "_target_: Extra inputs are not permitted"),
        ({"a\n\x1b[31mb": 1}, r"a  \[31mb: Extra inputs are not permitted"),
    ],
)
def test_what_a_plan_refuses(load: Load, raw: dict[str, Any], change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=f"plan.yaml: not a valid plan: (plan: )?{text}"):
        load(raw | change)
    refusal(load, raw | change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"filters": [4]},
            "filters, strides and kernels must .* one entry for each of 2 to 8 stages, found 1, 2 and 2",
        ),
        ({"filters": [4] * 9, "strides": [[1] * 3] * 9, "kernels": [[3] * 3] * 9}, "filters, .* found 9, 9 and 9"),
        ({"kernels": [[3, 3, 3]]}, "filters, .* one entry for each of 2 to 8 stages, found 2, 2 and 1"),
        ({"strides": [[2, 1, 1], [2, 2, 2]]}, r"the first stage has no stride, found \(2, 1, 1\)"),
        ({"strides": [[1, 1, 1], [2, 2, 64]]}, "network.strides.1.2: Input should be less than or equal to 31"),
        ({"kernels": [[3, 3, 3], [2, 3, 3]]}, "kernels must be odd"),
        ({"kernels": [[3, 3, 3], [4095, 3, 3]]}, "network.kernels.1.0: Input should be less than or equal to 31"),
        ({"heads": 1}, "2 stages have room for 0 deep-supervision heads, found 1"),
        ({"heads": -1}, "network.heads: Input should be greater than or equal to 0"),
        ({"filters": [4, 10**12]}, "network.filters.1: Input should be less than or equal to 4096"),
        ({"_target_": "os.system"}, "network._target_: Extra inputs are not permitted"),
    ],
)
def test_what_a_network_refuses(load: Load, raw: dict[str, Any], change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=f"plan.yaml: not a valid plan: (network: )?{text}"):
        load(raw | {"network": raw["network"] | change})


def test_every_field_is_needed_or_has_a_default(load: Load, raw: dict[str, Any]) -> None:
    optional = {"version", "inference", "regions", "seen", "postprocessing", "foreground", "mirror_axes", "reasons"}
    for field in raw:
        rest = {name: value for name, value in raw.items() if name != field}
        if field in optional:
            assert load(rest) == load(raw)
        else:
            assert f"{field}: Field required" in refusal(load, rest)


def test_postprocessing_and_what_was_seen_fit_the_plan(load: Load, raw: dict[str, Any]) -> None:
    cleaned = load(raw | {"postprocessing": {1: {"largest": True}}})
    assert cleaned.postprocessing[1].largest
    assert "which are no foreground classes" in refusal(load, raw | {"postprocessing": {0: {"largest": True}}})
    seen = {"spacing": [[1, 1, 1], [2, 2, 2]], "intensities": [None] * 9}
    assert "seen has 9 intensities for" in refusal(load, raw | {"seen": seen})


def test_regions_are_of_the_classes_and_painted_with_one_of_their_own(load: Load, raw: dict[str, Any]) -> None:
    raw |= {"classes": {0: "background", 1: "edge", 2: "core"}}
    region: dict[str, Any] = {"name": "whole", "values": [1, 2], "painted": 2}
    assert load(raw | {"regions": [region]}).outputs == 1
    for key, value, text in (
        ("values", [1, 3], "region whole holds [3], which are no foreground classes"),
        ("values", [0, 2], "region whole holds [0], which are no foreground classes"),
        ("painted", 7, "region whole is painted with 7, which is none of its values"),
    ):
        assert text in refusal(load, raw | {"regions": [region | {key: value}]})


def test_expressions_stay_strings(load: Load, raw: dict[str, Any], tmp_path: Path) -> None:
    evil = f"$open({str(tmp_path / 'made')!r}, 'w')"
    plan = load(raw | {"name": evil, "classes": {0: "_target_", 1: "%plan#name"}, "channels": [CT | {"name": "@x"}]})
    assert plan.name == evil
    assert plan.class_names == ("_target_", "%plan#name")
    assert plan.channels[0].name == "@x"
    assert not (tmp_path / "made").exists()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_by_another_name_runs_nothing(load: Load, tmp_path: Path) -> None:
    made = tmp_path / "made"
    pickle.loads(pickle.dumps(_Evil(made)))
    assert made.exists()  # it would work
    made.unlink()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert "not a " in refusal(load, pickle.dumps(_Evil(made), protocol))
    tagged = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{made}']]"
    assert "could not determine a constructor" in refusal(load, tagged)
    assert not made.exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- 1",
        "just words",
        "{",
        "a: *nowhere",
        "? [1, 2]\n: 3",
        "name: 2001-99-99",  # these three end in errors of PyYAML's constructors that are not its own
        "!!timestamp x",
        "!!bool 3",
        "name: " + "9" * 5000,
        "a: &a {b: *a}",
        b"\xff\xfe\x00",
        b"\x00",
        b"PK\x03\x04",
        "'two\\nlines': 1",
        "'\\e[31mred': 1",
        "[" * 20_000,
        "{a: " * 2_000,
        yaml.safe_dump({"x" * 100_000: 1}),
    ],
)
def test_files_that_are_no_plan(load: Load, content: str | bytes) -> None:
    assert "not a " in refusal(load, content)


def test_a_billion_laughs_are_not_laughed(load: Load) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    refusal(load, "\n".join([*lines, *(f"{field}: *a11" for field in Plan.model_fields)]))


def test_missing_plans_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"plan.yaml: no such plan; expected the plan.yaml that `medseg train` writes"):
        load_plan(tmp_path / "plan.yaml")
    with pytest.raises(InputError, match=r"not a readable YAML file"):
        load_plan(tmp_path)


def test_a_saved_plan_can_be_read_by_others(small_plan: Build, tmp_path: Path) -> None:
    save_plan(small_plan(), tmp_path / "plan.yaml")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "plan.yaml").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "plan.yaml"]
