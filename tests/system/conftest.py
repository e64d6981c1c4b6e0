"""What several system tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def model(small_plan: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights: what it says matters to no test that takes it."""
    from medseg.inference import save_model
    from medseg.networks import planned_unet

    plan = small_plan(classes={0: "background", 1: "liver", 2: "liver tumour"})
    return save_model(tmp_path_factory.mktemp("model"), planned_unet(plan, seed=3).state_dict(), plan)
