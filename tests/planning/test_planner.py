from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import Case
from medseg.data.cohort import Cohort, load_cohort
from medseg.errors import InputError
from medseg.plan import Plan, Region, load_plan, save_plan
from medseg.planning import Sizes, make_plan, plan_cohort
from medseg.planning.fingerprint import Fingerprint, Intensities, fingerprint
from medseg.planning.memory import TrainingMemory
from medseg.planning.mirroring import mirror_axes
from medseg.planning.sizes import chosen_memory, parse_memory
from medseg.planning.spacing import target_spacing
from medseg.planning.topology import Topology, patch_and_topology

COHORT = Cohort("set", ("MRI",), {0: "background", 1: "organ"}, (), (), (), ())
HALVE, KEEP = (2, 2, 2), (1, 1, 1)
ALL, IN_PLANE = (3, 3, 3), (3, 3, 1)


def found(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Fingerprint:
    return Fingerprint(spacing, shape, (None,))


def test_isotropic_volumes_are_halved_along_all_axes() -> None:
    patch, strides, kernels = patch_and_topology((64, 64, 64), (1, 1, 1), 64**3, 4)
    assert patch == (64, 64, 64)
    assert strides == (KEEP, HALVE, HALVE, HALVE)
    assert kernels == (ALL,) * 4


def test_stages_end_where_four_voxels_are_left() -> None:
    patch, strides, _ = patch_and_topology((32, 32, 32), (1, 1, 1), 10**6, 8)
    assert patch == (32, 32, 32)
    assert strides == (KEEP, HALVE, HALVE, HALVE)  # 32, 16, 8, 4


def test_thick_slices_wait_until_the_plane_is_as_coarse() -> None:
    """1x1x5 mm: in-plane 1, 2, 4 mm; at 4 mm the slices are less than twice as coarse and join."""
    patch, strides, kernels = patch_and_topology((128, 128, 24), (1, 1, 5), 10**6, 6)
    assert strides == (KEEP, (2, 2, 1), (2, 2, 1), HALVE, HALVE, (2, 2, 1))
    assert kernels == (IN_PLANE, IN_PLANE, ALL, ALL, ALL, ALL)
    assert patch == (128, 128, 24)  # 24 slices are halved to 12 and 6; 3 would be too few


def test_an_axis_may_be_any_of_the_three() -> None:
    _, strides, kernels = patch_and_topology((24, 128, 128), (5, 1, 1), 10**6, 4)
    assert strides == (KEEP, (1, 2, 2), (1, 2, 2), HALVE)
    assert kernels == ((1, 3, 3), (1, 3, 3), ALL, ALL)


def test_slices_twice_as_thick_are_the_boundary() -> None:
    assert patch_and_topology((32, 32, 32), (1, 1, 1.99), 10**6, 2)[1][1] == HALVE
    assert patch_and_topology((32, 32, 32), (1, 1, 2), 10**6, 2)[1][1] == (2, 2, 1)


def test_a_short_axis_does_not_stop_convolutions_along_the_others() -> None:
    """Six slices cannot be halved and stay fine: they are no measure of how coarse the others may become."""
    _, strides, kernels = patch_and_topology((64, 64, 6), (1, 1, 1), 10**6, 4)
    assert strides == (KEEP, (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert kernels == (ALL,) * 4


def test_one_thin_slice_is_no_measure_of_the_plane() -> None:
    patch, strides, kernels = patch_and_topology((128, 96, 1), (0.8, 0.8, 0.1), 10**6, 4)
    assert patch == (128, 96, 1)
    assert strides == (KEEP, (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert all(kernel[:2] == (3, 3) for kernel in kernels)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (7, 7, 7), (1, 7, 1)])
def test_volumes_of_a_few_voxels_have_two_stages(shape: tuple[int, int, int]) -> None:
    patch, strides, kernels = patch_and_topology(shape, (1, 1, 1), 131_072, 4)
    assert patch == shape
    assert strides == (KEEP, KEEP)
    assert kernels == (ALL, ALL)


def test_patches_shrink_in_proportion_to_the_volume() -> None:
    """262,144 of 16.8 million voxels: a quarter of each axis."""
    patch, _, _ = patch_and_topology((512, 256, 128), (1, 1, 1), 128 * 64 * 32, 4)
    assert patch == (128, 64, 32)


def test_an_axis_longer_than_a_patch_may_be() -> None:
    patch, _, _ = patch_and_topology((100_000, 2, 2), (1, 1, 1), 10**6, 4)
    assert patch == (4096, 2, 2)


sizes = st.floats(0, 3).map(lambda exponent: round(10**exponent))
lengths = st.one_of(st.just(1.0), st.floats(-1, 1).map(lambda exponent: round(10**exponent, 3)))


@given(
    shape=st.tuples(sizes, sizes, sizes),
    spacing=st.tuples(lengths, lengths, lengths),
    voxels=st.sampled_from([64, 4096, 32_768, 131_072, 884_736]),
    stages=st.integers(1, 8),
)
def test_any_volume_has_a_plan(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], voxels: int, stages: int
) -> None:
    plan = make_plan(COHORT, found(shape, spacing), Sizes(patch_voxels=voxels, max_stages=stages))
    divisor = np.array(plan.network.divisor())  # Plan itself refuses a patch that is no multiple of it
    patch = np.array(plan.patch_size)
    assert len(plan.network.filters) <= max(stages, 2)
    # within the budget, unless one voxel of the coarsest map an axis is all that is left
    assert patch.prod() <= voxels or (patch <= divisor).all()
    # never larger than the volume needs
    assert (patch < np.array(shape) + divisor).all()
    assert 2 <= plan.batch_size <= 16
    # what the smallest map holds: four voxels along an axis that was halved
    assert (patch // divisor >= np.where(divisor > 1, 4, 1)).all() or patch.prod() <= voxels
    kernels = np.array(plan.network.kernels)
    assert (np.diff(kernels, axis=0) >= 0).all()  # once begun, convolutions along an axis go on
    strides = np.array(plan.network.strides)
    assert (kernels[:-1][strides[1:] == 2] == 3).all()  # only an axis that is convolved is halved


@given(st.tuples(sizes, sizes, sizes), st.tuples(lengths, lengths, lengths), st.permutations(range(3)))
def test_the_topology_does_not_know_the_names_of_the_axes(
    shape: tuple[int, ...], spacing: tuple[float, ...], order: list[int]
) -> None:
    """Except for ties: equal axes may give way in either order, so that patches are compared where there are none."""
    plain = patch_and_topology(shape, spacing, 10**12, 5)
    turned = patch_and_topology([shape[i] for i in order], [spacing[i] for i in order], 10**12, 5)
    assert turned[0] == tuple(plain[0][i] for i in order)
    for there, here in zip(turned[1:], plain[1:], strict=True):
        assert there == tuple(tuple(stage[i] for i in order) for stage in here)


def test_sizes_do_what_they_say() -> None:
    sizes = Sizes(base_filters=8, max_filters=20, max_stages=3, residual=False, heads=5, batch_voxels=200_000)
    plan = make_plan(COHORT, found((40, 40, 40)), sizes)
    assert plan.network.filters == (8, 16, 20)
    assert plan.network.residual is False
    assert plan.network.heads == 1  # of three stages
    assert plan.batch_size == round(200_000 / 40**3)
    assert make_plan(COHORT, found((4, 4, 4))).batch_size == 16
    assert make_plan(COHORT, found((50, 50, 50)), Sizes(batch_voxels=1)).batch_size == 2


def test_ignore_is_no_output() -> None:
    cohort = replace(COHORT, classes={0: "background", 1: "organ", 2: "ignore", 3: "tumour"})
    assert make_plan(cohort, found((16, 16, 16))).classes == {0: "background", 1: "organ", 3: "tumour"}


def test_channels_are_normalised_as_their_statistics_say() -> None:
    cohort = replace(COHORT, channels=("CT", "MRI", "PET"))
    ct, pet = Intensities(-100.12345678, 200, 50, 60), Intensities(1.23456789e-5, 2e-3, 1e-4, 2e-6)
    plan = make_plan(cohort, Fingerprint((1.0, 1.0, 1.0), (16, 16, 16), (ct, None, pet)))
    assert [channel.name for channel in plan.channels] == ["CT", "MRI", "PET"]
    assert [channel.normalisation for channel in plan.channels] == ["clip_zscore", "zscore", "clip_zscore"]
    assert plan.channels[0].scale == (-100.123, 200, 50, 60)
    assert plan.channels[2].scale == (1.23457e-5, 2e-3, 1e-4, 2e-6)  # small units keep their digits


def test_a_given_plan_is_used_as_it_is(small_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = small_plan(name="other")
    save_plan(plan, tmp_path / "plan.yaml")
    assert plan_cohort(COHORT, tmp_path / "plan.yaml") == plan
    ignoring = replace(COHORT, classes={**COHORT.classes, 2: "ignore"})
    assert plan_cohort(ignoring, str(tmp_path / "plan.yaml")) == plan


@pytest.mark.parametrize(
    "cohort",
    [
        replace(COHORT, channels=("CT", "PET")),
        replace(COHORT, classes={0: "background", 1: "tumour"}),
        replace(COHORT, classes={0: "background", 1: "organ", 2: "tumour"}),
    ],
)
def test_a_plan_made_for_another_cohort_is_refused(
    small_plan: Callable[..., Plan], tmp_path: Path, cohort: Cohort
) -> None:
    save_plan(small_plan(), tmp_path / "plan.yaml")
    with pytest.raises(InputError, match=r"plan.yaml: made for 1 channels and classes .* leave the plan out to plan"):
        plan_cohort(cohort, tmp_path / "plan.yaml")


def test_a_plan_of_the_channels_in_another_order_is_refused(small_plan: Callable[..., Plan], tmp_path: Path) -> None:
    channels = [{"name": name, "normalisation": "zscore"} for name in ("CT", "PET")]
    save_plan(small_plan(channels=channels), tmp_path / "plan.yaml")
    plan_cohort(replace(COHORT, channels=("CT", "PET")), tmp_path / "plan.yaml")
    with pytest.raises(InputError, match=r"plan.yaml: its channels are CT, PET in this order, but .* are PET, CT; "):
        plan_cohort(replace(COHORT, channels=("PET", "CT")), tmp_path / "plan.yaml")


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (Sizes(max_stages=9, patch_voxels=10**12), None),
        (Sizes(base_filters=0), "network.filters.0|filters.0: Input should be greater than or equal to 1"),
        (Sizes(heads=-1), "heads: Input should be greater than or equal to 0"),
        (Sizes(max_filters=10**6, base_filters=10**5), "Input should be less than or equal to 4096"),
    ],
)
def test_impossible_sizes_are_refused(tiny_cohort: Path, sizes: Sizes, text: str | None) -> None:
    cohort = load_cohort(tiny_cohort)
    if text is None:  # a small volume runs out of voxels first
        assert len(plan_cohort(cohort, sizes=sizes).network.filters) <= 8
        return
    with pytest.raises(InputError, match=rf"no valid plan with Sizes\(.*: .*({text})"):
        plan_cohort(cohort, sizes=sizes)


def budget_plan(folder: Path, budget: int, memory: str | None = None) -> Plan:
    return plan_cohort(load_cohort(folder, labelled=budget), memory=memory)


def golden(plan: Plan, patch: tuple[int, ...], batch: int, filters: tuple[int, ...], strides: list[object]) -> None:
    assert plan.patch_size == patch
    assert plan.batch_size == batch
    assert plan.network.filters == filters
    assert plan.network.strides == (KEEP, *strides)


SMALL, LARGE = (16, 32, 64, 128), (32, 64, 128, 256, 320, 320)


def test_hippocampus(real_data: Path) -> None:
    plan = budget_plan(real_data / "hippocampus", 9)
    golden(plan, (40, 56, 40), 2, SMALL, [HALVE] * 3)
    assert plan.spacing == (1, 1, 1)
    assert [channel.normalisation for channel in plan.channels] == ["zscore"]
    assert plan.class_names == ("background", "anterior", "posterior")
    assert plan.mirror_axes == plan.inference.mirror_axes == ()
    # nnU-Net's patch and stages; its batch of 7 is of 208 cases, validation included
    golden(budget_plan(real_data / "hippocampus", 9, "8GB"), (40, 56, 40), 6, LARGE[:4], [HALVE] * 3)


def test_left_atrium(real_data: Path) -> None:
    plan = budget_plan(real_data / "left_atrium", 8)
    golden(plan, (72, 56, 32), 2, SMALL, [HALVE] * 3)
    assert plan.spacing == (1.25, 1.25, 1.25)
    assert plan.channels[0].normalisation == "zscore"
    assert plan.mirror_axes == ()
    plan = budget_plan(real_data / "left_atrium", 8, "8GB")
    golden(plan, (96, 80, 48), 3, LARGE[:5], [HALVE] * 3 + [(2, 2, 1)])


def test_sarcoma(real_data: Path) -> None:
    plan = budget_plan(real_data / "sarcoma_ct_pet", 8)
    golden(plan, (56, 56, 40), 2, SMALL, [HALVE] * 3)
    assert plan.spacing == (2, 2, 3.27)
    assert plan.network.kernels == (ALL,) * 4  # slices less than twice as thick
    assert [channel.name for channel in plan.channels] == ["CT", "PET"]
    ct, pet = (channel.scale for channel in plan.channels)
    assert ct == pytest.approx((-97, 80, 22.7076, 29.2224), abs=1)  # soft tissue, in HU
    assert pet == pytest.approx((12, 1468, 261.985, 219.552), rel=0.02)  # SUV x 100
    assert plan.channels != budget_plan(real_data / "sarcoma_ct_pet", 4).channels  # of other labelled cases
    assert plan.mirror_axes == plan.inference.mirror_axes == (0,)
    golden(budget_plan(real_data / "sarcoma_ct_pet", 8, "8GB"), (96, 96, 64), 2, LARGE[:5], [HALVE] * 3 + [(2, 2, 1)])


def test_liver(real_data: Path) -> None:
    folder = real_data / "liver_ct"
    case = Case("liver", (folder / "image.nii.gz",), folder / "label.nii.gz")
    cohort = Cohort("liver_ct", ("CT",), {0: "background", 1: "liver"}, (case,), (), (), ())
    found = fingerprint(cohort)
    assert found.shares[1] == pytest.approx(0.06, abs=0.03)
    plan = make_plan(cohort, found)
    golden(plan, (104, 104, 12), 2, SMALL, [(2, 2, 1), HALVE, (2, 2, 1)])
    assert plan.spacing == (0.72656, 0.72656, 2)
    assert plan.network.kernels == (IN_PLANE, ALL, ALL, ALL)
    assert plan.channels[0].scale == pytest.approx((-7, 228, 141.4, 32.6), abs=0.5)
    assert plan.mirror_axes == ()
    golden(make_plan(cohort, found, memory=8e9), (224, 256, 32), 2, LARGE, [(2, 2, 1)] + [HALVE] * 3 + [(2, 2, 1)])


def test_a_memory_is_filled_and_not_exceeded() -> None:
    cohort, volume = replace(COHORT, channels=("MRI",)), replace(found((300, 300, 200)), volumes=50)
    plans = [make_plan(cohort, volume, memory=memory) for memory in (2e9, 8e9, 32e9)]
    voxels = [math.prod(plan.patch_size) for plan in plans]
    assert voxels == sorted(voxels)
    for plan, memory in zip(plans, (2e9, 8e9, 32e9), strict=True):
        needs = TrainingMemory(Sizes().filled(memory), 1, 2)
        topology = Topology(plan.patch_size, plan.network.strides, plan.network.kernels)
        assert 0.6 * memory < needs.of(topology, plan.batch_size) < 0.85 * memory
        assert plan.batch_size >= 2
    few = make_plan(cohort, replace(found((64, 64, 64)), volumes=100), memory=32e9)
    assert few.batch_size == 5  # a twentieth of all voxels
    with pytest.raises(InputError, match=r"0.1 GB hold no batch of 2 patches of .* with 256 filters"):
        make_plan(cohort, volume, Sizes(base_filters=256), memory=1e8)


def test_every_number_has_its_reason(tmp_path: Path) -> None:
    regions = (Region(name="whole", values=(1,), painted=1),)
    cohort = replace(COHORT, channels=("MRI", "CT"), regions=regions)
    thick = Fingerprint((1.0, 1.0, 5.0), (300, 300, 20), (None, Intensities(0, 9, 5, 1)), None, 2, 10, {1: 1e-4})
    plan = make_plan(cohort, thick)
    assert plan.regions == regions
    assert plan.foreground == 0.667
    for field in ("spacing", "patch_size", "batch_size", "foreground", "mirror_axes", "regions", "classes"):
        assert plan.reasons[field]
    assert "a volume outside of them is flagged" in plan.reasons["seen"]
    for part in ("network", "inference"):
        for field in type(getattr(plan, part)).model_fields:
            assert plan.reasons[f"{part}.{field}"]
    assert {"channels.0", "channels.1"} <= set(plan.reasons)
    assert "foot to head the 10th percentile" in plan.reasons["spacing"]
    assert "1 along an axis twice as coarse" in plan.reasons["network.kernels"]
    save_plan(plan, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == plan
    lines = (tmp_path / "plan.yaml").read_text().splitlines()
    assert sum(line.startswith("  spacing: ") for line in lines) == 1  # one a line


def test_the_spacing_of_stacks_of_slices() -> None:
    """The 10th percentile along slices that lie more than three times as far apart, and are few."""
    shapes = np.tile([512, 512, 40], (11, 1))
    spacings = np.column_stack([np.full(11, 0.8), np.full(11, 0.7), np.arange(2.0, 13.0)])
    target, axis = target_spacing(spacings, shapes)
    assert target.tolist() == [0.8, 0.7, 3.0]  # of 2 to 12; the median is 7
    assert axis == 2
    turned, axis = target_spacing(spacings[:, [2, 0, 1]], shapes[:, [2, 0, 1]])
    assert turned.tolist() == [3.0, 0.8, 0.7]
    assert axis == 0
    many = np.tile([512, 512, 200], (11, 1))  # no stack of slices: a long volume
    assert target_spacing(spacings, many)[0].tolist() == [0.8, 0.7, 7.0]
    nearly = spacings * (1, 1, 0.3)  # a median of 2.1 mm
    assert target_spacing(nearly, shapes)[1] is None
    fine = spacings.copy()
    fine[:3, 2] = 0.1  # it stays the coarsest axis
    assert target_spacing(fine, shapes)[0].tolist() == [0.8, 0.7, 0.8]


@pytest.mark.parametrize(
    ("dataset", "classes", "axes"),
    [
        ("set", ["tumour"], (0,)),
        ("Task03", ["Prostate", "bladder"], (0,)),
        ("brats", ["whole tumor", "edema", "necrosisCore"], (0,)),
        ("kidneys", ["kidney left", "tumour"], ()),
        ("kidneys", ["kidney_R", "kidney_L"], ()),
        ("lungs", ["leftLung"], ()),
        ("set", ["liver", "tumour"], ()),
        ("Task08_HepaticVessel", ["tumour"], ()),
        ("set", ["class 1"], ()),
        ("hippocampus", ["anterior", "posterior"], ()),
        ("brightness", ["lesion"], (0,)),  # an r in a word is no side
    ],
)
def test_mirroring(dataset: str, classes: list[str], axes: tuple[int, ...]) -> None:
    found, why = mirror_axes(dataset, classes)
    assert found == axes
    assert why


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8e9), ("500 MB", 5e8), ("1.5gib", 1.5 * 2**30), ("8000000000", 8e9), (2e9, 2e9), (None, None)],
)
def test_sizes_of_memory(text: str | float | None, size: float | None) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["8 apples", "-8GB", "GB", "", "8G B", "50MB", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match=f"--memory {text}: "):
        parse_memory(text)


def test_the_memory_that_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_memory(None, "cpu") is None
    assert chosen_memory("2GB", "cpu") == 2e9
    for has, planned in ((80e9, 8e9), (6e9, 6e9)):
        properties = SimpleNamespace(total_memory=has)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _, found=properties: found)
        assert chosen_memory(None, "cuda:0") == planned
        assert chosen_memory("2GB", "cuda") == 2e9
