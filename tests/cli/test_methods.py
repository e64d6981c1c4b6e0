from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from medseg.report.method_picture import method_picture
from medseg.share import overlay_folder

Command = Callable[..., tuple[int, str, str]]
OVERLAYS = sorted(path.stem for path in (overlay_folder() / "method").glob("*.yaml"))


def test_all_methods_are_listed_with_source_and_cost(medseg: Command) -> None:
    code, out, _ = medseg("methods")
    assert code == 0
    assert [line for line in out.splitlines() if line in OVERLAYS] == [
        "supervised",
        "mean_teacher",
        "pseudo_label",
        "cross_pseudo",
        "copy_paste",
        "consistent_copy_paste",
    ]
    assert out.count("source: ") == out.count("cost: ") == len(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_one_is_described_with_all_parameters_of_its_overlay(name: str, medseg: Command) -> None:
    code, out, _ = medseg("methods", name)
    assert code == 0
    given = yaml.safe_load((overlay_folder() / "method" / f"{name}.yaml").read_text())["method"]
    assert all(parameter in out for parameter in given if parameter != "_target_")


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_number_of_an_overlay_is_explained(name: str) -> None:
    for line in (overlay_folder() / "method" / f"{name}.yaml").read_text().splitlines()[1:]:
        key, _, value = line.partition(": ")
        value = value.partition(" #")[0].strip()
        if value and key.strip() not in ("_target_", "loss", "shape"):
            assert " # " in line, line


def test_a_method_is_drawn(medseg: Command, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--data", tiny_cohort, "--labelled", 2, "--steps", 1, "--output", "a.png", "--set", "method#whole=true")
    code, out, err = medseg("methods", "consistent_copy_paste", *options)
    assert code == 0, err
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        "planning by the cases", "preparing cases", "preparing cases",
    ]  # fmt: skip
    assert "a.png: one step of consistent_copy_paste" in out
    assert imread("a.png").std() > 0.1
    assert not Path("runs/mlruns.db").exists()


def test_wrong_names_and_keys(medseg: Command, tiny_cohort: Path) -> None:
    code, _, err = medseg("methods", "copy_past")
    assert (code, err.strip()) == (
        2,
        "Error: unknown method 'copy_past'; did you mean 'copy_paste'?; `medseg methods` lists them",
    )
    code, _, err = medseg("methods", "copy_paste", "--data", tiny_cohort, "--set", "method#treshold=1")
    assert code == 2
    assert "did you mean 'method#threshold'" in err


def test_the_picture_has_a_column_for_each_and_shows_the_plane_with_the_label() -> None:
    label = np.zeros((2, 1, 6, 5, 4), int)
    label[..., 3] = 2
    image = np.random.default_rng(0).normal(size=(1, 1, 6, 5, 4)).astype(np.float32)
    figure = method_picture({"image": image, "label": label, "kept": label > 0}, "title")
    axes = figure.axes
    assert len(axes) == 6
    assert [axis.get_title() for axis in axes[:3]] == ["image", "label", "kept"]
    assert [len(axis.get_images()) for axis in axes] == [1, 1, 1, 0, 1, 1]
    np.testing.assert_array_equal(axes[0].get_images()[0].get_array(), image[0, 0, :, :, 3].T)
