"""What `--set` makes of its text."""

from __future__ import annotations

from typing import Any

import pytest

from medseg.cli.composition import assignment


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        (str(1e-05), 1e-05),  # as a search writes it
        ("-2.5E3", -2500.0),
        ("0.1", 0.1),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("[1, a]", [1, "a"]),
        ("'1e-4'", "1e-4"),
        ("1e-4x", "1e-4x"),
    ],
)
def test_values_are_read_as_people_mean_them(text: str, value: Any) -> None:
    key, found = assignment(f"a#b={text}")
    assert (key, found, type(found)) == ("a#b", value, type(value))
