"""What the methods' tests share is imported by name; importlib mode does not put this folder on the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
