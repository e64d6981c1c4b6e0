from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.data.cohort import load_cohort
from medseg.errors import InputError
from medseg.plan import SeenPlan
from medseg.planning import cohort_digest, fingerprint, plan_cohort
from medseg.planning.fingerprint import needs_statistics


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def cohort_of(
    folder: Path, images: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: list[str], **splits: object
) -> Path:
    for name, image in images.items():
        write(folder / "imagesTr" / f"{name}.nii.gz", image.astype(np.float32))
    for name, label in labels.items():
        write(folder / "labelsTr" / f"{name}.nii.gz", label.astype(np.uint8))
    listed = [
        {"image": f"imagesTr/{name}.nii.gz"} | ({"label": f"labelsTr/{name}.nii.gz"} if name in labels else {})
        for name in images
    ]
    dataset = {"modality": {"0": "CT"}, "labels": {str(i): name for i, name in enumerate(classes)}, "training": listed}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


@pytest.mark.parametrize("name", ["CT", "ct", "PET", "FDG-PET", "CT (portal venous)", "(CT)", "low_dose_CT", "PET/CT"])
def test_modalities_with_units(name: str) -> None:
    assert needs_statistics(name)


@pytest.mark.parametrize("name", ["MRI", "LGE MRI", "T1", "unknown", "", "contrast", "PD", "ADC", "scout", "petrous"])
def test_modalities_without_units(name: str) -> None:
    assert not needs_statistics(name)


def test_geometry_is_the_median_of_all_images(tmp_path: Path) -> None:
    """Shapes (in RAS+ order) times spacing over the median spacing, whatever the orientation of the files."""
    shapes = {"a": (10, 20, 30), "b": (12, 22, 32), "c": (5, 24, 34)}
    cohort_of(
        tmp_path,
        {name: np.zeros(shape) for name, shape in shapes.items()},
        {name: np.ones(shape) for name, shape in shapes.items() if name != "b"},
        ["background", "organ"],
        train=["a", "b"],
        validation=["c"],
    )
    # b: the file's axes are Z, X, Y with 2 mm, 1 mm, 1.5 mm
    turned = np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = -2, 1, 1.5, 1
    write(tmp_path / "imagesTr" / "b.nii.gz", np.zeros((32, 12, 22), np.float32), turned)
    spaced = np.diag([3, 1.5, 2, 1.0])
    write(tmp_path / "imagesTr" / "c.nii.gz", np.zeros(shapes["c"], np.float32), spaced)
    write(tmp_path / "labelsTr" / "c.nii.gz", np.ones(shapes["c"], np.uint8), spaced)
    found = fingerprint(load_cohort(tmp_path, modality="MRI"))
    assert found.spacing == (1, 1.5, 2)  # medians of 1, 1, 3; 1, 1.5, 1.5; 1, 2, 2
    assert found.shape == (12, 22, 32)  # medians of 10, 12, 15; 13.3, 22, 24; 15, 32, 34
    assert found.intensities == (None,)
    assert found.seen == SeenPlan(spacing=((1, 1, 1), (3, 1.5, 2)), intensities=(None,))


