"""Which unlabelled cases a label would teach most: where networks hesitate, disagree, and have seen nothing alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from medseg.inference.inferer import PlannedInferer
from medseg.inference.volumes import VolumeItem, segment
from medseg.inference.windows import pad_with_edge, window_starts
from medseg.networks.unet import UNet
from medseg.plan import Plan

__all__ = ["Looked", "Suggestion", "case_features", "look", "rank_cases"]


@dataclass(frozen=True)
class Looked:
    """What networks make of a case.

    Attributes:
        name: the case's.
        uncertainty: the entropy over the volume, in voxels, per voxel of predicted foreground: how much of what is
            found is in doubt. Where next to nothing is found, per hundredth of the volume.
        disagreement: 1 - mean Dice of the first two networks' predictions over the classes that one of them finds; 0
            for one network.
        features: of the first network, see `case_features`.
    """

    name: str
    uncertainty: float
    disagreement: float
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """A case at its place in the ranking; `novelty` is the cosine distance of its features to the nearest one of the
    labelled cases and of those ranked before it."""

    name: str
    score: float
    uncertainty: float
    disagreement: float
    novelty: float


def look(item: VolumeItem, networks: Sequence[UNet], inferer: PlannedInferer, plan: Plan) -> Looked:
    """What `networks`, in evaluation mode, make of a volume."""
    found = segment(item, networks, inferer, plan, uncertainty=True)
    assert found.uncertainty is not None  # asked for
    foreground = max(int((found.labels > 0).sum()), found.labels.size // 100, 1)
    alone = [segment(item, [network], inferer, plan).labels for network in networks[:2]] if len(networks) > 1 else []
    return Looked(
        item.name,
        float(found.uncertainty.sum(dtype=np.float64)) / foreground,
        _disagreement(*alone) if alone else 0.0,
        case_features(item, networks[0], plan),
    )


def rank_cases(cases: Sequence[Looked], labelled: Sequence[NDArray[np.float64]] = ()) -> list[Suggestion]:
    """All cases, the one to be labelled first at the front; `labelled` are the features of the labelled ones.

    One after the other the case with the highest product of doubt and novelty is taken (uncertainty with a core-set,
    Sener & Savarese 2018, arXiv:1708.00489): doubt is the mean of the ranks of uncertainty and disagreement, from above
    0 to 1; novelty the distance to the nearest labelled or taken case, against the largest at the start. The very
    first without labelled cases has novelty 1.
    """
    if not cases:
        return []
    doubt = (_ranks([c.uncertainty for c in cases]) + _ranks([c.disagreement for c in cases])) / 2
    features = np.stack([case.features for case in cases])
    distance = np.ones(len(cases))
    for one in labelled:
        distance = np.minimum(distance, _distances(features, one))
    largest = max(float(distance.max()), 1e-12)
    left, found = list(range(len(cases))), []
    while left:
        scores = doubt[left] * distance[left] / largest
        # equal ones, such as copies of what is labelled, by their doubt
        best = left[int(np.lexsort((doubt[left], scores))[-1])]
        case = cases[best]
        score = float(doubt[best] * distance[best] / largest)
        found.append(Suggestion(case.name, score, case.uncertainty, case.disagreement, float(distance[best])))
        left.remove(best)
        distance = np.minimum(distance, _distances(features, case.features))
    return found


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """1 / n for the smallest to 1 for the largest; equal values share the mean of their ranks."""
    return np.asarray(rankdata(values), np.float64) / len(values)


def _distances(features: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine distances, 0 to 2, of vectors of length 1."""
    return np.clip(1 - features @ one, 0, 2)


def _disagreement(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    values = (set(np.unique(one)) | set(np.unique(other))) - {0}
    if not values:
        return 0.0
    dice = [2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum()) for v in values]
    return float(1 - np.mean(dice))


def _tiles(images: Tensor, patch: Sequence[int]) -> Iterator[Tensor]:
    """Windows (C, *patch) side by side over a volume (C, X, Y, Z)."""
    padded, _ = pad_with_edge(images, patch)
    starts = [window_starts(n, p, 0.0) for n, p in zip(padded.shape[1:], patch, strict=True)]
    for x, y, z in itertools.product(*starts):
        yield padded[:, x : x + patch[0], y : y + patch[1], z : z + patch[2]]


@torch.no_grad()
def case_features(item: VolumeItem, network: UNet, plan: Plan) -> NDArray[np.float64]:
    """(C,) the mean of the network's deepest map over the volume, of length 1."""
    device = next(network.parameters()).device
    deepest = f"encoder{len(plan.network.filters) - 1}"
    means = [
        network.outputs(window[None].to(device)).features[deepest].float().mean((0, 2, 3, 4)).cpu()
        for window in _tiles(torch.from_numpy(item.images), plan.patch_size)
    ]
    mean = torch.stack(means).mean(0).double().numpy()
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12))
