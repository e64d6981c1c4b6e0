"""Several networks of one plan as one: their mean."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    """The mean of its members' logits, (B, K, X, Y, Z) float32. Prediction takes it apart again (see `split`).

    Raises:
        ValueError: no member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one network")
        self.members = nn.ModuleList(members)

    def forward(self, windows: Tensor) -> Tensor:
        total: Tensor = self.members[0](windows).float()
        for member in list(self.members)[1:]:
            total = total + member(windows)
        return total / len(self.members)
