"""The trials of an experiment, one after another in this process, shared with others through an Optuna storage."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medseg.engine.experiment import Experiment, Search, Trial, grid_trials, named
from medseg.errors import InputError

__all__ = ["open_study", "run_sweep", "trial_value"]

_ALIVE_SECONDS = 60  # between signs of life; a trial without one for five times as long was killed, and is taken up


def open_study(experiment: Experiment, storage: str) -> Any:
    """The Optuna study of an experiment in a storage, made where absent.

    Raises:
        InputError: the storage cannot be opened.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is said by us, on one line
    search = experiment.search
    direction = "minimize" if search is not None and search.metric == "hd95_mm" else "maximize"
    try:
        with warnings.catch_warnings():
            # signs of life are experimental in Optuna; without them a killed trial would stay "running" for ever
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            opened = optuna.storages.RDBStorage(
                storage,
                heartbeat_interval=_ALIVE_SECONDS,
                grace_period=5 * _ALIVE_SECONDS,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=3),
            )
        return optuna.create_study(
            study_name=experiment.experiment,
            storage=opened,
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:  # whatever a database's driver raises
        raise InputError(f"--storage {storage}: cannot be opened ({(str(error).splitlines() or ['?'])[0]})") from error


def run_sweep(experiment: Experiment, study: Any, train: Callable[[Trial], float], say: Callable[[str], None]) -> None:
    """Runs what is left of an experiment; several processes and machines may do so on one storage at once.

    A trial that raises is noted as failed and does not end the sweep; the next call tries it again. One whose process
    was killed is taken up after some minutes.

    Args:
        experiment: grids or a search.
        study: what `open_study` gave.
        train: runs a trial; its value.
        say: is told what happens, line by line.
    """
    if experiment.search is not None:
        _search(experiment.search, study, train, say)
    else:
        _grid(grid_trials(experiment), study, train, say)


def trial_value(folder: Path, metric: str = "dice") -> float:
    """The mean over classes of a run's checkpoint `last` on validation cases.

    Raises:
        InputError: the run is not finished.
    """
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        value = record["validation"]["last"]["summary"][metric]["mean"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'metrics.json'}: no {metric} of a finished run ({error})") from error
    return math.nan if value is None else float(value)


def _grid(trials: list[Trial], study: Any, train: Callable[[Trial], float], say: Callable[[str], None]) -> None:
    import optuna
    from optuna.trial import TrialState

    by_name = {trial.name: trial for trial in trials}
    taken = {
        t.user_attrs.get("trial")
        for t in study.get_trials(deepcopy=False)
        if t.state in (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
    }
    for name in by_name:
        if name not in taken:
            study.enqueue_trial({"trial": name}, user_attrs={"trial": name})
    say(f"{len(by_name)} trials, {len(taken & set(by_name))} of them done or under way")

    def objective(trial: Any) -> float:
        if "trial" not in trial.user_attrs:  # another process took the last one that waited
            study.stop()
            raise optuna.TrialPruned
        name = trial.suggest_categorical("trial", list(by_name))
        return _tried(by_name[name], train, say)

    while any(t.state == TrialState.WAITING for t in study.get_trials(deepcopy=False)):
        study.optimize(objective, n_trials=1, catch=(Exception,))


def _search(search: Search, study: Any, train: Callable[[Trial], float], say: Callable[[str], None]) -> None:
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    def objective(trial: Any) -> float:
        # a function of the trial's number, which no other has: else a search that goes on would draw the same again
        study.sampler = TPESampler(seed=100_003 * search.seed + trial.number)
        chosen: Mapping[str, Any] = {
            key: trial.suggest_categorical(key, space)
            if isinstance(space, list)
            else trial.suggest_float(key, space.low, space.high, log=space.log)
            for key, space in search.space.items()
        }
        run = named({**search.base, **chosen}, [])
        return _tried(Trial(name=f"{trial.number:03}-{run.name}", settings=run.settings), train, say)

    def ended() -> int:
        return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING)))

    say(f"{search.trials} trials, {ended()} of them done or under way")
    while ended() < search.trials:
        study.optimize(objective, n_trials=1, catch=(Exception,))


def _tried(trial: Trial, train: Callable[[Trial], float], say: Callable[[str], None]) -> float:
    say(f"{trial.name}: begins")
    try:
        value = train(trial)
    except Exception as error:
        say(f"{trial.name}: failed: {error}")
        raise
    say(f"{trial.name}: {value:.4f}")
    return value
