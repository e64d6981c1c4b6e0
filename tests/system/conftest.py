"""Commands as a user types them, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`medseg("train", "--steps", 3)` gives exit code, standard output and standard error."""
    from medseg.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medseg", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run