def test_float32_headers_give_round_spacings(tmp_path: Path) -> None:
    affine = np.diag([np.float32(0.99999994), 0.73242188, 1e-5, 1])
    cohort_of(tmp_path, {"a": np.zeros((4, 4, 4)), "b": np.zeros((4, 4, 4))}, {}, ["b", "o"])
    for name in "ab":
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", np.zeros((4, 4, 4), np.float32), affine)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((4, 4, 4), np.uint8), affine)
    listed = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in "ab"]
    labels = {"0": "b", "1": "o"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": labels, "training": listed}))
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a"], "validation": ["b"]}))
    found = fingerprint(load_cohort(tmp_path))
    assert found.spacing == (1.0, 0.73242, 1e-3)
    plan_cohort(load_cohort(tmp_path))  # is a valid plan


def test_intensities_are_those_of_the_budgets_foreground(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shape = (20, 20, 20)
    label = np.zeros(shape)
    label[5:15, 5:15, 5:15] = 1
    label[:2] = 2  # ignored
    images = {}
    for name, inside in {"a": 100, "b": 200, "far": 9e5, "val": 8e5}.items():
        images[name] = np.full(shape, -1000.0)
        images[name][label == 1] = random.normal(inside, 10, 1000)
        images[name][label == 2] = 7e6
    labels = dict.fromkeys(images, label)
    cohort_of(
        tmp_path,
        images,
        labels,
        ["background", "organ", "ignore"],
        train=["a", "b", "far"],
        validation=["val"],
        labelled={"2": ["a", "b"]},
    )
    (found,) = fingerprint(load_cohort(tmp_path, labelled=2)).intensities
    values = np.concatenate([images["a"][label == 1], images["b"][label == 1]]).astype(np.float32)
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx(np.percentile(values, [0.5, 99.5]))
    clipped = np.clip(values, found.lower, found.upper).astype(float)
    assert (found.mean, found.std) == pytest.approx((clipped.mean(), clipped.std()))


def test_each_case_counts_with_at_most_20000_voxels_drawn_by_the_seed(tmp_path: Path) -> None:
    images = {"large": np.full((40, 40, 40), 100.0), "small": np.full((20, 10, 50), 0.0), "val": np.zeros((2, 2, 2))}
    images["large"] += np.random.default_rng(0).normal(0, 1, (40, 40, 40))
    labels = {name: np.ones(image.shape) for name, image in images.items()}
    cohort = load_cohort(
        cohort_of(tmp_path, images, labels, ["background", "organ"], train=["large", "small"], validation=["val"])
    )
    (found,), (again,), (other,) = (fingerprint(cohort, seed).intensities for seed in (0, 0, 1))
    assert found == again
    assert found != other
    assert found is not None
    assert found.mean == pytest.approx(200 / 3, abs=0.1)  # 20,000 of 64,000 voxels and 10,000


def test_an_empty_label_stands_for_the_whole_volume(tmp_path: Path) -> None:
    images = {name: np.full((4, 4, 4), value) for name, value in {"a": 7.0, "val": 0.0}.items()}
    labels = {"a": np.zeros((4, 4, 4)), "val": np.ones((4, 4, 4))}
    cohort = load_cohort(cohort_of(tmp_path, images, labels, ["background", "organ"], train=["a"], validation=["val"]))
    (found,) = fingerprint(cohort).intensities
    assert found is not None
    assert (found.lower, found.upper, found.mean) == (7, 7, 7)
    plan = plan_cohort(cohort)  # a constant foreground is still a plan
    assert plan.channels[0].std == 1e-6


def test_what_the_digest_depends_on(tiny_cohort: Path, tmp_path: Path) -> None:
    plain = cohort_digest(load_cohort(tiny_cohort, 2))
    copy = tmp_path / "elsewhere" / "phantoms"
    shutil.copytree(tiny_cohort, copy)
    assert cohort_digest(load_cohort(copy, 2)) == plain
    assert cohort_digest(load_cohort(copy, 1)) != plain
    assert cohort_digest(load_cohort(copy, 2, modality="MRI")) != plain
    cohort = load_cohort(copy, 2)
    partly = (dataclasses.replace(cohort.labelled[0], annotated=(1,)), *cohort.labelled[1:])
    other = [dataclasses.replace(cohort, labelled=partly), dataclasses.replace(cohort, soft=True)]
    assert len({plain, *map(cohort_digest, other)}) == 3  # the same files, but other targets
    for path in (cohort.unlabelled[0].images[0], cohort.labelled[0].label, cohort.validation[0].label):
        assert path is not None
        content = path.read_bytes()
        path.write_bytes(content + b"\0")
        assert cohort_digest(cohort) != plain
        path.write_bytes(content)
    assert cohort_digest(cohort) == plain
    cohort.unlabelled[0].images[0].unlink()
    with pytest.raises(InputError, match=r"not readable \(No such file or directory\)"):
        cohort_digest(cohort)


def test_labels_outside_the_budget_are_not_read(tiny_cohort: Path, tmp_path: Path) -> None:
    """Deleted, garbled or filled with others: plan and digest stay the same."""
    folder = tmp_path / "phantoms"
    shutil.copytree(tiny_cohort, folder)
    # labels for the unlabelled cases too: a budget of 1 of then 4 labelled ones
    dataset = json.loads((folder / "dataset.json").read_text())
    splits = json.loads((folder / "splits.json").read_text())
    splits["labelled"] = {"1": splits["labelled"]["2"][:1]}
    for entry in dataset["training"]:
        entry["label"] = entry["image"].replace("imagesTr", "labelsTr")
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "splits.json").write_text(json.dumps(splits))
    outside = [name for name in splits["train"] if name not in splits["labelled"]["1"]]
    assert len(outside) == 3
    paths = [folder / "labelsTr" / f"{name}.nii.gz" for name in outside]
    images = [folder / "imagesTr" / path.name for path in paths]
    seen = set()
    for change in ("truth", "other labels", "garbage", "gone"):
        for path, image in zip(paths, images, strict=True):
            if change == "truth" and not path.exists():
                write(path, np.zeros(nib.load(image).shape, np.uint8), nib.load(image).affine)
            elif change == "other labels":
                write(path, np.full(nib.load(image).shape, 99, np.uint8), nib.load(image).affine)
            elif change == "garbage":
                path.write_bytes(gzip.compress(b"no volume"))
            elif change == "gone":
                path.unlink()
        cohort = load_cohort(folder, labelled=1)
        seen.add((plan_cohort(cohort).model_dump_json(), cohort_digest(cohort)))
    assert len(seen) == 1


def test_real_labels_outside_the_budget_are_not_read(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "sarcoma_ct_pet"
    splits = json.loads((source / "splits.json").read_text())
    readable = {*splits["labelled"]["4"], *splits["validation"]}
    (tmp_path / "labelsTr").mkdir()
    for name in ("dataset.json", "splits.json", "imagesTr"):
        (tmp_path / name).symlink_to(source.resolve() / name)
    for path in (source / "labelsTr").iterdir():
        if path.name.removesuffix(".nii.gz") in readable:
            (tmp_path / "labelsTr" / path.name).symlink_to(path.resolve())
    assert len(list((tmp_path / "labelsTr").iterdir())) == 10
    there, here = load_cohort(source, labelled=4), load_cohort(tmp_path, labelled=4)
    assert plan_cohort(here).model_copy(update={"name": ""}) == plan_cohort(there).model_copy(update={"name": ""})
    assert cohort_digest(here) == cohort_digest(there)
