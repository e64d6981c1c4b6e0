"""`python -m medseg`, and so `torchrun -m medseg predict ...`."""

from __future__ import annotations

from medseg.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
