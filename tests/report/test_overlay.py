from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from medseg.errors import InputError
from medseg.report.overlay import overlay_picture, save_overlay

CLASSES = {1: "anterior", 2: "posterior"}


def _case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).normal(size=(12, 14, 10)).astype(np.float32)
    reference = np.zeros(image.shape, dtype=np.uint8)
    reference[2:5, 3:8, 6:9] = 1  # centre (3, 5, 7)
    prediction = np.zeros_like(reference)
    prediction[2:5, 4:9, 6:9] = 1
    prediction[9, 9, 1] = 2
    return image, prediction, reference


def _planes(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_planes_go_through_the_centre_of_the_reference_else_of_the_prediction_else_the_middle() -> None:
    image, prediction, reference = _case()
    spacing = (1.0, 1.0, 1.0)
    nothing = np.zeros_like(reference)
    assert _planes(overlay_picture(image, prediction, reference, spacing, CLASSES)) == [
        "X = 3",
        "Y = 5",
        "Z = 7",
    ]
    only_2 = {2: "posterior"}
    for reference_2 in (None, reference, nothing):
        figure = overlay_picture(image, prediction, reference_2, spacing, only_2)
        assert _planes(figure) == ["X = 9", "Y = 9", "Z = 1"]
    assert _planes(overlay_picture(image, nothing, None, spacing, CLASSES)) == ["X = 6", "Y = 7", "Z = 5"]


def test_planes_have_their_true_proportions() -> None:
    image, prediction, reference = _case()
    figure = overlay_picture(image, prediction, reference, (0.5, 1.0, 4.0), CLASSES)
    x, y, z = figure.axes
    assert [axes.get_aspect() for axes in (x, y, z)] == [4.0, 8.0, 2.0]
    np.testing.assert_array_equal(x.images[0].get_array(), image[3].T)
    np.testing.assert_array_equal(y.images[0].get_array(), image[:, 5].T)
    np.testing.assert_array_equal(z.images[0].get_array(), image[:, :, 7].T)
    assert (x.get_xlim(), x.get_ylim()) == ((-0.5, 13.5), (-0.5, 9.5))


def test_the_prediction_is_filled_and_the_reference_outlined_in_one_colour_a_class() -> None:
    image, prediction, reference = _case()
    figure = overlay_picture(image, prediction, reference, (1, 1, 1), CLASSES)
    z = figure.axes[2]
    opacity = z.images[1].get_array()[..., 3]
    np.testing.assert_array_equal(opacity > 0, prediction[:, :, 7].T == 1)
    assert 0 < opacity.max() < 1
    (outline,) = z.collections
    (path,) = outline.get_paths()
    assert path.get_extents().bounds == pytest.approx((1.5, 2.5, 3, 5))  # 2:5 by 3:8, borders between voxels
    filled = z.images[1].get_array()[5, 3, :3]
    np.testing.assert_allclose(outline.get_edgecolor()[0, :3], filled)
    assert not overlay_picture(image, prediction, None, (1, 1, 1), CLASSES).axes[2].collections


def test_the_grey_window_is_not_that_of_a_few_bright_voxels() -> None:
    image, prediction, _ = _case()
    image[0, 0, 0] = 1e6
    figure = overlay_picture(image, prediction, None, (1, 1, 1), CLASSES)
    low, high = figure.axes[0].images[0].get_clim()
    assert -4 < low < -1
    assert 1 < high < 4


@pytest.mark.parametrize("n_classes", [1, 7, 30])
def test_legend_names_the_classes_each_in_its_colour(n_classes: int) -> None:
    image, prediction, reference = _case()
    classes = {label: f"organ {label} [$x_1$" for label in range(1, n_classes + 1)}
    figure = overlay_picture(image, prediction, reference, (1, 1, 1), classes, title="case $1$ of $n")
    figure.canvas.draw()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*classes.values(), "filled: prediction", "outline: reference"]
    colours = {patch.get_facecolor() for patch in legend.get_patches()[:n_classes]}
    assert len(colours) == n_classes


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 5), (9, 1, 1)])
def test_one_voxel_axes_and_flat_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = np.ones(shape, dtype=np.uint8)
    save_overlay(tmp_path / "x.png", np.zeros(shape), labels, labels, (1, 1, 1), CLASSES)
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_saved_picture_shows_the_prediction(tmp_path: Path) -> None:
    image, prediction, reference = _case()
    save_overlay(tmp_path / "with.png", image, prediction, reference, (1, 1, 1), CLASSES, "case")
    save_overlay(tmp_path / "without.png", image, prediction * 0, reference, (1, 1, 1), CLASSES, "case")
    with_, without = (matplotlib.image.imread(tmp_path / f"{n}.png") for n in ("with", "without"))
    assert with_.shape == without.shape
    assert (np.abs(with_ - without).max(axis=-1) > 0.05).mean() > 0.005
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["with.png", "without.png"]


def test_pyplot_is_not_used() -> None:
    code = (
        "import sys, numpy as np; from medseg.report.overlay import overlay_picture;"
        "a = np.ones((4, 4, 4), int); overlay_picture(a, a, a, (1, 1, 1), {1: 'a'}).canvas.draw();"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    image, prediction, _ = _case()
    with pytest.raises(InputError, match="cannot be written"):
        save_overlay(tmp_path / "nowhere" / "x.png", image, prediction, None, (1, 1, 1), CLASSES)


@pytest.mark.parametrize(
    ("image", "labels", "spacing", "message"),
    [
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 3), int), (1, 1, 1), "one shape"),
        (np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2), int), (1, 1, 1), "one shape"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int), (1, 1, 0), "three positive"),
    ],
)
def test_exception(image, labels, spacing, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        overlay_picture(image, labels, None, spacing, CLASSES)


def test_real_case(real_data: Path) -> None:
    name = "hippocampus_015.nii.gz"
    image = np.asarray(nib.load(real_data / "hippocampus" / "imagesTr" / name).dataobj)
    labels = np.asarray(nib.load(real_data / "hippocampus" / "labelsTr" / name).dataobj).astype(np.uint8)
    figure = overlay_picture(image, np.roll(labels, 2, 0), labels, (1, 1, 1), CLASSES, name)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert (axes.images[1].get_array()[..., 3] > 0).sum() > 30
        assert len(axes.collections) >= 1
