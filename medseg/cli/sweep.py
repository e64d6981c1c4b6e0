"""`medseg sweep`: the trainings of an experiment file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from medseg.cli.processes import ending_with_us
from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.engine.experiment import Trial

__all__ = ["sweep"]

# options of `medseg train`; every other key of an experiment is one of the config
_OPTIONS = (
    *("data", "labelled", "method", "loss", "network", "task", "runtime", "steps", "max-minutes", "seed", "fold"),
    *("modality", "plan", "device"),
)


def sweep(
    experiment: Annotated[Path, typer.Argument(metavar="FILE", help="Such as configs/experiment/loss_study.yaml.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where runs are written. Default: runs/ and the experiment.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URI", help="Of Optuna, shared by machines. Default: sweep.db in the output.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained.")] = False,
) -> None:
    """Train everything that an experiment file asks for, one after another.

    The same command goes on where it was stopped, and tries again what
    failed. A failed trial does not end it. Machines that name one --storage
    share the work, and may share the output folder. On one machine start it
    once: budgets in minutes are equal only where a run has it for itself.

    \b
    Example:
      medseg sweep configs/experiment/loss_study.yaml
      medseg compare runs/loss_study/hippocampus* --baseline dice_ce
    """
    from medseg.engine.experiment import grid_trials, load_experiment

    asked = load_experiment(experiment)
    folder = output or Path("runs") / asked.experiment
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if dry_run:
        if asked.search is not None:
            say(f"{asked.search.trials} trials in {', '.join(asked.search.space)}, on {asked.search.base}")
        for trial in grid_trials(asked):
            say(" ".join(_command(trial, folder / trial.name, asked.experiment)))
        return
    from medseg.engine.output import locked
    from medseg.engine.sweep import open_study, run_sweep, trial_value
    from medseg.files import make_folder
    from medseg.tracking import parent_run

    make_folder(folder)
    uri = storage or f"sqlite:///{(folder / 'sweep.db').absolute()}"
    metric = asked.search.metric if asked.search is not None else "dice"
    # who shares a storage may share the folder: each trial is of one process, and its own folder is locked
    with locked(folder) if storage is None else nullcontext(), _terminated_as_interrupted():
        study = open_study(asked, uri)
        parent = parent_run(asked.experiment)

        def train(trial: Trial) -> float:
            run = folder / trial.name
            if not (run / "metrics.json").exists():
                _train(trial, run, asked.experiment, parent)
            return trial_value(run, metric)

        failed = run_sweep(asked, study, train, say)
    for runs in _comparable(grid_trials(asked), folder):
        say(f"compare them with: medseg compare {runs}")
    if failed:
        raise InputError(f"{len(failed)} trial(s) failed: {', '.join(failed)}; the same command tries them again")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C, which the training is told of and which notes its trial as failed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _comparable(trials: Sequence[Trial], folder: Path) -> list[str]:
    """The folders of an experiment's runs, as a shell takes them; those of several tasks apart."""
    tasks = sorted({str(trial.settings.get("task")) for trial in trials})
    return [f"{folder}/{task}-*" for task in tasks] if len(tasks) > 1 else [str(folder)]


def _train(trial: Trial, run: Path, experiment: str, parent: str | None) -> None:
    """A process of its own, so that nothing of one trial reaches the next, and no crash this one."""
    resumed = (run / "config.yaml").exists()  # also one that was killed before its first checkpoint
    arguments = ["--resume", str(run)] if resumed else _command(trial, run, experiment)[2:]
    command = ending_with_us([sys.executable, "-m", "medseg", "train", *arguments])
    nested = {"MEDSEG_PARENT_RUN": parent} if parent is not None else {}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **nested}
    ) as process:
        try:
            said = process.communicate()[1]
        except KeyboardInterrupt:
            process.terminate()  # else it trains on alone; a Ctrl-C it has got too: it finishes its step and saves
            process.communicate()
            raise
    if process.returncode:
        if process.returncode in (130, 143):  # stopped by a signal, which was meant for the sweep too
            raise KeyboardInterrupt
        last = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise InputError(f"trial {trial.name}: {last[0]}")


def _command(trial: Trial, run: Path, experiment: str) -> list[str]:
    """`medseg train ...` of a trial."""
    words = ["medseg", "train", "--output", str(run), "--experiment", experiment]
    for key, value in trial.settings.items():
        name = key.replace("_", "-")
        if name not in _OPTIONS:
            words += ["--set", f"{key}={'null' if value is None else value}"]
        elif value is not None:  # an option that is left out
            words += [f"--{name}", str(value)]
    return words
