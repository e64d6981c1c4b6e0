"""A training run from its folder to its table: the trainer between what is written before and after it."""

from __future__ import annotations

import copy
import json
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from rich.console import Console

from medseg import ranks
from medseg.data.cohort import Cohort
from medseg.data.runfile import run_file, write_run_file
from medseg.engine.checkpoints import CheckpointHandler
from medseg.engine.evaluator import VolumeEvaluator
from medseg.engine.explain import explained
from medseg.engine.faults import Faults
from medseg.engine.fine_tuning import start_from
from medseg.engine.judging import chosen, judge_checkpoints
from medseg.engine.output import locked, resume_command
from medseg.engine.provenance import provenance
from medseg.engine.record import as_yaml
from medseg.engine.resume import has_checkpoint, resume
from medseg.engine.signals import StopSignals
from medseg.engine.trainer import Trainer
from medseg.engine.validation import shown_name
from medseg.errors import InputError, Interrupted
from medseg.files import write_text
from medseg.inference.card import data_terms, write_card
from medseg.inference.model import save_model
from medseg.metrics.measures import TOLERANCE_MM
from medseg.metrics.report import as_json
from medseg.plan import Plan, save_plan
from medseg.report.runs import read_history
from medseg.report.tables import checkpoint_table

__all__ = ["TrackerLike", "TrainingJob"]


_TRACKED = ("config.yaml", "plan.yaml", "run.json", "metrics.json", "metrics.jsonl")


class TrackerLike(Protocol):
    """What a job needs of `medseg.tracking.Tracker`."""

    uri: str
    experiment: str
    run_id: str | None

    def start(self, params: Mapping[str, Any]) -> str: ...
    def params(self, params: Mapping[str, Any]) -> None: ...
    def artifacts(self, paths: list[Path]) -> None: ...
    def finish(self, status: Any) -> str: ...


