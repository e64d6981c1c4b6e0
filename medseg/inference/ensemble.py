"""Several networks of one plan as one: their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["Ensemble", "mean_logits"]


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
        return mean_logits(list(self.members), windows)


def mean_logits(networks: Sequence[Callable[[Tensor], Tensor]], windows: Tensor) -> Tensor:
    """The mean of what `networks` make of windows (B, C, X, Y, Z): (B, K, X, Y, Z) float32."""
    total = networks[0](windows).float()
    for network in networks[1:]:
        total = total + network(windows)
    return total / len(networks)
