"""The report of a run, also in a browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.report import run_report as run_report_module
from medseg.report.case_view import case_view
from medseg.report.page import web_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from medseg.report.run_report import run_report

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(run_report(tiny_run), encoding="utf-8")
    return path


def test_the_page_stands_alone(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert not re.findall(r"https?://", text)
    assert "default-src 'none'" in text  # and the browser would not let it
    for part in ("Summary", "Curves", "Cases", "Viewer", "config.yaml", "plan.yaml", "data_digest", "phantom_"):
        assert part in text


def test_the_title_counts_the_cases_that_had_labels(page: Path) -> None:
    assert "<h1>run: pseudo_label, dice_ce, 2 labelled and 2 unlabelled cases</h1>" in page.read_text()


def test_a_case_is_small_and_in_ras_order(tmp_path: Path) -> None:
    import nibabel as nib

    from medseg.data.case import Case

    labels = np.zeros((150, 140, 130), np.uint8)
    labels[100:140, 20:60, 30:120] = 2
    affine = np.diag([-1.0, 1.5, 0.8, 1])  # the first axis runs to the left
    noise = np.random.default_rng(0).normal(0, 100, labels.shape).astype(np.float32)
    for name, array in (("image", noise), ("label", labels)):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    case = Case("c", (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz")
    view = case_view(case, tmp_path / "label.nii.gz", {0: "background", 2: "organ"}, "said")
    assert len(json.dumps(view)) < 10e6 / 20
    assert np.prod(view["shape"]) <= 620_000
    # 40 x 60 x 72 mm of labels and 20 mm around them, but the image ends 10 mm beyond along X, 8 mm along Z
    extent = np.multiply(view["shape"], view["spacing"])
    assert extent == pytest.approx([40 + 10 + 20, 60 + 20 + 21, 72 + 8 + 20], abs=4)
    # the nearer end is at the low end of X now
    assert view["start"][0] * view["spacing"][0] == pytest.approx(10, abs=4)
    assert len(view["colours"]) == 2


def test_soft_labels_are_shown_as_they_are_judged(tmp_path: Path) -> None:
    import nibabel as nib

    from medseg.data.case import Case

    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:5, 3:6] = 1
    soft = np.stack([0.8 * (labels == 1), np.full(labels.shape, 0.1)], -1).astype(np.float32)
    for name, array in (
        ("image", np.random.default_rng(0).normal(size=labels.shape)),
        ("hard", labels),
        ("soft", soft),
    ):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    hard, soft_case = (
        Case("c", (tmp_path / "image.nii.gz",), tmp_path / f"{name}.nii.gz", soft=name == "soft")
        for name in ("hard", "soft")
    )
    classes = {0: "background", 1: "organ", 2: "lesion"}
    views = [case_view(case, tmp_path / "hard.nii.gz", classes, "") for case in (hard, soft_case)]
    assert views[0] == views[1]


def test_the_viewer_has_the_worst_and_best_of_the_cases_that_have_a_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = {"good": 0.9, "undefined": float("nan"), "bad": 0.1, "fair": 0.5}
    run: Any = SimpleNamespace(results={case: [SimpleNamespace(dice=value)] for case, value in dice.items()})
    cases = [SimpleNamespace(name=case) for case in dice]
    run_file: Any = SimpleNamespace(cases={"validation": cases}, classes={})
    monkeypatch.setattr(run_report_module, "_view", lambda folder, case, *_: {"name": case.name})
    for worst, best, shown in ((1, 1, ["bad", "good"]), (4, 2, ["bad", "fair", "good"]), (0, 0, [])):
        views, _ = run_report_module._views(Path(), run, run_file, worst, best)
        assert [view["name"] for view in views] == shown


def test_no_name_ends_or_hides_the_scripts() -> None:
    names = ["</script>", "<!--<script>"]
    (data,) = re.findall(r'id="data">(.*?)</script>', web_page("t", "", (), json.dumps(names)), re.DOTALL)
    assert "<" not in data
    assert json.loads(data) == names


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open_page(path: Path) -> Any:
        driver.get(path.as_uri())
        return driver

    yield open_page
    driver.quit()


def _waited(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def test_in_a_browser(browser: Callable[[Path], Any], page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    driver = browser(page)
    _waited(lambda: driver.find_elements(By.CSS_SELECTOR, "#viewer[data-ready]"))
    canvas = driver.find_element(By.ID, "plane-axial")

    def shown() -> str:
        return str(driver.execute_script("return document.getElementById('plane-axial').toDataURL()"))

    # arrow keys scroll
    before, where = shown(), driver.find_element(By.ID, "where-axial").text
    canvas.send_keys(Keys.ARROW_DOWN)
    _waited(lambda: driver.find_element(By.ID, "where-axial").text != where)
    canvas.send_keys(Keys.ARROW_UP)
    _waited(lambda: shown() == before)
    # overlays are toggled by mouse and by key
    for name, key in (("prediction", "p"), ("reference", "r")):
        box = driver.find_element(By.ID, f"show-{name}")
        box.click()
        without = shown()
        assert without != before, name
        driver.find_element(By.TAG_NAME, "body").send_keys(key)
        assert box.is_selected()
        assert shown() == before
    driver.execute_script(
        "const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'));"
    )
    assert shown() != before
    # a column sorts up and down
    table = driver.find_element(By.CSS_SELECTOR, "#cases table")
    button = table.find_elements(By.CSS_SELECTOR, "th button")[2]
    assert button.text.startswith("Dice")
    orders = []
    for _ in range(2):
        button.click()
        cells = table.find_elements(By.CSS_SELECTOR, "tbody tr td:nth-child(3)")
        orders.append([float(cell.get_attribute("data-value")) for cell in cells if cell.get_attribute("data-value")])
    assert orders[0] == sorted(orders[0])
    assert orders[1] == orders[0][::-1]
    # light and dark are both legible: the text's colour is that of the scheme
    colours = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours.add(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
