"""A trained model as a MONAI bundle: a folder and a zip that MONAI's own tools check, convert and run."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import medseg
from medseg.errors import InputError, first_line
from medseg.files import write_text, writing
from medseg.inference.model import load_model, model_folder
from medseg.plan import Plan
from medseg.share import bundle_folder

__all__ = ["export_bundle", "model_metadata"]

_CONFIGS = ("inference.yaml", "evaluate.yaml", "logging.conf")
_ROOT = """bundle_root: "$str(medseg.bundle.bundle_folder())"\n"""


def export_bundle(run: Path, output: Path) -> tuple[Path, Path]:
    """Writes the bundle of a model to the folder `output` and to `output`.zip, whole or not at all.

    The weights are there twice: as safetensors, which `load_model` reads, and as `models/model.pt`, a plain state dict
    (readable with `weights_only`), which MONAI's tools look for.

    Args:
        run: a run's folder or a model folder.
        output: made here; must not exist yet.

    Returns:
        The folder and the zip.

    Raises:
        InputError: there is no model, or `output` exists or cannot be written.
    """
    source = model_folder(run)
    _refuse_existing(output)
    archive = output.with_name(f"{output.name}.zip")
    _refuse_existing(archive)
    model = load_model(source)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".") as temporary:
            made = Path(temporary) / output.name
            _fill(made, source, model.plan)
            try:
                torch.save(model.network.state_dict(), made / "models" / "model.pt")
            except RuntimeError as error:  # what torch makes of a full disk
                raise OSError(errno.ENOSPC, first_line(error)) from error
            with writing(archive) as packed:
                _pack(made, packed)
            made.rename(output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    return output, archive


def model_metadata(plan: Plan) -> dict[str, Any]:
    """The bundle's metadata with what `plan` says of the network's input and output."""
    base = json.loads((bundle_folder() / "configs" / "metadata.json").read_text(encoding="utf-8"))
    targets = [region.name for region in plan.regions] or list(plan.class_names)
    installed = {name: _installed(name) or known for name, known in base["required_packages_version"].items()}
    image, pred = base["network_data_format"]["inputs"]["image"], base["network_data_format"]["outputs"]["pred"]
    names = [channel.name for channel in plan.channels]
    image |= {
        "format": "magnitude" if all(c.normalisation == "zscore" for c in plan.channels) else "hounsfield",
        "modality": ", ".join(names),
        "num_channels": len(names),
        "spatial_shape": list(plan.patch_size),
        "channel_def": {str(i): name for i, name in enumerate(names)},
    }
    pred |= {
        "num_channels": plan.outputs,
        "spatial_shape": list(plan.patch_size),
        "channel_def": {str(i): name for i, name in enumerate(targets)},
    }
    return base | {
        "monai_version": _installed("monai") or base["monai_version"],
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": _installed("numpy") or base["numpy_version"],
        "required_packages_version": installed | {"medseg": medseg.__version__},
        "name": f"medseg {plan.name}",
        "data_source": plan.name,
        "image_classes": f"{', '.join(names)}, prepared as models/plan.yaml says",
        "label_classes": ", ".join(f"{value} {name}" for value, name in sorted(plan.classes.items())),
        "pred_classes": ", ".join(targets),
    }


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path}: exists already; choose another --output, or remove it")


def _fill(folder: Path, source: Path, plan: Plan) -> None:
    template = bundle_folder()
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    for name in _CONFIGS:
        text = (template / "configs" / name).read_text(encoding="utf-8")
        # run from the bundle's folder, or with --bundle_root; MONAI Label sets it
        write_text(folder / "configs" / name, text.replace(_ROOT, "bundle_root: .\n"))
    write_text(folder / "configs" / "metadata.json", json.dumps(model_metadata(plan), indent=4) + "\n")
    for name in ("model.safetensors", "plan.yaml", "model_card.md"):
        if (source / name).is_file():  # a model may have no card
            shutil.copyfile(source / name, folder / "models" / name)
    shutil.copyfile(template / "LICENSE", folder / "LICENSE")
    card = source / "model_card.md"
    shutil.copyfile(card if card.is_file() else template / "docs" / "README.md", folder / "docs" / "README.md")


def _pack(folder: Path, archive: Path) -> None:
    """Names in order and no times: equal bundles are equal bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(Path(folder.name) / file.relative_to(folder)))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, file.read_bytes())


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
