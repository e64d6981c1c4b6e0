"""What a teacher says about unlabelled images, and where it is to be believed."""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import torch
from torch import Tensor, nn

from medseg.augment import Targets, Unlabelled

__all__ = ["Taught", "largest_components", "taught"]


class Taught(NamedTuple):
    """A pseudo-label in the form of `Targets.of`, where it counts (B, 1, D, H, W) bool, and its foreground. `agreed`:
    where a second look, of which there may be fewer samples, gave the same label."""

    label: Tensor
    kept: Tensor
    foreground: Tensor
    agreed: Tensor | None = None

    def shares(self, inside: Tensor) -> dict[str, Tensor | float]:
        """For tracking: of the voxels `inside`, how many are kept, of these how many are foreground, and how many
        agreed."""
        kept = self.kept.sum()
        found: dict[str, Tensor | float] = {
            "kept_share": kept / inside.sum().clamp_min(1),
            "kept_foreground_share": (self.kept & self.foreground).sum() / kept.clamp_min(1),
        }
        if self.agreed is not None:
            looked_at = inside[: len(self.agreed)]
            found["agreement_share"] = (self.agreed & looked_at).sum() / looked_at.sum().clamp_min(1)
        return found

    def pictures(self, part: Unlabelled) -> dict[str, Tensor]:
        """Both views of the images, their pseudo-label, and where it counts."""
        seen = {"weak view": part.weak, "strong view": part.strong, "pseudo-label": self.label, "kept": self.kept}
        return seen if self.agreed is None else {**seen, "agreement": self.agreed}


@torch.no_grad()
def taught(
    teacher: nn.Module, part: Unlabelled, targets: Targets, threshold: float, components: bool = False
) -> Taught:
    """The teacher's label of the weak view, kept inside the volume where its probability is at least `threshold` and,
    with `components`, not in a smaller component of a class."""
    pseudo = targets.pseudo(teacher(part.weak))
    kept = (pseudo.confidence >= threshold) & part.mask
    if components:
        kept &= largest_components(pseudo.label, targets)
    return Taught(pseudo.label, kept, pseudo.foreground)


def largest_components(label: Tensor, targets: Targets) -> Tensor:
    """(B, 1, D, H, W) bool: False in every 26-connected component of a foreground class or region that is not its
    largest in the sample. Computed on the CPU."""
    keep = torch.ones_like(label[:, :1], dtype=torch.bool, device="cpu")
    for channel in targets.classes_of(label):
        for sample, there in enumerate(channel[:, 0].cpu().numpy()):
            if there.any():
                keep[sample, 0] &= torch.from_numpy(~there | (cc3d.largest_k(there, k=1, connectivity=26) > 0))
    return keep.to(label.device)
