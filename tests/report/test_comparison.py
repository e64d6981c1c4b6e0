"""What a comparison says of runs whose results are known."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medseg.errors import InputError
from medseg.report.comparison import compare
from medseg.report.comparison_figures import FIGURES, label_efficiency
from medseg.report.comparison_files import group_rows, write_comparison
from medseg.report.conclusions import conclusions, verdict
from medseg.report.runs import find_runs, read_history, read_run

MakeRun = Callable[..., Path]
RNG = np.random.default_rng(0)
BASE = {f"case_{i:02}": float(v) for i, v in enumerate(RNG.uniform(0.6, 0.9, 12))}
NOISE = {case: float(v) for case, v in zip(BASE, RNG.normal(0, 0.01, 12), strict=True)}


def _moved(by: float, noise: float = 1.0) -> dict[str, float]:
    return {case: value + by + noise * NOISE[case] for case, value in BASE.items()}


def _compare(*folders: Path, **options: Any) -> Any:
    return compare([read_run(folder) for folder in folders], **options)


def test_seeds_are_averaged_then_cases_paired(make_run: MakeRun) -> None:
    folders = [
        make_run("s1", _moved(0.0, 0), seed=1),
        make_run("s2", _moved(0.02, 0), seed=2),
        make_run("p1", _moved(0.03), "PseudoLabel", seed=1),
        make_run("p2", _moved(0.07), "PseudoLabel", seed=2),
    ]
    found = _compare(*folders)
    assert [(g.label, g.n_seeds, len(g.runs)) for g in found.groups] == [("supervised", 2, 2), ("pseudo_label", 2, 2)]
    (difference,) = found.differences
    assert (difference.a, difference.b) == ("pseudo_label", "supervised")
    # (0.03 + 0.07) / 2 - (0.00 + 0.02) / 2, and the noise, on each of 12 cases: not on 24
    assert difference.primary.mean == pytest.approx(0.04 + np.mean(list(NOISE.values())))
    assert difference.primary.n == 12
    assert difference.p_holm == pytest.approx(2 / 2**12)
    (sentence,) = conclusions(found)
    assert sentence.startswith("pseudo_label - supervised (organ): Dice +0.0")
    assert sentence.endswith("p < 0.001, 12 cases, 2 seeds: better; better recall, better HD95")


def test_the_steps_of_each_group_are_shown(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run("s1", BASE, seed=1), make_run("s2", BASE, seed=2), make_run("p1", BASE, "PseudoLabel")]
    metrics = json.loads((folders[1] / "metrics.json").read_text())
    (folders[1] / "metrics.json").write_text(json.dumps({**metrics, "steps": 700}))
    found = _compare(*folders)
    assert [row[-2] for row in group_rows(found)] == ["9-700", 9]
    write_comparison(tmp_path / "out", found)
    with open(tmp_path / "out/groups.csv") as file:
        assert [(row["runs"], row["steps"]) for row in csv.DictReader(file)] == [
            ("supervised", "9-700"),
            ("pseudo_label", "9"),
        ]
    assert "| supervised | 2 | 2 | organ |" in (tmp_path / "out/comparison.md").read_text()
    assert "| 9-700 |" in (tmp_path / "out/comparison.md").read_text()


def test_what_cannot_be_shown_is_said(make_run: MakeRun) -> None:
    few = dict(list(BASE.items())[:5])
    found = _compare(make_run("a", few), make_run("b", {c: v - 0.3 for c, v in few.items()}, loss="JaccardLoss"))
    (sentence,) = conclusions(found)
    assert sentence.startswith("jaccard - dice_ce (organ): Dice -0.300")
    assert "5 cases cannot show a difference of any size" in sentence
    assert "from 6 cases on" in sentence
    one = {"case_00": 0.5}
    (sentence,) = conclusions(_compare(make_run("g", one), make_run("h", one, loss="JaccardLoss")))
    assert "p = 1.000, 1 case, 1 seed: 1 case cannot show" in sentence
    none = _compare(make_run("c", _moved(0, 0)), make_run("d", _moved(0), loss="JaccardLoss"))
    assert "no difference shown; 12 cases that vary like these would show one of 0.0" in conclusions(none)[0]
    one = _compare(make_run("e", _moved(0, 0)), make_run("f", _moved(0.1), loss="JaccardLoss"))
    assert conclusions(one)[0].endswith("one seed each, and another may turn it round")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"dataset_dir": "/data/other"}, "data (set: a; other: b)"),
        ({"steps": 90}, "training budget (9 steps: a; 90 steps: b)"),
        ({"dice": {**BASE, "more": 0.5}}, "judged cases (only b has more)"),
        ({"fold": 1}, "folds"),
    ],
)
def test_runs_that_differ_in_more_are_refused(make_run: MakeRun, other: dict[str, Any], what: str) -> None:
    other = {"dice": BASE, **other}
    folders = make_run("a", BASE), make_run("b", other.pop("dice"), "PseudoLabel", **other)
    with pytest.raises(InputError) as error:
        _compare(*folders)
    assert what in str(error.value)
    assert "--allow-mixed" in str(error.value)
    assert "\n" not in str(error.value)
    assert any("mixed" in remark for remark in _compare(*folders, allow_mixed=True).remarks)


def test_label_budgets_are_compared_within(make_run: MakeRun) -> None:
    folders = [
        make_run(f"{method}{labels}", _moved(0.01 * i), method, labelled=labels)
        for i, (method, labels) in enumerate(
            [("Supervised", 4), ("PseudoLabel", 4), ("Supervised", 8), ("PseudoLabel", 8), ("Supervised", "all")]
        )
    ]
    found = _compare(*folders)
    assert {(d.a, d.b) for d in found.differences} == {
        ("pseudo_label, 4 labels", "supervised, 4 labels"),
        ("pseudo_label, 8 labels", "supervised, 8 labels"),
    }
    (axis,) = label_efficiency(found).axes  # type: ignore[union-attr]
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}
    means = [np.mean(list(_moved(0.01 * i).values())) for i in range(5)]
    assert lines["supervised"] == ([4, 8], pytest.approx([means[0], means[2]]))
    assert lines["pseudo_label"] == ([4, 8], pytest.approx([means[1], means[3]]))
    assert lines["supervised, all labels"][1] == pytest.approx([means[4]] * 2)
    assert len(lines) == 3
    dots = [point.tolist() for drawn in axis.collections for point in drawn.get_offsets()]
    assert dots == [pytest.approx([count, means[i]]) for i, count in ((0, 4), (2, 8), (1, 4), (3, 8))]
    with pytest.raises(InputError, match="share a label budget"):
        _compare(folders[0], folders[2])
    assert len(_compare(folders[0], folders[2], allow_mixed=True).differences) == 1


def test_what_a_baseline_leaves_out_is_said(make_run: MakeRun) -> None:
    folders = [
        make_run(f"{method}{labels}", _moved(0.01), method, labelled=labels)
        for method, labels in (("Supervised", 4), ("PseudoLabel", 4), ("PseudoLabel", 8), ("MeanTeacher", 8))
    ]
    found = _compare(*folders, baseline="supervised")
    assert [(d.a, d.b) for d in found.differences] == [("pseudo_label, 4 labels", "supervised, 4 labels")]
    assert found.remarks == (
        "8 labels: no supervised to compare with, so left out of the differences: pseudo_label, 8 labels; "
        "mean_teacher, 8 labels",
    )
    rates = [make_run(f"lr{rate}", _moved(0.01), learning_rate=rate) for rate in (0.1, 0.2)]
    with pytest.raises(InputError, match="give one in full"):
        _compare(*rates, baseline="supervised")
    assert _compare(*rates, baseline="supervised, learning_rate=0.2").differences[0].b.endswith("0.2")


def test_the_test_says_which_way_and_the_mean_may_disagree(make_run: MakeRun) -> None:
    """24 cases a little better and one far worse: the ranks say better, the mean says worse."""
    base = {f"{i:02}": 0.6 for i in range(25)}
    mostly = {case: value + 0.01 for case, value in base.items()} | {"24": 0.1}
    found = _compare(make_run("a", base), make_run("b", mostly, loss="JaccardLoss"))
    (difference,) = found.differences
    assert difference.primary.mean < 0 < difference.primary.ranks
    assert verdict(difference, "dice") == "better"
    (sentence,) = conclusions(found)
    assert "Dice -0.010" in sentence
    assert "25 cases, 1 seed: better in most cases, but the mean points the other way" in sentence
    halved = {case: value + 0.01 for case, value in base.items()} | {"24": 0.4}
    (sentence,) = conclusions(_compare(make_run("c", base), make_run("d", halved, loss="JaccardLoss")))
    assert "better in most cases, but the interval of the mean includes 0" in sentence


def test_test_cases_are_compared_by_their_content(make_run: MakeRun) -> None:
    folders = [make_run("a", BASE), make_run("b", _moved(0.1), loss="JaccardLoss")]
    for folder, digest in zip(folders, ("one", "two"), strict=True):
        cases = json.loads((folder / "metrics.json").read_text())["validation"]["last"]["cases"]
        (folder / "test.json").write_text(json.dumps({"cases": cases, "data_digest": digest}))
        known = {"validation_digest": "equal", "data": "set", "labelled": 4}
        (folder / "run.json").write_text(json.dumps({"params": known}))
    assert compare([read_run(folder) for folder in folders]).differences
    with pytest.raises(InputError, match=r"content of the judged files \(one: a; two: b\)"):
        compare([read_run(folder, "test") for folder in folders], split="test")


def test_many_groups_have_a_baseline_and_holm_counts_all(make_run: MakeRun) -> None:
    losses = ("DiceCELoss", "JaccardLoss", "FocalLoss", "BoundaryLoss")
    folders = [make_run(loss, _moved(0.02 * i), loss=loss) for i, loss in enumerate(losses)]
    found = _compare(*folders)
    assert [(d.a, d.b) for d in found.differences] == [(n, "dice_ce") for n in ("jaccard", "focal", "boundary")]
    assert [d.p_holm for d in found.differences] == pytest.approx([3 * 2 / 2**12] * 3)
    assert {d.b for d in _compare(*folders, baseline="focal").differences} == {"focal"}
    with pytest.raises(InputError, match="no such group"):
        _compare(*folders, baseline="nothing")


def test_settings_that_differ_name_the_groups_or_are_said(make_run: MakeRun) -> None:
    rates = [make_run(f"lr{i}", _moved(0.01 * i), learning_rate=rate) for i, rate in enumerate((0.1, 0.2))]
    assert [g.label for g in _compare(*rates).groups] == [
        "supervised, learning_rate=0.1",
        "supervised, learning_rate=0.2",
    ]
    bound = make_run("p", _moved(0.1), "PseudoLabel", learning_rate=0.5)
    found = _compare(rates[0], bound)
    assert [g.label for g in found.groups] == ["supervised", "pseudo_label"]
    assert found.remarks == ("learning_rate differs along with the method or loss",)
    with pytest.raises(InputError, match="one kind"):
        _compare(rates[0], make_run("again", BASE, learning_rate=0.1, seed=9))


def test_everything_is_written(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [
        make_run(f"{method}{labels}", _moved(0.01), method, labelled=labels)
        for method in ("Supervised", "PseudoLabel")
        for labels in (4, 8)
    ]
    found = _compare(*folders)
    write_comparison(tmp_path / "out", found)
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == set(FIGURES)
    with (tmp_path / "out" / "differences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["measure"] for row in rows] == ["dice", "hd95_mm", "recall"] * 2
    assert rows[1]["p"] == ""  # described, not tested
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * 12
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert conclusions(found)[0].split(":")[0] in page
    assert "- pseudo_label, 4 labels - supervised" in (tmp_path / "out" / "comparison.md").read_text()


def test_what_is_undefined_and_what_looks_like_tex_is_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    """A class that no case has in reference or prediction, and a name with dollars."""
    nothing = dict.fromkeys(BASE, math.nan)
    found = _compare(make_run("a", nothing), make_run("b", nothing, loss=r"$\frac$Loss"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "label_efficiency.png").touch()  # of an earlier comparison
    write_comparison(tmp_path / "out", found)
    assert conclusions(found)[0].endswith("undefined: no case has it in both")
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == {"learning_curves", "cases", "differences"}


def test_runs_without_a_class_in_common_are_refused(make_run: MakeRun) -> None:
    a, b = make_run("a", BASE), make_run("b", BASE, loss="JaccardLoss")
    (b / "metrics.json").write_text((b / "metrics.json").read_text().replace('"organ"', '"other"'))
    with pytest.raises(InputError, match="no class is in two kinds of runs"):
        _compare(a, b, allow_mixed=True)


def test_runs_are_found_and_torn_logs_read(make_run: MakeRun, tmp_path: Path) -> None:
    a, b = make_run("a", BASE), make_run("b", BASE)
    assert find_runs([tmp_path / "runs"]) == [a, b]
    assert find_runs([b, tmp_path / "runs"]) == [b, a]
    assert len(read_history(a)) == 4
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "empty", "no finished run"), (tmp_path / "no", "no such folder")):
        with pytest.raises(InputError, match=said):
            find_runs([path])
    with pytest.raises(InputError, match="evaluate"):
        read_run(a, "test")
    (a / "test.json").write_text(json.dumps({"cases": 0}))
    with pytest.raises(InputError, match=r"a/test\.json: no test cases"):
        read_run(a, "test")
    (b / "config.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(InputError, match="mapping"):
        read_run(b)
