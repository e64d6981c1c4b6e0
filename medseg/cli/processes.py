"""Several processes on this machine for one command, started as torchrun starts them."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["ending_with_us", "inside", "launch"]

# a step, a checkpoint and the end of the MLflow run after a signal; torchrun itself would allow 30 s
_SECONDS_TO_END = "120"
_CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def inside() -> bool:
    """Whether this process is one of several that were started already."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def ending_with_us(command: list[str]) -> list[str]:
    """`command`, which gets SIGTERM when this process is gone, also by `kill -9`; as it is where there is no `setpriv`
    (util-linux). A function for Popen's `preexec_fn` could lock up in a process that has threads."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", *command] if found else command


def launch(arguments: list[str], processes: int) -> int:
    """Runs `medseg ARGUMENTS` in so many processes; the exit code: that of the process that failed first, 128 + its
    number for a signal.

    Standard output and error are those of the first process; where another one fails first, the end of what it said.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # what it has to say is in the exit code and in what the processes print themselves
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SECONDS_TO_END)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="medseg",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        )
        before = {number: signal.getsignal(number) for number in _CAUGHT}
        try:
            elastic_launch(config, sys.executable)("-m", "medseg", *arguments)
        except ChildFailedError as error:
            return _failure(error, Path(folder))
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        finally:
            for number, handler in before.items():  # torch keeps its own for good
                signal.signal(number, handler)
    return 0


def _failure(error: Any, folder: Path) -> int:
    rank, first = error.get_first_failure()
    if first.exitcode < 0:
        print(f"process {rank}: ended by {signal.Signals(-first.exitcode).name}", file=sys.stderr)
    elif rank != 0:
        for log in sorted(folder.glob(f"*/attempt_0/{rank}/stderr.log")):
            said = log.read_text(encoding="utf-8", errors="replace").strip()
            if said:
                print(f"process {rank}: {said}", file=sys.stderr)
    return int(first.exitcode) if first.exitcode >= 0 else 128 - int(first.exitcode)
