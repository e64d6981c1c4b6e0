"""`medseg train --folds K`: one run a fold, then what they say together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medseg.cli.console import table_console
from medseg.cli.processes import launch
from medseg.errors import InputError

__all__ = ["data_folder", "launch_fold", "train_folds"]


def train_folds(count: int, output: Path, data: Path, train: Callable[[dict[str, Any]], None]) -> None:
    """Trains folds 0 to `count` - 1 into `output/fold_K` and collects them. What has finished is not trained again, so
    that the same command goes on where it was stopped; the folds share the plan of the first.

    Args:
        count: of folds, as many as the splits have.
        output: of all.
        data: the cohort's folder.
        train: runs one training with the overrides given; with a `resume` key it goes on with that run.

    Raises:
        InputError: fewer than two folds, or the splits have another number.
    """
    from medseg.engine.folds import collect_folds
    from medseg.report.tables import checkpoint_table

    if count < 2:
        raise InputError(f"--folds {count}: expected at least 2; --fold K trains one")
    _check_count(count, data)
    runs = [output / f"fold_{number}" for number in range(count)]
    console = table_console()
    for number, run in enumerate(runs):
        if (run / "metrics.json").exists():
            console.print(f"fold {number}: done already in {run}", markup=False, highlight=False, soft_wrap=True)
            continue
        if (run / "config.yaml").exists():  # also one that was killed before its first checkpoint
            train({"resume": str(run)})
            continue
        first = {"plan_file": str(runs[0] / "plan.yaml")} if number else {}
        train({"fold": number, "output_dir": str(run), "run_name": f"{output.name}-fold{number}", **first})
    summaries = collect_folds(output, runs)
    console.print(checkpoint_table(f"cross-validation, {count} folds", summaries))
    console.print(f"Ensemble: {output / 'model'}", markup=False, highlight=False, soft_wrap=True)


def launch_fold(command: list[str], changes: dict[str, Any], processes: int) -> None:
    """Trains one fold in several processes, which end with it: `command` (`train --folds K ...`) for this fold alone.

    Raises:
        SystemExit: the exit code of a fold that failed or was stopped.
    """
    if "resume" in changes:
        arguments = ["train", "--resume", changes["resume"], "--processes", str(processes)]
    else:
        # of options that are given twice the last one counts
        arguments = [*_without_folds(command), "--fold", str(changes["fold"]), "--output", changes["output_dir"]]
        arguments += ["--set", f"run_name={json.dumps(changes['run_name'])}"]
        arguments += ["--plan", changes["plan_file"]] if "plan_file" in changes else []
    code = launch(arguments, processes)
    if code:
        raise SystemExit(code)


def _without_folds(command: list[str]) -> list[str]:
    if "--folds" in command:
        at = command.index("--folds")
        return command[:at] + command[at + 2 :]
    return [word for word in command if not word.startswith("--folds=")]


def data_folder(files: list[str], overrides: Mapping[str, Any]) -> Path:
    """`dataset_dir` of a run, which an overlay may give as an expression."""
    from monai.bundle import ConfigParser

    given = ConfigParser.load_config_files(files) | dict(overrides)
    parser = ConfigParser({key: given[key] for key in ("imports", "dataset_dir")})
    return Path(parser.get_parsed_content("dataset_dir"))


def _check_count(count: int, data: Path) -> None:
    from medseg.data.layouts import list_cases
    from medseg.data.splits import list_folds

    there = len(list_folds(list_cases(data)))
    if there != count:
        what = f"there are {there}" if there else "there are none"
        raise InputError(
            f"{data / 'splits.json'}: --folds {count} asked for, but {what}; draw them with "
            f"`medseg data split --folds {count}`"
        )
