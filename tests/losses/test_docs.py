"""docs/losses.md says what the docstrings say, and points to tests and figures that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_family_is_up_to_date() -> None:
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert script("document_losses").rewritten(text) == text, "run python scripts/document_losses.py"


def test_links_and_named_tests_exist() -> None:
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_loss*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for figure in (ROOT / "docs" / "figures").glob("losses_*.png"):
        assert figure.stat().st_size < 100_000
