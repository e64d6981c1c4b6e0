"""The Python face, as the README writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.data.volume import read_labels
from medseg.errors import InputError

AFFINE = np.array([[0, 0, 1.5, 3], [-0.9, 0, 0, 5], [0, 1.1, 0, 7], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def model(small_plan: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from medseg.inference import save_model
    from medseg.networks import planned_unet

    plan = small_plan(classes={0: "background", 1: "liver", 3: "spleen"})
    return medseg.load_model(save_model(tmp_path_factory.mktemp("m"), planned_unet(plan).state_dict(), plan), "cpu")


def test_file_image_and_array_are_the_same_volume(model: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(9, 17, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "scan.nii.gz")
    found = model.predict(tmp_path / "scan.nii.gz", probabilities=True, uncertainty=True)
    assert found.labels.shape == array.shape
    assert np.allclose(found.geometry.affine, AFFINE)
    assert set(np.unique(found.labels)) <= {0, 1, 3}
    assert found.volumes_ml["liver"] == pytest.approx(found.mask("liver").sum() * 1.485 / 1000, abs=1e-4)
    assert np.allclose(found.probabilities.sum(-1), 1, atol=1e-3)
    assert found.uncertainty.shape == array.shape
    assert any("border" in flag for flag in found.flags)
    for other in (model.predict(nib.load(tmp_path / "scan.nii.gz")), model.predict(array, affine=AFFINE)):
        assert np.array_equal(other.labels, found.labels)
        other.save(tmp_path / "own.nrrd")
        found.save(tmp_path / "own.nii.gz")
        first, second = (read_labels(tmp_path / f"own.{suffix}") for suffix in ("nrrd", "nii.gz"))
        assert np.array_equal(first.array, second.array)
        assert first.geometry.difference(second.geometry) is None
    with pytest.raises(KeyError, match="liver, spleen"):
        found.mask("kidney")
    with pytest.raises(InputError, match="unknown file type"):
        found.save(tmp_path / "own.png")


def test_several_channels_come_in_the_plans_order_or_numbered(small_plan: Any, tmp_path: Path) -> None:
    from medseg.inference import save_model
    from medseg.networks import planned_unet

    plan = small_plan(channels=[{"name": name, "normalisation": "zscore"} for name in ("T1", "T2")])
    model = medseg.load_model(save_model(tmp_path / "m", planned_unet(plan, seed=2).state_dict(), plan), "cpu")
    rng = np.random.default_rng(0)
    for name, number in (("t1", "p_0000"), ("t2", "p_0001")):
        nib.save(nib.Nifti1Image(rng.normal(size=(16, 16, 8)).astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii")
        (tmp_path / f"{number}.nii").symlink_to(f"{name}.nii")

    def labels(*names: str) -> Any:
        return model.predict([tmp_path / f"{name}.nii" for name in names]).labels

    expected = labels("t1", "t2")
    assert not np.array_equal(expected, labels("t2", "t1"))
    assert np.array_equal(expected, labels("p_0001", "p_0000"))  # numbers say which is which
    assert np.array_equal(expected, labels("p_0000", "t2"))
    for names, said in ((("t1",), "case t1 has channel files"), (("t1", "t2", "p_0001"), "expects 2")):
        with pytest.raises(InputError, match=said):
            labels(*names)


def test_regions_are_whole(small_plan: Any, tmp_path: Path) -> None:
    from medseg.inference import save_model
    from medseg.networks import planned_unet

    regions = [{"name": "whole", "values": (1, 2), "painted": 1}, {"name": "core", "values": (2,), "painted": 2}]
    plan = small_plan(classes={0: "background", 1: "oedema", 2: "necrosis"}, regions=regions)
    save_model(tmp_path, planned_unet(plan, seed=1).state_dict(), plan)
    found = medseg.load_model(tmp_path, "cpu").predict(np.random.default_rng(0).normal(size=(9, 17, 12)), np.eye(4))
    assert set(np.unique(found.labels)) == {0, 1, 2}
    assert np.array_equal(found.mask("whole"), found.labels > 0)
    assert np.array_equal(found.mask("background"), found.labels == 0)
    assert found.volumes_ml["whole"] == pytest.approx((found.labels > 0).sum() / 1000)


def test_what_it_refuses(model: Any, tmp_path: Path) -> None:
    ones = np.ones((4, 4, 4))
    for image, affine, said in (
        (ones, None, "needs its affine"),
        (np.ones((2, 4, 4, 4)), np.eye(4), r"expected \(X, Y, Z\) or \(1, X, Y, Z\)"),
        (ones * np.nan, np.eye(4), "NaN or infinite"),
        (ones, np.diag([1, 1, 0, 1]), "singular"),
        (ones, np.array([[1, 0.5, 0, 0], *np.eye(4)[1:]]), "sheared by 26.6 degrees"),
        (ones, np.diag([1e9, 1e9, 1e9, 1]), "GiB"),
        (tmp_path / "nowhere.nii", None, "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            model.predict(image, affine)
    with pytest.raises(InputError, match="no model there"):
        medseg.load_model(tmp_path)


def test_the_package_is_typed() -> None:
    assert (Path(medseg.__file__).parent / "py.typed").is_file()
