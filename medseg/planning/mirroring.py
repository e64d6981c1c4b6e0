"""Whether patches may be mirrored, judged by what the classes are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

__all__ = ["mirror_axes"]

_SIDED = {"left", "right", "l", "r", "lt", "rt", "lh", "rh", "sinister", "dexter", "sin", "dex", "ipsilateral",
          "contralateral"}  # fmt: skip
# the trunk's single organs and vessels: a mirrored one is another anatomy
_ASYMMETRIC = {"liver", "hepatic", "spleen", "stomach", "pancreas", "pancreatic", "gallbladder", "colon", "duodenum",
               "bowel", "intestine", "cecum", "caecum", "appendix", "esophagus", "oesophagus", "heart", "cardiac",
               "atrium", "atrial", "ventricle", "myocardium", "aorta", "cava", "ivc", "portal", "abdomen",
               "abdominal"}  # fmt: skip
# what lies on either side alike
_LESIONS = {"lesion", "lesions", "tumor", "tumors", "tumour", "tumours", "sarcoma", "metastasis", "metastases",
            "nodule", "nodules", "gtv", "gtvp", "gtvn", "edema", "oedema", "necrosis", "infarct", "stroke",
            "hemorrhage", "haemorrhage", "aneurysm", "aneurysms", "hyperintensity", "hyperintensities", "glioma",
            "node", "nodes"}  # fmt: skip
_SYMMETRIC = {"prostate", "bladder", "brain", "kidney", "kidneys", "lung", "lungs", "femur", "femurs", "vertebra",
              "vertebrae", "sacrum", "spine", "thyroid", "eye", "eyes", "uterus", "mandible", "skull"}  # fmt: skip


def mirror_axes(dataset: str, classes: Iterable[str]) -> tuple[tuple[Literal[0], ...], str]:
    """The axes to mirror along, and why. None but left to right (axis 0): bodies differ between front and back and
    between head and feet. And that only where every foreground class is known to look alike on both sides: a lesion, or
    an organ that is paired or lies in the middle. A name that says nothing, such as "class 1", keeps mirroring off:
    what is gained is a little variety, what may be lost is the difference between two classes.

    Args:
        dataset: its name, which may tell the organ.
        classes: names of the foreground classes.
    """
    named = [(name, _words(name)) for name in classes]
    for name, words in named:
        if words & _SIDED:
            return (), f"class {name} has a side; mirrored it would be another class"
    for name, words in (*named, (dataset, _words(dataset))):
        if words & _ASYMMETRIC:
            return (), f"{name} lies in an asymmetric part of the body"
    for name, words in named:
        if not words & (_LESIONS | _SYMMETRIC):
            return (), f"nothing says that {name} looks alike on both sides"
    return (0,), f"left to right: {', '.join(name for name, _ in named)} may lie on either side or in the middle"


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
