"""How it runs: the one iteration, the trainer around it, validation, checkpoints, the job from folder to table."""

from medseg.engine.checkpoints import CheckpointHandler
from medseg.engine.dry_run import dry_run
from medseg.engine.early_stopping import EarlyStopping
from medseg.engine.evaluator import VolumeEvaluator, WriteSegmentations, show_evaluation
from medseg.engine.faults import Faults
from medseg.engine.iteration import Iteration
from medseg.engine.job import TrainingJob
from medseg.engine.judgement import SplitJudgement, judge_split
from medseg.engine.logs import JsonLines, StepLog
from medseg.engine.output import new_output, plan_path, run_folder
from medseg.engine.precision import Autocast, has_bf16, pick_device, set_deterministic
from medseg.engine.progress import ProgressHandler
from medseg.engine.provenance import run_params, run_tags
from medseg.engine.pseudo_labels import PseudoLabelCheck
from medseg.engine.record import run_record
from medseg.engine.schedule import PolynomialDecay
from medseg.engine.sealed import load_checkpoint
from medseg.engine.signals import StopSignals
from medseg.engine.system import SystemMetrics
from medseg.engine.trainer import Budget, Trainer
from medseg.engine.validation import ValidationHandler

__all__ = [
    "Autocast",
    "Budget",
    "CheckpointHandler",
    "EarlyStopping",
    "Faults",
    "Iteration",
    "JsonLines",
    "PolynomialDecay",
    "ProgressHandler",
    "PseudoLabelCheck",
    "SplitJudgement",
    "StepLog",
    "StopSignals",
    "SystemMetrics",
    "Trainer",
    "TrainingJob",
    "ValidationHandler",
    "VolumeEvaluator",
    "WriteSegmentations",
    "dry_run",
    "has_bf16",
    "judge_split",
    "load_checkpoint",
    "new_output",
    "pick_device",
    "plan_path",
    "run_folder",
    "run_params",
    "run_record",
    "run_tags",
    "set_deterministic",
    "show_evaluation",
]
