"""Draws docs/figures/label_efficiency.png, Dice against the number of labels, from the runs of the CSV file beside it.

python scripts/figure_labels.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

TITLES = {
    "hippocampus": "Hippocampus, MRI\n24 validation cases",
    "left_atrium": "Left atrium, MRI\n8 validation cases",
    "sarcoma_ct_pet": "Sarcoma, CT and PET\n6 validation cases",
}
COLOURS = {"supervised": "C0", "consistent_copy_paste": "C1"}
Runs = dict[tuple[str, int], list[float]]  # Dice of `last` by method and number of labels


def main(folder: Path) -> None:
    """Writes the picture into `folder`, which holds the table."""
    sets: dict[str, Runs] = defaultdict(lambda: defaultdict(list))
    everything: dict[str, int] = {}
    with open(folder / "label_efficiency.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            labels = int(row["labels"])
            sets[row["data"]][row["method"], labels].append(float(row["dice_last"]))
            everything[row["data"]] = int(row["of"])
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6}
    figure, axes = plt.subplots(1, len(TITLES), figsize=(9.5, 3.1), layout="constrained")
    for axis, (name, title) in zip(axes, TITLES.items(), strict=True):
        panel(axis, sets[name], everything[name])
        axis.set_title(title, fontsize=9)
    axes[0].set_ylabel("Dice of the last checkpoint")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(folder / "label_efficiency.png", dpi=130)


def panel(axis: Axes, runs: Runs, everything: int) -> None:
    """A line of means a method, a faint dot a run; `supervised` with all labels is dashed."""
    for method, colour in COLOURS.items():
        counts = sorted(labels for of, labels in runs if of == method and labels < everything)
        means = [sum(runs[method, n]) / len(runs[method, n]) for n in counts]
        axis.plot(counts, means, "o-", color=colour, label=method)
        for n in counts:
            found = runs[method, n]
            axis.scatter([n] * len(found), found, s=14, color=colour, alpha=0.35, linewidths=0)
    if full := runs.get(("supervised", everything)):
        axis.axhline(sum(full) / len(full), color="C0", linestyle="--", label="supervised, all labels")
    axis.set_xscale("log", base=2)
    counts = sorted({labels for _, labels in runs if labels < everything})
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(f"labelled cases (all: {everything})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "figures"))
