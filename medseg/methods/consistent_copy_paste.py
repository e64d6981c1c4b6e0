"""The flagship: pseudo-labels of whole images; box mix, agreement, twins, feature consistency, entropy on request."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.augment import Batch, BoxMix, IntensityRemap, Targets, apply_remap
from medseg.errors import InputError
from medseg.losses import FeatureCosineLoss, entropy_loss
from medseg.methods.base import Loss, MethodOutput, Models, Progress, unlabelled_part
from medseg.methods.forward import forward_all
from medseg.methods.mixing import Pairs, View, add_segmentation
from medseg.methods.ramps import Ramp
from medseg.methods.teaching import Taught, taught
from medseg.networks.unet import NetworkOutput

__all__ = ["ConsistentCopyPaste"]


class ConsistentCopyPaste:
    """A teacher's labels late in the run, of whole images or mixed ones, where it agrees with itself; twins, features.

    Source: BCP (arXiv:2305.00673), FixMatch (arXiv:2001.07685), entropy minimisation (Grandvalet & Bengio 2005) and
        feature consistency combined; each term is named and can be switched on. On are those that paid
        (docs/benchmarks.md): pseudo-labels of whole images, their largest components

    Cost: before the ramp a supervised step of the labelled half alone. Then, with n labelled and m unlabelled images, a
        student forward and backward on n + m images (m more with `whole`), all in one pass, and a teacher forward on m
        (2 m more with `agreement`); twins double the student's images throughout

    Args:
        loss: of the network's heads against label and mask.
        threshold: the teacher's probability from which on a voxel is kept; 0 keeps all.
        components: whether only the largest component of each class of a pseudo-label is kept.
        agreement: whether a voxel must have the same label, confidently, when the teacher sees it in the mixed images.
        box: how large the box is; None mixes nothing, and the unlabelled image is learned as a whole.
        whole: whether the unlabelled image is learned as a whole beside the mixed ones.
        twins: the intensity remap of the twins; None makes none.
        feature_weight: of the cosine between the features of images and twins, over known or kept foreground; 0 is off.
        feature_stage: which of the network's features.
        entropy_weight: of the entropy of the student on unlabelled voxels; 0 is off.
        ramp: the weight of all that rests on unlabelled images, over the run.
    """

    students = 1
    needs_teacher = True
    needs_unlabelled = True

    def __init__(
        self,
        loss: Loss,
        threshold: float = 0.0,
        components: bool = True,
        agreement: bool = False,
        box: BoxMix | None = None,
        whole: bool = False,
        twins: IntensityRemap | None = None,
        feature_weight: float = 0.0,
        feature_stage: str = "decoder0",
        entropy_weight: float = 0.0,
        ramp: Ramp | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, found {threshold}")
        if feature_weight and twins is None:
            raise ValueError("feature_weight compares images with their twins: give twins an IntensityRemap")
        if agreement and box is None:
            raise ValueError("agreement is that of mixed images: give a box")
        self.loss = loss
        self.threshold = threshold
        self.components = components
        self.agreement = agreement
        self.box = box
        self.whole = whole or box is None
        self.twins = twins
        self.feature_weight = feature_weight
        self.feature_stage = feature_stage
        self.entropy_weight = entropy_weight
        self.ramp = ramp or Ramp(weight=1.0, start=0.4, length=0.1, not_before=300)
        self.cosine = FeatureCosineLoss()

    def losses(self, batch: Batch, models: Models, progress: Progress) -> MethodOutput:
        """The terms `labelled`, `mixed`, `whole`, those of their twins, `features` and `entropy`, as switched on."""
        weight = self.ramp(progress)
        views = {"labelled": View.of(batch.labelled)} if weight == 0 or self.box is None else {}
        output = MethodOutput({}, {}, {"ramp": weight})
        pairs: Pairs | None = None
        if weight:
            part = unlabelled_part(batch)
            pseudo = self.pseudo_label(batch, models)
            output.diagnostics.update(pseudo.shares(part.mask))
            output.pictures.update(pseudo.pictures(part))
            if self.box is not None:
                pairs = Pairs.of(batch, self.box)
                views |= {"labelled": View.of(pairs.alone), "mixed": pairs.mixed(pseudo, weight)}
            if self.whole:
                views["whole"] = View(part.strong, pseudo.label, pseudo.kept.float(), None, part.slots, weight)
        views = {name: view for name, view in views.items() if len(view.image)}
        images = {name: view.image for name, view in views.items()}
        if self.twins is not None:
            images |= {f"{name}_twin": self._twin(batch, name, view) for name, view in views.items()}
        if "mixed" in views:
            output.pictures.update(views["mixed"].pictures())
        output.pictures.update({name.replace("_", " "): image for name, image in images.items() if "_twin" in name})
        found = forward_all(models.students[0], images)
        add_segmentation(output, self.loss, views, found, batch.targets, progress)
        self._features(output, views, found, batch.targets)
        if weight and self.entropy_weight:
            self._entropy(output, pairs, found, weight, batch)
        return output

    def pseudo_label(self, batch: Batch, models: Models) -> Taught:
        """The teacher's, where it agrees with itself if that is asked for."""
        teacher = models.the_teacher()
        pseudo = taught(teacher, unlabelled_part(batch), batch.targets, self.threshold, self.components)
        if not self.agreement or self.box is None:
            return pseudo
        return self._agreed(pseudo, Pairs.of(batch, self.box), teacher, batch.targets)

    def _agreed(self, pseudo: Taught, pairs: Pairs, teacher: nn.Module, targets: Targets) -> Taught:
        """The pseudo-label kept only where the teacher says the same of the mixed images, confidently too."""
        m = len(pairs.box)
        with torch.no_grad():
            again = targets.pseudo(teacher(pairs.both(pairs.labelled.weak, pairs.unlabelled.weak)))
            _, label = pairs.apart(again.label)
            _, confidence = pairs.apart(again.confidence)
            same = (label == pseudo.label[:m]).all(1, keepdim=True)
            agreed = same & (confidence >= self.threshold)
        kept = pseudo.kept.clone()
        kept[:m] &= agreed
        return pseudo._replace(kept=kept, agreed=same)

    def _twin(self, batch: Batch, name: str, view: View) -> Tensor:
        assert self.twins is not None
        return apply_remap(view.image, self.twins.draw(*batch.key, view.slots, view.image.shape[1], f"{name} twin"))

    def _features(
        self, output: MethodOutput, views: dict[str, View], found: dict[str, NetworkOutput], targets: Targets
    ) -> None:
        """Adds the distance of the features of images and twins, over foreground: a mean over images, in each of which
        voxels count as in the loss. Images of any kind count alike."""
        if not self.feature_weight:
            return
        names = list(views)
        known = found[names[0]].features
        if self.feature_stage not in known:
            raise InputError(f"method#feature_stage: '{self.feature_stage}'; the network has {', '.join(known)}")
        features, twins = (
            torch.cat([found[name + suffix].features[self.feature_stage] for name in names]) for suffix in ("", "_twin")
        )
        foreground = torch.cat([targets.foreground(views[name].label) * views[name].mask.float() for name in names])
        output.terms["features"] = self.cosine(features, twins, foreground)
        output.weights["features"] = self.feature_weight

    def _entropy(
        self, output: MethodOutput, pairs: Pairs | None, found: dict[str, NetworkOutput], weight: float, batch: Batch
    ) -> None:
        """Adds the entropy of the student on the voxels of the unlabelled images."""
        if pairs is not None:
            logits, inside = pairs.apart(found["mixed"].logits)[1], pairs.unlabelled.mask
        else:
            logits, inside = found["whole"].logits, unlabelled_part(batch).mask
        output.terms["entropy"] = entropy_loss(logits, inside, activation=batch.targets.activation)
        output.weights["entropy"] = weight * self.entropy_weight
