"""A run that is killed and resumed ends as one that was not; a run that is not the same is refused."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from medseg.engine import load_checkpoint
from medseg.engine.output import locked
from medseg.engine.sealed import save_checkpoint
from medseg.errors import InputError

TIMES = ("seconds", "time", "images_per_second")
SMALL = ("--network", "small", "--set", "val_interval=2")

pytestmark = pytest.mark.usefixtures("elsewhere")


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medseg", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _kill_when(process: subprocess.Popen[str], condition: Callable[[], bool], delay: float = 0.0) -> bool:
    """Kills the process `delay` seconds after the condition holds; whether it was still alive."""
    try:
        end = time.monotonic() + 300
        while process.poll() is None and not condition():
            assert time.monotonic() < end
            time.sleep(0.0005)
        time.sleep(delay)
        alive = process.poll() is None
    finally:
        process.kill()
        err = process.communicate()[1]
    assert alive or process.returncode == 0, err
    return alive


def _rows(run: Path) -> list[dict[str, Any]]:
    """Without the clock's and the machine's."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{n: value for n, value in row.items() if n not in TIMES} for row in rows if row["kind"] != "system"]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _assert_same(run: Path, reference: Path) -> None:
    for name in ("best", "last"):
        mine, theirs = (load_checkpoint(folder / "checkpoints" / f"{name}.pt") for folder in (run, reference))
        assert mine["step"] == theirs["step"]
        trained = [key for key in theirs if key.startswith(("student", "teacher", "optimizer", "scaler"))]
        assert {"student_0", "teacher", "optimizer"} <= set(trained)
        assert all(_equal(mine[key], theirs[key]) for key in (*trained, "best_dice", "chosen", "validation"))
    assert _rows(run) == _rows(reference)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run, reference)]
    assert weights[0] == weights[1]
    assert not list(run.rglob(".*.tmp.*"))


def _mlflow(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'runs' / 'mlruns.db'}")


def _mlflow_runs(folder: Path) -> list[Any]:
    client = _mlflow(folder)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def _assert_mlflow_has_each_row_once(folder: Path, run: Path) -> None:
    client, found = _mlflow(folder), _mlflow_runs(folder)
    assert [entry.info.status for entry in found] == ["FINISHED"]
    for name in ("loss", "validation/dice"):
        steps = [point.step for point in client.get_metric_history(found[0].info.run_id, name)]
        assert sorted(steps) == [row["step"] for row in _rows(run) if name in row]


def test_a_run_killed_while_it_saves_goes_on_as_if_nothing_had_happened(
    medseg: Any, tiny_cohort: Path, tiny_run: Path, tmp_path: Path
) -> None:
    """The reference is the session's run of four steps."""
    run = tmp_path / "a b"  # a name that the shell must be told about
    process = _start("--data", tiny_cohort, *SMALL, "--steps", 4, "--output", run)
    saved = run / "checkpoints" / "last.pt"
    assert _kill_when(process, lambda: saved.exists() and any(run.glob("checkpoints/.*.tmp.*")))
    assert load_checkpoint(saved)["step"] == 2
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "kind": "tra')  # a row that was being written
    code, out, err = medseg("train", "--resume", run)
    assert code == 0, err
    assert "Resumed after step 2 of 4" in out
    _assert_same(run, tiny_run)
    _assert_mlflow_has_each_row_once(tmp_path, run)


