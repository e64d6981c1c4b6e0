"""Imports inside medseg go only downward, wherever in a file they stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import medseg

PACKAGE = Path(medseg.__file__).parent

# A part may import itself and what is in the rows below its own.
RANKS = (
    {"__main__"},
    {"cli"},
    {"bundle", "api"},
    {"engine"},
    {"report", "tracking"},
    {"inference", "planning"},
    {"methods"},
    {"augment", "losses", "networks"},
    {"data"},
    {"plan", "metrics"},
    {"randomness", "files", "share", "ranks"},
    {"errors"},
)
# Leaves, of which more is asked: these and nothing else.
ONLY = {
    "losses": set(),
    "metrics": set(),
    "data": {"plan", "files", "errors", "randomness", "ranks"},
    "plan": {"files", "errors"},
    "report": {"metrics", "data", "plan", "files", "share", "errors"},
}
ONLY_IMPORTERS = {"mlflow": {"tracking"}}


def imported(source: str, package: str) -> Iterator[str]:
    """Dotted names that `source`, a module of `package`, imports anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # what is imported from medseg itself is a part; `from medseg import data` is no way around
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "medseg" else [base]


def part_of(name: str) -> str:
    return name.split(".")[1]


def edges() -> list[tuple[str, str, str]]:
    """(file, its part, dotted name that it imports)"""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative == Path("__init__.py"):
            part, package = "", "medseg"
        else:
            part, package = relative.parts[0].removesuffix(".py"), ".".join(("medseg", *relative.parts[:-1]))
        names = imported(path.read_text(encoding="utf-8"), package)
        found += [(str(relative), part, name) for name in names]
    return found


EDGES = edges()
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}


def allowed(importer: str, name: str) -> bool:
    if name == "medseg" or not name.startswith("medseg."):
        return True
    below = part_of(name)
    if importer == below:
        return True
    return below in ONLY[importer] if importer in ONLY else RANK[below] > RANK[importer]


def test_every_part_has_its_rank() -> None:
    parts = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem != "__init__"
    }
    assert parts == set(RANK)
    assert len(EDGES) > 200  # the walk finds them


def test_imports_go_only_downward() -> None:
    wrong = [f"{file} imports {name}" for file, part, name in EDGES if part and not allowed(part, name)]
    assert not wrong


def test_importing_medseg_imports_nothing() -> None:
    heavy = "{'torch', 'monai', 'numpy', 'medseg.api'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys, medseg; print({heavy})"], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done


def test_a_misspelt_overlay_is_refused_before_anything_heavy_is_imported() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "medseg", "train", "--processes", "2", "--set", "seed=1"]
    done = subprocess.run([*command, "--method", "meanteacher"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean 'mean_teacher'?" in done.stderr.splitlines()[-1]
    imported_there = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "medseg.cli.train" in imported_there
    assert not {"torch", "monai", "numpy"} & imported_there


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_libraries_that_one_part_wraps(library: str) -> None:
    importers = {part for _, part, name in EDGES if name.split(".")[0] == library}
    assert importers == ONLY_IMPORTERS[library]


def test_the_rule_itself() -> None:
    source = """
import medseg.cli.main, os
from medseg import engine, plan
def f():
    from medseg.data.cache import CaseCache
    from . import unet
    from ..losses import dice
    from .. import tracking
"""
    assert list(imported(source, "medseg.networks")) == [
        "medseg.cli.main",
        "os",
        "medseg.engine",
        "medseg.plan",
        "medseg.data.cache",
        "medseg.networks",
        "medseg.losses",
        "medseg.tracking",
    ]
    assert allowed("networks", "medseg.data.cache")
    assert allowed("networks", "medseg.networks.unet")
    assert allowed("networks", "torch")
    assert not allowed("networks", "medseg.losses")
    assert not allowed("networks", "medseg.cli")
    assert not allowed("losses", "medseg.errors")
    assert not allowed("data", "medseg.metrics")
    assert not allowed("planning", "medseg.inference")
