"""The trials of an experiment, one after another in this process, shared with others through an Optuna storage."""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.engine.experiment import Experiment, Search, Trial, grid_trials, named
from medseg.errors import InputError

__all__ = ["open_study", "run_sweep", "trial_value"]

_ALIVE_SECONDS = 60  # between signs of life; a trial without one for five times as long was killed, and is taken up
_UNDER_WAY = {"RUNNING", "WAITING"}
_TAKEN = _UNDER_WAY | {"COMPLETE"}


class _TrialError(Exception):
    """In its training; whatever else is raised is not the trial's fault, and ends the sweep."""


def open_study(experiment: Experiment, storage: str) -> Any:
    """The Optuna study of an experiment in a storage, made where absent.

    Raises:
        InputError: the storage cannot be opened, or the study has another metric.
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
        study = optuna.create_study(
            study_name=experiment.experiment,
            storage=opened,
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:  # whatever a database's driver raises
        raise InputError(f"--storage {storage}: cannot be opened ({(str(error).splitlines() or ['?'])[0]})") from error
    if study.direction.name.lower() != direction:
        raise InputError(
            f"search {study.study_name}: was begun with another metric; take that back, or give it another name"
        )
    return study


def run_sweep(
    experiment: Experiment, study: Any, train: Callable[[Trial], float], say: Callable[[str], None]
) -> list[str]:
    """Runs what is left of an experiment; several processes and machines may do so on one storage at once.

    A trial that raises is noted as failed and does not end the sweep; the next call tries it again. One whose process
    was killed is taken up once it has given no sign of life for five minutes.

    Args:
        experiment: grids or a search.
        study: what `open_study` gave.
        train: runs a trial; its value.
        say: is told what happens, line by line.

    Returns:
        The trials that have failed.

    Raises:
        InputError: the values that a search chooses from are not those that it was begun with.
    """
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)  # Optuna itself looks only where it begins another trial
    if experiment.search is not None:
        wanted = _search(experiment.search, study, train, say)
    else:
        wanted = _grid(grid_trials(experiment), study, train, say)
    states = _states(study)
    elsewhere = [name for name in wanted if states[name] & _UNDER_WAY and "COMPLETE" not in states[name]]
    if elsewhere:
        say(
            f"{len(elsewhere)} trial(s) are under way elsewhere, or were killed a short while ago: "
            f"{', '.join(elsewhere)}; after five minutes the same command takes up what was killed"
        )
    return [name for name in wanted if not states[name] & _TAKEN]


def trial_value(folder: Path, metric: str = "dice") -> float:
    """The mean over classes of a run's checkpoint `last` on validation cases.

    Raises:
        InputError: the run is not finished, or the measure is undefined in all cases.
    """
    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        value = record["validation"]["last"]["summary"][metric]["mean"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'metrics.json'}: no {metric} of a finished run ({error})") from error
    if value is None or math.isnan(value):
        raise InputError(f"{folder / 'metrics.json'}: {metric} is undefined in all validation cases")
    return float(value)


def _grid(
    trials: list[Trial], study: Any, train: Callable[[Trial], float], say: Callable[[str], None]
) -> Sequence[str]:
    import optuna

    by_name = {trial.name: trial for trial in trials}
    states = _states(study)
    missing = [name for name in by_name if not states[name] & _TAKEN]
    for name in missing:
        # by name alone: as a parameter, the names would be fixed with the first trial, and no list could grow
        study.enqueue_trial({}, user_attrs={"trial": name})
    say(f"{len(by_name)} trials, {len(by_name) - len(missing)} of them done or under way")

    def objective(trial: Any) -> float:
        name = trial.user_attrs.get("trial")
        # no name: another process took the last one that waited
        if name not in by_name or _taken(study, name, trial.number):
            raise optuna.TrialPruned
        return _tried(by_name[name], train, say)

    while _waiting(study):
        study.optimize(objective, n_trials=1, catch=(_TrialError,))
    return list(by_name)


def _search(search: Search, study: Any, train: Callable[[Trial], float], say: Callable[[str], None]) -> Sequence[str]:
    from optuna.samplers import TPESampler

    _check_space(search, study)
    states = _states(study)
    failed = {
        t.user_attrs["trial"]: t.params
        for t in study.get_trials(deepcopy=False)
        if "trial" in t.user_attrs and not states[t.user_attrs["trial"]] & _TAKEN
    }
    for name, params in failed.items():
        study.enqueue_trial(params, user_attrs={"trial": name})

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
        name = trial.user_attrs.get("trial") or f"{trial.number:03}-{run.name}"
        trial.set_user_attr("trial", name)  # one that is tried again goes on in its folder
        return _tried(Trial(name=name, settings=run.settings), train, say)

    def drawn() -> int:
        return len({t.user_attrs.get("trial", t.number) for t in study.get_trials(deepcopy=False)})

    say(f"{search.trials} trials, {drawn() - len(failed)} of them done or under way")
    while _waiting(study) or drawn() < search.trials:
        study.optimize(objective, n_trials=1, catch=(_TrialError,))
    return [name for name in _states(study) if name]


def _check_space(search: Search, study: Any) -> None:
    """Optuna keeps the choices of a study for good; others would fail in every trial."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, check_distribution_compatibility

    for trial in study.get_trials(deepcopy=False):
        for key, before in trial.distributions.items():
            space = search.space.get(key)
            if space is None:
                continue
            now = (
                CategoricalDistribution(space)
                if isinstance(space, list)
                else FloatDistribution(space.low, space.high, log=space.log)
            )
            try:
                check_distribution_compatibility(before, now)
            except ValueError as error:
                raise InputError(
                    f"search {study.study_name}: the choices of {key} are not those that it was begun with ({before}); "
                    "take that back, or give the experiment another name"
                ) from error


def _states(study: Any) -> Mapping[str, set[str]]:
    """Trial -> the states of all tries."""
    found: dict[str, set[str]] = defaultdict(set)
    for trial in study.get_trials(deepcopy=False):
        found[trial.user_attrs.get("trial", "")].add(trial.state.name)
    return found


def _waiting(study: Any) -> bool:
    return any(trial.state.name == "WAITING" for trial in study.get_trials(deepcopy=False))


def _taken(study: Any, name: str, number: int) -> bool:
    """Whether another try of this trial is done, or began earlier: two processes may have asked for it at once."""
    return any(
        trial.user_attrs.get("trial") == name
        and (trial.state.name == "COMPLETE" or (trial.state.name == "RUNNING" and trial.number < number))
        for trial in study.get_trials(deepcopy=False)
        if trial.number != number
    )


def _tried(trial: Trial, train: Callable[[Trial], float], say: Callable[[str], None]) -> float:
    say(f"{trial.name}: begins")
    try:
        value = train(trial)
    except Exception as error:
        say(f"{trial.name}: failed: {error}")
        raise _TrialError(trial.name) from error
    say(f"{trial.name}: {value:.4f}")
    return value
