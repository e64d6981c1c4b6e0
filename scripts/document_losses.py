"""Writes the part of docs/losses.md that the docstrings of the losses say, so that it is not written twice.

python scripts/document_losses.py
"""

from __future__ import annotations

from pathlib import Path

from medseg import losses
from medseg.files import write_text
from medseg.losses.describe import Description, describe
from medseg.report.configs import short_name

START, END = "<!-- from the docstrings: python scripts/document_losses.py -->", "<!-- end of the docstrings -->"


def main() -> None:
    """Rewrites what is between the two marks."""
    path = Path(__file__).parents[1] / "docs" / "losses.md"
    write_text(path, rewritten(path.read_text(encoding="utf-8")))


def rewritten(text: str) -> str:
    """`text` with the descriptions of all losses between the marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    described = [section(describe(getattr(losses, name))) for name in losses.__all__ if name.endswith("Loss")]
    return f"{before}{START}\n\n" + "\n".join(described) + f"{END}{after}"


def section(loss: Description) -> str:
    """One loss in Markdown."""
    lines = [f"### {loss.name}\n", f"{loss.summary} `medseg losses {short_name(loss.name)}` has its parameters.\n"]
    for title, text in loss.sections.items():
        lines.append(f"- **{title}:** `` {text} ``" if title == "Formula" else f"- **{title}:** {text}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
