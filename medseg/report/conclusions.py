"""What a comparison may conclude, in words."""

from __future__ import annotations

import math

from medseg.metrics.measures import MEASURES
from medseg.metrics.paired import PairedDifference, smallest_sample
from medseg.report.comparison import Comparison, Difference

__all__ = ["conclusion", "conclusions", "verdict"]

_LEVEL = 0.05
# measures that are said beside the tested one, where they differ beyond doubt
_BESIDE = ("dice", "recall", "precision", "surface_dice", "hd95_mm", "assd_mm", "lesion_f1", "ece")


def conclusions(comparison: Comparison) -> list[str]:
    """A sentence a difference."""
    tests = sum(not math.isnan(d.primary.p) for d in comparison.differences)
    return [conclusion(d, comparison.measure, tests) for d in comparison.differences]


def conclusion(difference: Difference, measure: str = "dice", tests: int = 1) -> str:
    """One honest sentence: "tversky - dice_ce (anterior): Dice +0.012 [0.004, 0.021], p = 0.003, 24 cases, 3 seeds:
    better; also better recall, worse HD95"."""
    found, known = difference.primary, MEASURES[measure]
    begin = f"{difference.a} - {difference.b} ({difference.class_name}): {known.label} "
    if found.n == 0:
        return f"{begin}undefined: no case has it in both"
    low, high = found.interval_95
    numbers = f"{found.mean:+.{known.digits}f}"
    if not math.isnan(low):
        numbers += f" [{low:.{known.digits}f}, {high:.{known.digits}f}]"
    p = f"p {'< 0.001' if difference.p_holm < 0.001 else f'= {difference.p_holm:.3f}'}"
    counted = f"{_counted(found.n, 'case')}, {_counted(difference.seeds, 'seed')}"
    return f"{begin}{numbers}{f' {known.unit}' if known.unit else ''}, {p}, {counted}: " + _meaning(
        difference, measure, tests
    )


def verdict(difference: Difference, measure: str) -> str:
    """ "better", "worse", or "" where the test does not say: by its rank sums, whatever the mean."""
    if math.isnan(difference.p_holm) or difference.p_holm > _LEVEL:
        return ""
    return _direction(difference.primary.ranks, measure)


def _meaning(difference: Difference, measure: str, tests: int) -> str:
    found, known = difference.primary, MEASURES[measure]
    needed = smallest_sample(tests)
    said = verdict(difference, measure)
    beside = _beside(difference, measure)
    if said:
        caution = "" if difference.seeds > 1 else "; one seed each, and another may turn it round"
        return f"{said}{_doubt(found)}{f'; {beside}' if beside else ''}{caution}"
    if found.n < needed:
        family = f" among {tests} comparisons" if tests > 1 else ""
        return (
            f"{_counted(found.n, 'case')} cannot show a difference of any size (the signed-rank test reaches "
            f"0.05{family} from {needed} cases on)"
        )
    size = f"{found.detectable:.{known.digits}f} or more in four of five tries"
    corrected = ", less often after correction" if tests > 1 else ""
    untested = f"; untested: {beside}" if beside else ""
    return f"no difference shown; {found.n} cases that vary like these would show one of {size}{corrected}{untested}"


def _beside(difference: Difference, measure: str) -> str:
    said = []
    for name in _BESIDE:
        other = difference.others.get(name)
        if name == measure or other is None or other.n < 2:
            continue
        low, high = other.interval_95
        if low > 0 or high < 0:
            said.append(f"{_direction(other.mean, name)} {MEASURES[name].label}")
    return ", ".join(said)


def _doubt(found: PairedDifference) -> str:
    """What the mean says against the test, which goes by ranks."""
    low, high = found.interval_95
    if found.mean * found.ranks < 0:
        return " in most cases, but the mean points the other way: a few cases differ far more"
    if low <= 0 <= high:
        return " in most cases, but the interval of the mean includes 0: a few cases differ far more"
    return ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _direction(towards: float, measure: str) -> str:
    higher = MEASURES[measure].better == "higher"
    return "better" if (towards > 0) is higher else "worse"
