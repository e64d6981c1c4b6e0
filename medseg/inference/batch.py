"""Many volumes: one is read while another is predicted and a third is written; a bad one stops none of the others."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO

import numpy as np

from medseg.data.case import Case
from medseg.errors import InputError
from medseg.inference.findings import Findings, find_flags
from medseg.inference.inferer import PlannedInferer
from medseg.inference.model import Model
from medseg.inference.outputs import Outputs
from medseg.inference.volumes import Prediction, VolumeDataset, VolumeItem, segment

__all__ = ["Done", "Failure", "predict_cases"]

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Failure:
    """A case that could not be predicted, and why, on one line."""

    name: str
    problem: str


@dataclass(frozen=True)
class Done:
    """A case whose files are written, and what was found."""

    name: str
    findings: Findings


def predict_cases(
    cases: Sequence[Case],
    model: Model,
    inferer: PlannedInferer,
    outputs: Outputs,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
    progress: Callable[[int, float], None] | None = None,
) -> Iterator[Done | Failure]:
    """Predicts and writes every case, and says of each in their order what became of it.

    At most three volumes are held: the one that is predicted, the next and the last.

    Args:
        cases: what to predict.
        model: one network or an ensemble.
        inferer: the windows.
        outputs: where files go.
        context: entered around the networks: the precision.
        progress: called with the number of the case and the share of its windows that is done.
    """
    data = VolumeDataset(cases, model.plan, spans=True)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[VolumeItem] | None = None
        behind: tuple[Case, Future[Findings]] | None = None
        try:
            ahead = reader.submit(data.__getitem__, 0) if cases else None
            for i, case in enumerate(cases):
                assert ahead is not None  # one for each case
                item, problem = _result(case, ahead)
                ahead = reader.submit(data.__getitem__, i + 1) if i + 1 < len(cases) else None
                if item is not None:
                    prediction, problem = _predicted(case, item, model, inferer, outputs, context, progress, i)
                if behind is not None:
                    yield _outcome(*behind)
                    behind = None
                if problem is not None:
                    yield Failure(case.name, problem)
                elif item is not None and prediction is not None:
                    behind = case, writer.submit(_write, case, item, prediction, model, outputs)
            if behind is not None:
                yield _outcome(*behind)
        finally:
            if ahead is not None:
                ahead.cancel()


def _predicted(
    case: Case,
    item: VolumeItem,
    model: Model,
    inferer: PlannedInferer,
    outputs: Outputs,
    context: Callable[[], AbstractContextManager[object]],
    progress: Callable[[int, float], None] | None,
    index: int,
) -> tuple[Prediction | None, str | None]:
    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(index, done / total)

    try:
        with context(), _room(item, model, outputs) as probabilities:
            found = segment(item, model.networks, inferer, model.plan, probabilities, outputs.uncertainty, told)
            return found, None
    except Exception as error:  # whatever is wrong with one volume, the others are predicted
        return None, _line(case, error)


@contextmanager
def _room(item: VolumeItem, model: Model, outputs: Outputs) -> Iterator[np.ndarray | None]:
    """Where probabilities are kept: K volumes would not fit into memory, so they lie in a file without a name."""
    if not outputs.probabilities:
        yield None
        return
    shape = (model.plan.outputs, *item.grid.canonical)
    with tempfile.TemporaryFile(dir=outputs.folder) as file:
        try:
            _reserve(file, 2 * math.prod(shape))
        except OSError as error:
            raise InputError(f"{outputs.folder}: no room for probabilities ({error.strerror}); free space") from error
        yield np.memmap(file, np.uint16, "r+", shape=shape)


def _reserve(file: IO[bytes], size: int) -> None:
    """Has the disk set `size` bytes of zeros aside: in a file with holes, a full disk would end the process (SIGBUS)
    when a page of it is written."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:  # no such call here, or not for this file system
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        for begin in range(0, size, len(_ZEROS)):
            file.write(_ZEROS[: size - begin])
        file.flush()


def _write(case: Case, item: VolumeItem, prediction: Prediction, model: Model, outputs: Outputs) -> Findings:
    findings = find_flags(prediction.labels, prediction.confidence, item.geometry, model.plan, item.spans)
    outputs.write(case, item, prediction, findings)
    return findings


def _result(case: Case, future: Future[VolumeItem]) -> tuple[VolumeItem | None, str | None]:
    try:
        return future.result(), None
    except Exception as error:  # a broken file must not stop the batch, whatever its reader raises
        return None, _line(case, error)


def _outcome(case: Case, future: Future[Findings]) -> Done | Failure:
    try:
        return Done(case.name, future.result())
    except Exception as error:  # as above
        return Failure(case.name, _line(case, error))


def _line(case: Case, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{case.images[0]}: not enough memory for this volume; use a machine with more"
    return f"{case.images[0]}: {type(error).__name__}: {' '.join(str(error).split())}"
