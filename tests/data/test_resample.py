from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from medseg.data.case import Case, load_case
from medseg.data.geometry import Geometry
from medseg.data.resample import overlap, resampled
from medseg.errors import InputError


def moved(spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def test_a_linear_field_keeps_its_values_in_space() -> None:
    turned = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1]])
    geometry, onto = Geometry((30, 20, 15), turned), Geometry((12, 10, 14), moved((1, 1.3, 2), (4, 6, 5)))

    def field(where: Geometry) -> np.ndarray:
        points = np.stack([*np.indices(where.shape), np.ones(where.shape)], axis=-1) @ where.affine.T
        return points[..., :3] @ [1.0, -2.0, 0.5]

    assert overlap(geometry, onto) == 1
    np.testing.assert_allclose(resampled(field(geometry), geometry, onto), field(onto), atol=1e-3)


def test_the_edge_continues_by_a_voxel_and_then_the_smallest_value_follows() -> None:
    array = np.array([[[-1000.0]], [[40.0]], [[60.0]]])
    geometry = Geometry((3, 1, 1), moved((2, 2, 2)))
    fine = resampled(array, geometry, Geometry((10, 1, 1), moved((1, 2, 2), (-1, 0, 0))))
    np.testing.assert_allclose(fine.ravel(), [-1000, -1000, -480, 40, 50, 60, 60, 60, -1000, -1000])


def test_overlap_is_the_share_that_is_covered() -> None:
    whole = Geometry((10, 10, 10), moved((1, 1, 1)))
    assert overlap(whole, whole) == 1
    assert overlap(Geometry((5, 10, 10), moved((1, 1, 1))), whole) == 0.5
    assert overlap(Geometry((10, 10, 10), moved((1, 1, 1), (100, 0, 0))), whole) == 0


def test_a_channel_on_another_grid_is_resampled_and_that_is_said_once(tmp_path: Path, save, caplog) -> None:
    ct = save(tmp_path / "a_0000.nii.gz", [0, 100], shape=(8, 4, 2), affine=moved((1, 1, 4)))
    pet = save(tmp_path / "a_0001.nii.gz", [7], shape=(4, 2, 2), affine=moved((2, 2, 4), (0.5, 0.5, 0)))
    case = Case("a", (ct, pet), None)
    with caplog.at_level(logging.WARNING):
        images, _, geometry = load_case(case, {})
        load_case(case, {})
    assert images.shape == (2, 8, 4, 2)
    np.testing.assert_allclose(images[1], 7)
    assert geometry.spacing == (1, 1, 4)
    assert len(caplog.records) == 1
    assert "a_0001.nii.gz: resampled linearly onto the grid of" in caplog.text
    assert "shape (4, 2, 2) against (8, 4, 2)" in caplog.text


def test_a_channel_of_another_place_is_refused(tmp_path: Path, save) -> None:
    images = (save(tmp_path / "a.nii.gz"), save(tmp_path / "b.nii.gz", affine=moved((1, 1, 3), (500, 0, 0))))
    with pytest.raises(InputError, match=r"b\.nii\.gz: lies nowhere in the field of view of .*a\.nii\.gz"):
        load_case(Case("a", images, None), {})
