"""`medseg methods`: the ways to use labels and their absence, and a picture of what one does to the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from medseg.cli.composition import assignment, budget_of_labels, composed, parsed
from medseg.cli.described import print_description
from medseg.errors import InputError, nearest
from medseg.share import overlay_names

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["methods"]


def methods(
    name: Annotated[str | None, typer.Argument(help="A method, such as copy_paste.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Draw what the method does to this data in one step.")
    ] = None,
    labelled: Annotated[str | None, typer.Option(metavar="N|all", help="Cases whose labels may be read.")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The network that labels, such as runs/NAME/model.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Without --model: supervised steps that train one first.", min=1)] = 40,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The picture.")] = Path("method.png"),
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config, as a#b#c.")
    ] = None,
) -> None:
    """List the methods; with NAME say what one does; with --data draw it.

    \b
    Example:
      medseg methods
      medseg methods copy_paste
      medseg methods copy_paste --data DATA --labelled 4 --output method.png
    """
    from medseg.losses.describe import describe

    console = Console()
    if name is None:
        _list(console)
        return
    known = _classes()
    if name not in known:
        raise InputError(f"unknown method '{name}'{nearest(name, known)}; `medseg methods` lists them")
    if data is None:
        print_description(console, describe(known[name]), "medseg.methods")
        console.print(Text(f"\nTrain with it: medseg train --method {name}; its numbers: configs/method/{name}.yaml"))
        return
    _draw(name, _overrides(data, labelled, model, seed, steps, override or ()), model, steps, output)
    console.print(f"{output}: one step of {name}", markup=False, highlight=False, soft_wrap=True)


def _classes() -> dict[str, type]:
    """The methods that have an overlay, by its name, in the order in which they were invented."""
    from medseg import methods as family
    from medseg.report.configs import short_name

    order = ("supervised", "mean_teacher", "pseudo_label", "cross_pseudo", "copy_paste", "consistent_copy_paste")
    found = {short_name(member): getattr(family, member) for member in family.__all__}
    named = set(overlay_names("method")) & set(found)
    return {name: found[name] for name in sorted(named, key=lambda n: (order.index(n) if n in order else 99, n))}


def _list(console: Console) -> None:
    from medseg.losses.describe import describe

    for name, method in _classes().items():
        said = describe(method)
        console.print(Text(name, style="bold cyan"))
        for line in (said.summary, f"source: {said.sections['Source']}", f"cost: {said.sections['Cost']}"):
            console.print(Padding(Text(line), (0, 0, 0, 2)))
    console.print(Text("\nTrain with one: medseg train --method NAME", style="bold"))


def _overrides(
    data: str, labelled: str | None, model: Path | None, seed: int, steps: int, override: Sequence[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {"dataset_dir": data, "seed": seed, "steps": 10 * steps}
    if labelled is not None:
        found["labelled"] = budget_of_labels(labelled)
    if model is not None:
        found["plan_file"] = str(model / "plan.yaml")
    return found | dict(assignment(text) for text in override)


def _draw(name: str, overrides: dict[str, Any], model: Path | None, steps: int, output: Path) -> None:
    """Builds a run from the bundle, and takes one late step of it without learning from it."""
    import torch

    from medseg.inference.model import load_model
    from medseg.methods import Progress
    from medseg.report.method_picture import save_method_picture

    parser = parsed(composed({"method": name}), overrides)
    iteration = parser.get_parsed_content("iteration")
    batches = iter(parser.get_parsed_content("train#dataloader"))
    if model is not None:
        weights = load_model(model).network.state_dict()
        for network in (*iteration.students, *([iteration.teacher.network] if iteration.teacher else [])):
            network.load_state_dict(weights)
    else:
        for step in range(steps):  # the first tenth of a run: no method looks at unlabelled images there
            iteration(next(batches), Progress(step, 10 * steps))
    batch = iteration.batch(next(batches))
    for student in iteration.students:
        student.train()
    with torch.no_grad(), iteration.autocast():
        found = iteration.method.losses(batch, iteration.models, Progress(9_000, 10_000))  # late, also in steps
    pictures = {kind: _shown(tensor, kind) for kind, tensor in found.pictures.items()}
    numbers = ", ".join(f"{key} {float(value):.2f}" for key, value in found.diagnostics.items() if "/" not in key)
    save_method_picture(output, pictures, f"{name}: {numbers}" if numbers else name)


def _shown(tensor: Tensor, kind: str) -> NDArray[Any]:
    """On the CPU; labels of several channels (soft, regions) as the last channel that is there, counted from 1."""
    array: NDArray[Any] = tensor.float().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()
    if tensor.is_floating_point() and ("label" in kind and "image" not in kind):
        counted = (array > 0.5) * _places(array)
        return counted.max(1, keepdims=True).astype(int)
    return array


def _places(array: NDArray[Any]) -> NDArray[Any]:
    """1 to C along the channels of (B, C, D, H, W), to be multiplied with it."""
    import numpy as np

    return np.arange(1, array.shape[1] + 1).reshape(1, -1, 1, 1, 1)
