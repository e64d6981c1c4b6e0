"""What `mkdocs build` does besides: it writes what docs/ takes from the code, and leads links that leave docs/.

A part of a page between `<!-- from the code: NAME -->` and `<!-- end -->` is replaced; what stands there is for those
who read the file itself. A warning ends the build, which is strict.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("mkdocs.hooks.docs")
PART = re.compile(r"<!-- from the code: (.+?) -->.*?<!-- end -->", re.DOTALL)
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#\s]+)(#[^)\s]*)?\)")
KEY = re.compile(r"^(\w+): (.+?)(?:\s+# (.*))?$")
UNMADE = re.compile(r"<p>(?:[^<]|<(?!/p>))*?\n *(?:[-*] |\d+\. |\|)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """The page with its parts from the code, and with links to other files of the repository."""
    made = PART.sub(lambda found: "\n".join(part(found[1])), markdown)
    return OUTSIDE.sub(lambda found: outside(page.file.src_uri, config["repo_url"], *found.groups()), made)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Warns of what GitHub shows as a list or table and mkdocs does not."""
    for found in UNMADE.finditer(html):
        text = " ".join(found[0].split())[-60:]
        LOG.warning(
            "%s: no list or table to mkdocs (an empty line before, four spaces inside): %s", page.file.src_uri, text
        )
    return html


def outside(page: str, repository: str | None, text: str, path: str, anchor: str | None) -> str:
    """A link to a file outside docs/: in the published repository, or in the checkout beside the site."""
    if not (ROOT / path).exists():
        LOG.warning("%s: link to '%s', which is not in the repository", page, path)
    base = f"{repository.rstrip('/')}/blob/main/" if repository else "../"
    return f'<a href="{base}{path}{anchor or ""}">{text}</a>'


def part(name: str) -> Iterator[str]:
    """The lines of a part: `commands`, `overlays`, or the keys of a config of the bundle, such as `train.yaml`."""
    if name == "commands":
        return commands()
    if name == "overlays":
        return overlays()
    return keys(ROOT / "bundles" / "unet3d" / "configs" / name)


def keys(path: Path) -> Iterator[str]:
    """The keys that a user sets, as a table: those from `bundle_root` to the next empty line."""
    block = path.read_text(encoding="utf-8").split("\nbundle_root:")[1].split("\n\n")[0]
    yield from ("| key | default | meaning |", "|---|---|---|")
    for line in f"bundle_root:{block}".splitlines():
        found = KEY.match(line)
        if found is None:
            raise ValueError(f"{path}: expected KEY: VALUE # meaning, found {line!r}")
        key, value, meaning = found.groups(default="")
        if not meaning:
            LOG.warning("%s: key %s has no comment that says what it is", path.name, key)
        yield f"| `{key}` | `{value}` | {meaning} |"


def overlays() -> Iterator[str]:
    """The overlays by concern, each with the first line of its comment."""
    for concern in sorted(path for path in (ROOT / "configs").iterdir() if path.is_dir()):
        yield from (f"### {concern.name}", "", "| name | what it is |", "|---|---|")
        for path in sorted(concern.glob("*.yaml")):
            first = path.read_text(encoding="utf-8").splitlines()[0]
            yield f"| `{path.stem}` | {first.removeprefix('# ')} |"
        yield ""


def commands() -> Iterator[str]:
    """All commands: what `--help` says of each."""
    from typer import Context
    from typer.main import get_command

    from medseg.cli.main import app, register

    register()
    root = get_command(app)
    yield from command(root, Context(root, info_name="medseg"), "medseg")


def command(one: Any, context: Any, name: str) -> Iterator[str]:
    """One command and those below it."""
    names = one.list_commands(context) if hasattr(one, "commands") else []
    if name != "medseg":
        yield from (f"{'#' * (1 + name.count(' '))} {name}", "")
        yield from described(one.help or "", " ".join([name, *one.collect_usage_pieces(context)]))
    if name != "medseg" and not names:
        records = [param.get_help_record(context) for param in one.get_params(context)]
        yield from ("| option | meaning |", "|---|---|")
        yield from (f"| `{found[0]}` | {found[1]} |" for found in records if found and found[0] != "--help")
        yield ""
    for sub in names:
        found = one.get_command(context, sub)
        yield from command(found, type(context)(found, info_name=sub, parent=context), f"{name} {sub}")


def described(text: str, usage: str) -> Iterator[str]:
    """What the help of a command says: the text, then the usage and the examples as they are typed."""
    said, _, examples = text.replace("\b", "").partition("\nExample:\n")
    typed = [line.strip() for line in examples.splitlines() if line.strip()]
    yield from (said.strip(), "", "```text", usage, *(["", *typed] if typed else []), "```", "")
