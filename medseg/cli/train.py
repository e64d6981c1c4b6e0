"""`medseg train`: a friendly way to write `python -m monai.bundle run training` with overlays and overrides."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from medseg.cli.composition import assignment, budget_of_labels, check_yaml, composed, merged
from medseg.cli.folds import data_folder, launch_fold, train_folds
from medseg.cli.processes import inside, launch
from medseg.errors import InputError
from medseg.share import bundle_folder, overlay_names

__all__ = ["train"]


def _listed(concern: str) -> str:
    return ", ".join(overlay_names(concern))


def train(
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="dataset.json, cases.csv, or images/ and labels/. By default phantoms."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Train on phantoms, written to runs/phantoms: a try without data.")
    ] = False,
    labelled: Annotated[
        str | None, typer.Option(metavar="N|all", help="Training cases whose labels may be read. Default: all.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="See `medseg methods`. Default: pseudo_label.")] = None,
    loss: Annotated[str | None, typer.Option(help="See `medseg losses`. Default: dice_ce.")] = None,
    network: Annotated[str | None, typer.Option(help=f"Another size or kind than usual: {_listed('network')}.")] = None,
    task: Annotated[str | None, typer.Option(help=f"A data set that is known: {_listed('task')}.")] = None,
    runtime: Annotated[str | None, typer.Option(help=f"How it is run: {_listed('runtime')}.")] = None,
    steps: Annotated[int | None, typer.Option(help="The budget in optimiser steps: repeats exactly.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="The budget in minutes. Default: 3, a first look.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn. Default: 0.")] = None,
    fold: Annotated[int | None, typer.Option(metavar="K", help="Train and validate by this fold, from 0.")] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Train all K folds, and collect them: measures and an ensemble.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="In MLflow. Default: default.")] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a model in MLflow's registry: this is its next version.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder. Default: runs/ and the time.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Plan for so much, such as 8GB. Default: 8GB on a GPU, small on a CPU.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Of the channels, MRI, CT or CT,PET, where the data does not say.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A plan.yaml to use instead of planning anew.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1. Default: auto.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with the run in this folder. --steps may be more than it had."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: also if config, plan or data have changed.")
    ] = False,
    init_from: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Fine-tune: start from a model folder or checkpoint.")
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Further labels NAME.nii.gz, such as corrected pseudo-labels.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Track in the local MLflow store; `medseg runs sync` sends it later.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without training cases that can no longer be read.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, one a GPU. See docs/clusters.md for more machines.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would be and cost, after three steps; write no run.")
    ] = False,
    config: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="One more overlay; may be given again.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config, as a#b#c.")
    ] = None,
) -> None:
    """Train a network on labelled and unlabelled volumes, and judge it.

    Writes the run's folder with checkpoints, metrics and the model; tracks
    the run in MLflow. Ctrl-C finishes the step and saves; --resume goes on.

    \b
    Example:
      medseg train --demo --labelled 4 --max-minutes 3
      medseg train --data DATA --labelled 9 --max-minutes 30 --output runs/a
      medseg train --resume runs/a
      medseg train --data DATA --folds 5 --output runs/cv
    """
    overlays = {"task": task, "method": method, "loss": loss, "network": network, "runtime": runtime}
    if resume is None:
        files = composed(overlays, config or ())  # first: a misspelt name is said before torch is imported
    if folds is not None:
        if resume is not None or fold is not None or output is None or dry_run or inside():
            what = "give --output, and neither --fold, --resume nor --dry-run; torchrun is started by --processes"
            raise InputError(f"--folds {folds}: {what}; the same command goes on")
    elif processes > 1 and not inside():
        raise SystemExit(launch(sys.argv[1:], processes))
    if demo and (data is not None or task is not None or resume is not None):
        raise InputError("--demo trains on phantoms; leave it out, or leave out --data, --task and --resume")
    if steps is not None and max_minutes is not None:
        raise InputError("both --steps and --max-minutes are given; give one of them")
    given: dict[str, Any] = {
        "dataset_dir": data,
        "labelled": None if labelled is None else budget_of_labels(labelled),
        "steps": steps,
        "max_minutes": max_minutes,
        "seed": seed,
        "fold": fold,
        "experiment": experiment,
        "register": register,
        "output_dir": str(output) if output else None,
        "modality": modality,
        "memory": memory,
        "plan_file": str(plan) if plan else None,
        "device_name": device,
        "resume": str(resume) if resume else None,
        "force": force or None,
        "init_from": str(init_from) if init_from else None,
        "corrected_dir": str(corrected) if corrected else None,
        "offline": offline or None,
        "skip_bad": skip_bad or None,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    overrides |= dict(assignment(text) for text in override or ())
    if resume is not None:
        others = {**overlays, "output": output}
        files = _composed_before(resume, [name for name, value in others.items() if value], config or ())
        if steps is not None:
            overrides["max_minutes"] = None  # which the run may have begun with; they are frozen into steps by now
    if processes > 1 and resume is None:
        files[1:1] = composed({"runtime": "distributed"})[1:]
    if folds is None or output is None:
        _run(files, overrides, dry_run)
        return

    def of_fold(changes: dict[str, Any]) -> None:
        if processes > 1:
            launch_fold(sys.argv[1:], changes, processes)
        elif "resume" in changes:
            _run(_composed_before(Path(changes["resume"]), [], ()), changes, False)
        else:
            _run(files, overrides | changes, False)

    train_folds(folds, output, data_folder(files, overrides), of_fold)


def _composed_before(run: Path, overlays: list[str], extra: Sequence[Path]) -> list[str]:
    """The config of the run to resume, as it was composed, and `extra`."""
    if overlays:
        raise InputError(
            f"--resume {run} takes the run's own folder and config; leave out --{' and --'.join(overlays)}"
        )
    if not (run / "config.yaml").is_file():
        raise InputError(
            f"{run}: no run to resume; expected the folder of a run that has begun to train, with its config.yaml"
        )
    for path in (run / "config.yaml", *extra):
        check_yaml(path)
    return [str(path) for path in (run / "config.yaml", *extra)]


def _run(files: list[str], overrides: dict[str, Any], dry_run: bool) -> None:
    with warnings.catch_warnings():
        # MONAI warns of running configs from elsewhere; these are our own and those that the user names
        warnings.filterwarnings("ignore", message="parsing config_file")
        from monai.bundle import run

        for name in ("monai.bundle.scripts", "monai.bundle.workflows"):
            logging.getLogger(name).setLevel(logging.ERROR)
        merged(files, overrides)  # says what is wrong with them, before MONAI does
        metadata = bundle_folder() / "configs" / "metadata.json"  # MONAI looks for it beside the first file
        parts = {"run_id": "dry_run", "init_id": "check"} if dry_run else {"run_id": "training"}
        given = {key: value for key, value in overrides.items() if value is not None}
        with _nulls(overrides) as further:
            run(**parts, config_file=[*files, *further], meta_file=str(metadata), **given)


@contextmanager
def _nulls(overrides: Mapping[str, Any]) -> Iterator[list[str]]:
    """A config file of the overrides that are None, which MONAI's `run` would leave out."""
    nulls = [key for key, value in overrides.items() if value is None]
    if not nulls:
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nulls.json"
        path.write_text(json.dumps(dict.fromkeys(nulls)), encoding="utf-8")
        yield [str(path)]
