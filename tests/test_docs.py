"""The pages of docs/ build without a warning, with what they take from the code; a broken link is noticed."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from typer.main import get_command

from medseg.cli.main import app, register

ROOT = Path(__file__).parents[1]


def built(docs: Path, site: Path) -> dict[str, str]:
    """The pages of the site, by name."""
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(site)))
    return {path.stem: path.read_text(encoding="utf-8") for path in site.glob("*.html")}


def test_the_pages_build_and_hold_what_the_code_says(tmp_path: Path) -> None:
    pages = built(ROOT / "docs", tmp_path / "site")
    for command in ("medseg tune-postprocessing", "medseg data split", "medseg runs sync"):
        assert f'id="{command.replace(" ", "-")}"' in pages["cli"], command
    assert "--max-minutes &lt;float&gt;" in pages["cli"]
    for page in pages.values():
        assert "from the code:" not in page
        for fetched in re.findall(r"<(?:script|link|img)\b[^>]*\b(?:src|href)=\"(http[^\"]*)", page):
            pytest.fail(f"fetched from the net: {fetched}")


def test_what_is_broken_ends_the_build(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (docs / "extra.md").write_text("# A page that no list names\n")
    with (docs / "security.md").open("a") as page:
        page.write("\n[a](absent.md) [b](data.md#absent) [c](../configs/absent.yaml) [d](/data.md) [e](Makefile)\n")
        page.write("\nA list without an empty line before it:\n- one\n- two\n")
    with pytest.raises(Abort, match="7 warnings"), caplog.at_level(logging.WARNING, "mkdocs"):
        built(docs, tmp_path / "site")
    said = "\n".join(record.getMessage() for record in caplog.records)
    for fault in (
        "extra.md",
        "absent.md",
        "#absent",
        "configs/absent.yaml",
        "/data.md",
        "Makefile",
        "no list or table",
    ):
        assert fault in said, fault


def written_commands() -> list[tuple[str, list[str]]]:
    """Every `medseg ...` in code of the pages, as the page and the words behind `medseg`."""
    found = []
    for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
        indented = "\n".join(
            re.findall(r"^ {4}.*$", re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        )
        typed = re.findall(r"^\s*(?:.* -m )?medseg (.*)$", f"{fenced}\n{indented}", re.MULTILINE)
        inline = re.findall(r"`(?:\w+ -m )?medseg\s+([^`]*)`", text)
        found += [(path.name, re.split(r" +#| &$", command)[0].split()) for command in (*typed, *inline)]
    return found


def test_every_command_and_option_that_is_written_exists() -> None:
    register()
    commands = written_commands()
    assert len(commands) > 80
    for page, words in commands:
        command = get_command(app)
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        given = {word.strip("[]").split("=")[0] for word in words if word.strip("[").startswith("--")}
        known = {option for param in command.params for option in param.opts}
        unknown = sorted(given - known - {"--CONCERN", "--help"})  # a placeholder, and what all have
        assert not unknown, f"{page}: medseg {command.name}: {unknown}"
        named = not words or words[0].isupper() or words[0].startswith("--")
        assert not hasattr(command, "commands") or named, f"{page}: no command {' '.join(words)}"
