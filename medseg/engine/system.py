"""What the machine does meanwhile: processor, memory, graphics memory."""

from __future__ import annotations

import time

import psutil
import torch
from ignite.engine import Events

from medseg.engine.trainer import Trainer

__all__ = ["SystemMetrics"]


class SystemMetrics:
    """Logs a row of kind "system" at the first step and then every `seconds`, under MLflow's own names.

    `system/cpu_utilization_percentage` is of the whole machine since the row before; memory is the machine's in use and
    this process's; of a CUDA device, what torch has reserved there.

    Args:
        seconds: between rows.
    """

    first_only = True

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self._process = psutil.Process()
        self._next = 0.0

    def attach(self, trainer: Trainer) -> None:
        """Attaches to every step."""
        psutil.cpu_percent()  # the first answer is of no span of time
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Logs a row where one is due."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.seconds
        memory = psutil.virtual_memory()
        row = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        if trainer.state.device.type == "cuda":
            row["system/gpu_0_memory_usage_megabytes"] = torch.cuda.memory_reserved(trainer.state.device) / 1e6
        trainer.log("system", row)