class TrainingJob:
    """Trains, exports the model that validates best, and judges it on the validation cases.

    Test cases have no part in it: `medseg evaluate RUN --split test` judges them, once.

    Args:
        trainer: with its handlers.
        validation: over the validation cases.
        plan: written to the folder and to the model.
        output: the run's folder.
        config: the merged config, written as `config.yaml`.
        cohort: the cases, whose names and files are kept in `run.json`.
        tracker: the MLflow run; it ends FINISHED, FAILED where anything raises, KILLED where a signal stopped it.
        params: what to track besides config and versions: method, loss, budget, data digest, seed.
        signals: the handler that catches them.
        faults: the handler that counts what went wrong.
        checkpoints: the handler that saves them.
        record: what the run is made of (`run_record`).
        resume: whether the folder holds a run to go on with.
        force: goes on with a run whose config, plan or data has changed.
        init_from: a model to start from instead of fresh weights.
        pictures: how many validation cases are drawn.
    """

    def __init__(
        self,
        trainer: Trainer,
        validation: VolumeEvaluator,
        plan: Plan,
        output: str | os.PathLike[str],
        config: Mapping[str, Any],
        cohort: Cohort,
        tracker: TrackerLike,
        params: Mapping[str, Any],
        signals: StopSignals,
        faults: Faults,
        checkpoints: CheckpointHandler,
        record: Mapping[str, Any],
        resume: bool = False,
        force: bool = False,
        init_from: str | None = None,
        pictures: int = 3,
    ) -> None:
        self.trainer = trainer
        self.validation = validation
        self.plan = plan
        self.output = Path(output)
        self.config = config
        self.cohort = cohort
        self.tracker = tracker
        self.params = params
        self.signals = signals
        self.faults = faults
        self.checkpoints = checkpoints
        self.record = record
        self.resume = resume
        self.force = force
        self.init_from = init_from
        self.pictures = pictures
        self.console = Console(quiet=not ranks.is_first())

    def run(self) -> None:
        """Runs the job.

        Raises:
            Interrupted: a signal stopped it; the last checkpoint is written, and how to go on is said.
            InputError: bad input, met before or during training.
        """
        self.signals.catch()
        try:
            if self.init_from is not None and not (self.resume and has_checkpoint(self.output)):  # that has all weights
                self._say(start_from(self.trainer.iteration, self.init_from))
            with locked(self.output):
                if self.resume:
                    self._say(resume(self.trainer, self.output, self.record, self.force))
                try:
                    self._begin()
                    self.trainer.run()
                    self._finish()
                except BaseException as error:
                    self._stopped(error)
                    raise
                if ranks.is_first():
                    self._finish_tracking("FINISHED")
        finally:
            self.signals.release()
        for line in self.faults.lines():
            self._say(line)
        self._say(f"Model: {self.output / 'model'}")
        uri = self.tracker.uri
        where = f"at: {uri}" if uri.startswith("http") else f"with: mlflow ui --backend-store-uri {uri}"
        self._say(f"MLflow: run {self.tracker.run_id}; open it {where}")
        run, model = (shlex.quote(str(path)) for path in (self.output, self.output / "model"))
        self._say(f"Next: medseg report {run}\n      medseg predict {model} IMAGES --output DIR")

    def _begin(self) -> None:
        if not ranks.is_first():
            return
        save_plan(self.plan, self.output / "plan.yaml")
        config = {**self.config, "resume": None, "force": False}  # who resumes says so again
        # what it ended with before it went on, which would pass for the result of what is written here
        (self.output / "metrics.json").unlink(missing_ok=True)
        write_text(self.output / "config.yaml", as_yaml(config))
        versions = provenance(self.trainer.state.device)
        params = {**self.params, "data_digest": self.record["data_digest"], "processes": ranks.size(), **versions}
        run_id = self.tracker.start({**params, "config": config})
        tracking = {"uri": self.tracker.uri, "experiment": self.tracker.experiment, "run_id": run_id}
        write_run_file(self.output, run_file(self.cohort, params, tracking))

    def _stopped(self, error: BaseException) -> NoReturn:
        """Ends a run that cannot go on so that it can be resumed, and raises what the user sees."""
        if not ranks.is_first():
            if isinstance(error, Interrupted):
                raise SystemExit(128 + error.number)  # the first process says it
            raise explained(error, self.plan, self.output) or error
        for handler in self.trainer.handlers:
            if hasattr(handler, "close"):
                handler.close()
        begun = (self.output / "config.yaml").exists()
        # held: the state is that of half a step, and the last checkpoint stays; no steps: nothing to go on from
        if begun and not self.signals.held and self.trainer.state.steps is not None:
            try:
                self.checkpoints.save_last(self.trainer)
            except InputError as further:  # a full disk: the one before it is there
                error.add_note(str(further))
        if begun:
            self.tracker.artifacts([self.output / name for name in _TRACKED if (self.output / name).exists()])
        stopped = isinstance(error, KeyboardInterrupt | Interrupted | SystemExit)
        self._finish_tracking("KILLED" if stopped else "FAILED")
        for line in self.faults.lines():
            self._say(line)
        error = explained(error, self.plan, self.output) or error
        note = f"; go on with: {resume_command(self.output)}" if begun else ""
        if isinstance(error, Interrupted):
            saved = self.checkpoints.saved
            done = f" after step {saved} of {self.trainer.state.steps}" if saved is not None else ""
            raise Interrupted(error.number, done + note) from None
        if isinstance(error, InputError):
            raise InputError(f"{error}{note}") from error
        if note:
            error.add_note(note.removeprefix("; "))
        raise error

    def _finish_tracking(self, status: str) -> None:
        problem = self.tracker.finish(status)
        if problem:
            what = f"MLflow store {self.tracker.uri} did not get all ({problem})"
            self._say(f"Warning: {what}; send it with: medseg runs sync {shlex.quote(str(self.output))}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        checkpoints = ranks.from_first(lambda: {name: chosen(self.output, name) for name in ("best", "last")})
        best = checkpoints["best"]
        if ranks.is_first():
            self.tracker.params({"frozen_steps": self.trainer.state.steps})
            save_model(self.output / "model", best["weights"], self.plan)
        self._say(f"judging the checkpoints best and last by the validation cases: {len(self.cohort.validation)}")
        network = copy.deepcopy(self.trainer.iteration.students[0])
        found = judge_checkpoints(self.validation, network, checkpoints, self.plan, self.output, self.pictures)
        if not ranks.is_first():
            return
        summaries = {name: of_checkpoint["summary"] for name, of_checkpoint in found.items()}
        flat = {f"validation_{name}/dice": summary.dice.mean for name, summary in summaries.items()}
        flat |= {f"validation_{name}/hd95_mm": summary.hd95_mm.mean for name, summary in summaries.items()}
        self.trainer.log("judged", {name: value for name, value in flat.items() if math.isfinite(value)})
        metrics = {
            "model": {"checkpoint": "best", "network": shown_name(best["chosen"]), "step": best["step"]},
            "steps": self.trainer.state.iteration,  # an early end has fewer than were frozen
            "tolerance_mm": TOLERANCE_MM,
            "seconds": read_history(self.output)[-1]["seconds"],  # of all processes that have trained it
            "validation": as_json(found),
        }
        write_text(self.output / "metrics.json", json.dumps(metrics, indent=1))
        terms = {} if self.cohort.folder is None else data_terms(self.cohort.folder)
        write_card(self.output / "model", self.plan, terms, metrics)
        folders = [self.output / name for name in ("model", "pictures")]
        self.tracker.artifacts([*folders, *(self.output / name for name in _TRACKED)])
        self.console.print(checkpoint_table("validation", summaries))