def _signalling(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with a signal in the midst of its first call."""
    sent = []

    def call(*arguments: Any, **named: Any) -> Any:
        if not sent:
            sent.append(os.kill(os.getpid(), number))
        return function(*arguments, **named)

    return call


def test_signals_in_every_phase_and_the_commands_that_they_leave(
    medseg: Any, tiny_cohort: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.data import CaseCache
    from medseg.engine import Iteration, VolumeEvaluator, job
    from medseg.tracking.delivery import Delivery

    def interrupted(owner: Any, name: str, number: int, *arguments: object) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _signalling(number, getattr(owner, name)))
            code, _, err = medseg("train", *arguments)
        assert len(err.strip().splitlines()[-1:]) == 1
        assert "Traceback" not in err
        return code, err.strip().splitlines()[-1]

    run = tmp_path / "a b"
    options = ("--data", tiny_cohort, *SMALL, "--steps", 4, "--output", run)
    assert interrupted(CaseCache, "prepare", signal.SIGTERM, *options) == (143, "stopped by SIGTERM")
    assert not (run / "config.yaml").exists()

    code, said = interrupted(Delivery, "send", signal.SIGTERM, *options)  # the run has begun in MLflow
    assert (code, said) == (143, f"stopped by SIGTERM after step 0 of 4; go on with: medseg train --resume '{run}'")
    assert [entry.info.status for entry in _mlflow_runs(tmp_path)] == ["KILLED"]

    code, said = interrupted(Iteration, "__call__", signal.SIGINT, "--resume", run)
    words = f"stopped by SIGINT after step 1 of 4; go on with: medseg train --resume '{run}'"
    assert (code, said) == (130, words)
    assert [entry.info.status for entry in _mlflow_runs(tmp_path)] == ["KILLED"]
    command = shlex.split(said.partition("go on with: ")[2])[2:]

    for owner, name, number, step in (
        (VolumeEvaluator, "evaluate", signal.SIGTERM, 2),
        (job, "save_model", signal.SIGINT, 4),
    ):
        code, said = interrupted(owner, name, number, *command)
        assert code == 128 + number
        assert f"after step {step} of 4" in said
        assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == step
    code, out, err = medseg("train", *command)
    assert code == 0, err
    assert "Resumed after step 4 of 4" in out
    _assert_same(run, tiny_run)
    _assert_mlflow_has_each_row_once(tmp_path, run)


def _failing(error: Exception, call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which raises `error` at its call number `call`."""
    calls: list[None] = []

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            raise error
        return function(*arguments, **named)

    return called


def test_faults_in_mid_run_leave_a_run_that_goes_on(
    medseg: Any, tiny_cohort: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.data import PatchDataset
    from medseg.engine import Iteration

    run = tmp_path / "run"
    arguments: tuple[object, ...] = ("--data", tiny_cohort, *SMALL, "--steps", 4, "--output", run)
    for owner, name, call, error, words in (
        (Iteration, "__call__", 2, torch.OutOfMemoryError("CUDA out of memory."), f"is in {run / 'smaller_plan.yaml'}"),
        (torch, "save", 2, OSError(28, "No space left on device"), "last.pt: cannot be written (No space left on"),
        (PatchDataset, "_patch", 3, InputError("a.nii.gz: torn"), "case phantom_00"),
        (Iteration, "__call__", 1, RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "patches"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _failing(error, call, getattr(owner, name)))
            code, _, err = medseg("train", *arguments)
        last = err.strip().splitlines()[-1]
        assert (code, "Traceback" in err) == (2, False), err
        assert last.startswith("Error: ")
        assert words in last
        assert last.endswith(f"; go on with: medseg train --resume {run}")
        assert not list(run.rglob(".*.tmp.*"))
        arguments = ("--resume", run)
    assert [entry.info.status for entry in _mlflow_runs(tmp_path)] == ["FAILED"]
    code, _, err = medseg("train", *arguments)
    assert code == 0, err
    _assert_same(run, tiny_run)
    _assert_mlflow_has_each_row_once(tmp_path, run)


@pytest.mark.slow
def test_a_run_killed_twenty_times_goes_on_as_if_nothing_had_happened(
    medseg: Any, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data", tiny_cohort, "--network", "small", "--set", "val_interval=16", "--steps", 96]
    options += ["--set", "handlers#checkpoints#every_steps=3", "--set", "handlers#steps#every=5"]
    (tmp_path / "reference").mkdir()
    monkeypatch.chdir(tmp_path / "reference")  # with a store of its own
    code, _, err = medseg("train", *options, "--output", tmp_path / "whole")
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    run, dice, kills, in_mid_checkpoint = tmp_path / "killed", random.Random(1), 0, 0

    def torn() -> bool:
        return any(run.glob("checkpoints/.*.tmp.*"))

    def changed() -> float:
        last = run / "checkpoints" / "last.pt"
        return last.stat().st_mtime_ns if last.exists() else 0

    while kills < 20:
        resume = (run / "config.yaml").exists()

        def progressed(before: float = changed()) -> bool:
            return changed() != before

        process = _start(*(["--resume", run] if resume else [*options, "--output", run]))
        if kills % 3 == 0:
            alive = _kill_when(process, lambda: torn() and dice.random() < 0.5)
        elif kills % 3 == 1:
            alive = _kill_when(process, progressed, dice.uniform(0, 0.5))
        else:
            alive = _kill_when(process, lambda: True, dice.uniform(0, 20))
        assert alive, "the run ended before it was killed often enough; give it more steps"
        kills += 1
        in_mid_checkpoint += torn()
    assert in_mid_checkpoint >= 3
    code, _, err = medseg("train", "--resume", run)
    assert code == 0, err
    _assert_same(run, tmp_path / "whole")
    _assert_mlflow_has_each_row_once(tmp_path, run)


@pytest.fixture(scope="module")
def finished(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the session's finished run, which forgets its store: what goes on here is tracked elsewhere."""
    folder = shutil.copytree(tiny_run, tmp_path_factory.mktemp("finished") / "run")
    (folder / "mlflow.json").unlink()
    return folder


def test_a_finished_run_is_extended_by_steps_and_changed_by_force(
    medseg: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.engine import Iteration

    run = shutil.copytree(finished, tmp_path / "run")
    saved = run / "checkpoints" / "last.pt"
    state = load_checkpoint(saved)
    state["handlers"]["JsonLines"]["seconds"] = 5000.0
    save_checkpoint(state, saved)
    with monkeypatch.context() as patch:
        patch.setattr(Iteration, "__call__", _failing(InputError("torn"), 1, Iteration.__call__))
        assert medseg("train", "--resume", run, "--steps", 6)[0] == 2
    assert not (run / "metrics.json").exists()  # which would be that of four steps
    changes = ("--set", "learning_rate=0.001", "--set", "optimizer#weight_decay=0.5", "--force")
    code, out, err = medseg("train", "--resume", run, "--steps", 6, *changes)
    assert code == 0, err
    said = "Resumed after step 4 of 6; learning_rate: 0.002 -> 0.001; optimizer#weight_decay: 0.01 -> 0.5"
    assert said in out
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    assert last["step"] == 6
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert 5000 < metrics["seconds"] < 5600  # that of both processes
    assert [group["weight_decay"] for group in last["optimizer"]["param_groups"]] == [0.5]
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 6
    rows = [(row["step"], row["kind"]) for row in _rows(run)]
    assert rows == [(2, "validation"), (4, "train"), (4, "validation"), (6, "train"), (6, "validation"), (6, "judged")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "learning_rate=0.1"), "learning_rate: 0.002 -> 0.1; take that back"),
        (("--set", "seed=3"), "seed: 0 -> 3"),
        (("--steps", 3), "steps: 4 -> 3"),
        (("--steps", 3, "--force"), "has done 4 steps already"),
        (("--method", "supervised"), "leave out --method"),
        (("--set", "plan_sizes#base_filters=6", "--force"), "the run keeps its plan; go on with its own"),
        (("--memory", "2GB", "--force"), "the run keeps its plan"),
        (("--init-from", "elsewhere"), "the run goes on with its own weights"),
    ],
)
def test_a_changed_config_is_refused(options: tuple[Any, ...], said: str, medseg: Any, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.*") if path.is_file()}
    code, out, err = medseg("train", "--resume", finished, *options)
    assert code == 2
    assert (out, err.count("Error: ")) == ("", 1), err
    assert said in err.splitlines()[-1]
    assert before == {path: path.read_bytes() for path in finished.rglob("*.*") if path.is_file()}


def test_changed_data_plan_or_checkpoint_is_refused(
    medseg: Any, tiny_cohort: Path, finished: Path, tmp_path: Path
) -> None:
    data, run = shutil.copytree(tiny_cohort, tmp_path / "data"), shutil.copytree(finished, tmp_path / "run")
    image = sorted((data / "imagesTr").glob("*"))[0]
    volume = nib.load(image)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj) + 1, volume.affine, volume.header), image)
    code, _, err = medseg("train", "--resume", run, "--data", data)
    assert code == 2
    assert "digest of the data: " in err
    plan = (run / "plan.yaml").read_text()
    (run / "plan.yaml").write_text(plan.replace("overlap: 0.5", "overlap: 0.25"))
    code, _, err = medseg("train", "--resume", run)
    assert code == 2
    assert "plan#inference#overlap: 0.5 -> 0.25" in err
    (run / "plan.yaml").write_text(plan)
    path = run / "checkpoints" / "last.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, _, err = medseg("train", "--resume", run)
    assert code == 2
    assert err.startswith(f"Error: {path}: damaged")


def test_two_processes_do_not_train_one_run(medseg: Any, finished: Path) -> None:
    with locked(finished):
        code, _, err = medseg("train", "--resume", finished, "--steps", 9)
    assert code == 2
    assert f"is being trained by process {os.getpid()}" in err


def test_there_must_be_a_run(medseg: Any, tmp_path: Path) -> None:
    code, _, err = medseg("train", "--resume", tmp_path)
    assert code == 2
    assert "no run to resume" in err


def test_an_early_end_is_taken_back_by_patience_and_by_steps(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    run, patience = tmp_path / "run", "handlers#early_stopping#patience"
    options = ("--data", tiny_cohort, "--network", "small", "--method", "supervised", "--runtime", "early_stopping")
    never = ("--set", "val_interval=1", "--set", "handlers#early_stopping#min_delta=1", "--set", f"{patience}=1")
    for arguments, step in (
        ((*options, *never, "--steps", 5, "--output", run), 2),
        (("--resume", run), 2),
        (("--resume", run, "--set", f"{patience}=2", "--force"), 3),
        (("--resume", run, "--steps", 9), 5),
    ):
        code, out, err = medseg("train", *arguments)
        assert code == 0, err
        assert load_checkpoint(run / "checkpoints" / "last.pt")["step"] == step
        assert json.loads((run / "metrics.json").read_text())["steps"] == step
        ends = "has ended: no better Dice than" in out
        assert ends == (arguments == ("--resume", run))


def test_another_machine_is_said(medseg: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.engine import precision

    run = shutil.copytree(finished, tmp_path / "run")
    before = load_checkpoint(run / "checkpoints" / "last.pt")["machine"]
    monkeypatch.setattr(precision, "has_bf16", lambda _: before["precision"] == "fp32")
    code, out, err = medseg("train", "--resume", run, "--steps", 5)
    assert code == 0, err
    now = {"fp32": "bf16", "bf16": "fp32"}[before["precision"]]
    assert f"Resumed after step 4 of 5; precision was {before['precision']}, is {now}" in out


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_step_that_hangs_without_harm(medseg: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from medseg.engine import Iteration\n"
        "step = Iteration.__call__\n"
        "def call(self, raw, progress):\n"
        "    if progress.step == 3:\n"
        "        Path('hangs').touch()\n"
        "        time.sleep(600)\n"
        "    return step(self, raw, progress)\n"
        "Iteration.__call__ = call\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ("--data", tiny_cohort, "--network", "small", "--method", "supervised", "--set", "val_interval=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        process = _start(*options, "--steps", 4, "--output", "run")
    try:
        end = time.monotonic() + 300
        while not (tmp_path / "hangs").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(2)
        assert process.poll() is None  # the step is waited for
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].endswith("go on with: medseg train --resume run")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == 2
    assert [entry.info.status for entry in _mlflow_runs(tmp_path)] == ["KILLED"]
    code, out, err = medseg("train", "--resume", "run")
    assert code == 0, err
    assert "Resumed after step 2 of 4" in out
