"""Every command of the README and of the page for own data runs. Minutes become two steps, all else is as written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_DATA = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")


def _commands(page: str) -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", page, re.S) for line in block.strip().splitlines()]


def _shortened(command: str) -> str:
    for written, short in (
        (r"--max-minutes [\d.]+", "--steps 2 --set plan_sizes#base_filters=4"),
        (r"--max_minutes [\d.]+", "--steps 2 --plan_sizes#base_filters 4"),
        (r"--steps \d\d+", "--steps 2"),
        (r"data phantoms \w+", r"\g<0> --unlabelled 1 --validation 1 --test 1"),
    ):
        command = re.sub(written, short, command)
    return command


@pytest.mark.usefixtures("elsewhere")
def test_every_command_runs(medseg: Command, tmp_path: Path) -> None:
    for folder in ("bundles", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    commands = _commands(README)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(_shortened(command))
        if words[0] == "medseg":  # in this process: ten seconds of imports less
            code, out, err = medseg(*words[1:])
        else:
            assert words[0] == "python"
            done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=400)
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{command}\n{out}\n{err}"
    assert (tmp_path / "runs" / "first" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "evaluation" / "evaluation.csv").is_file()
    ours, bundle = (
        sorted(p.name for p in (tmp_path / name).glob("*.nii.gz")) for name in ("segmentations", "segmentations2")
    )
    assert ours == bundle


@pytest.mark.usefixtures("elsewhere")
def test_the_page_for_own_data_runs_on_a_folder_as_it_describes(medseg: Command, tmp_path: Path) -> None:
    _own_folder(tmp_path / "my_cohort")
    (tmp_path / "new_scans").mkdir()
    shutil.copy(tmp_path / "my_cohort" / "images" / "phantom_000.nii.gz", tmp_path / "new_scans" / "scan.nii.gz")
    for command in _commands(OWN_DATA):
        code, out, err = medseg(*shlex.split(_shortened(command))[1:])
        assert code == 0, f"{command}\n{out}\n{err}"
    split = json.loads((tmp_path / "my_cohort" / "splits.json").read_text(encoding="utf-8"))
    assert [len(split[part]) for part in ("validation", "test")] == [3, 2]
    for made in ("method.png", "comparison/comparison.html", "runs/semi/report.html", "runs/semi/test.json"):
        assert (tmp_path / made).is_file(), made
    assert (tmp_path / "segmentations" / "scan.json").is_file()
    assert len(list((tmp_path / "next" / "labels").glob("*.nii.gz"))) == 2


def _own_folder(folder: Path) -> None:
    """Fourteen cases, ten of them labelled, in the layout of the page."""
    from medseg.data.phantoms import write_cohort

    write_cohort(folder / "phantoms", labelled=9, unlabelled=4, validation=1, test=0, shape=(32, 32, 16))
    for kind in ("images", "labels"):
        (folder / "phantoms" / f"{kind}Tr").rename(folder / kind)
    shutil.rmtree(folder / "phantoms")
    written = re.search(r"```json\n(.*?)```", OWN_DATA, re.S)
    assert written is not None
    (folder / "dataset.json").write_text(written[1], encoding="utf-8")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("command", "calls"),
    [
        ("make train", "-m monai.bundle run training --config_file bundles/unet3d/configs/train.yaml"),
        ("make train DATA=folder", '--dataset_dir "folder"'),
        ("make train METHOD=supervised", "train.yaml','configs/method/supervised.yaml']"),
        ("make test", "-m pytest"),
    ],
)
def test_make_targets_call_what_the_readme_says(command: str, calls: str) -> None:
    assert all(word in README for word in re.split("(?<=train) ", command))
    done = subprocess.run(f"{command} --dry-run", shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert calls in done.stdout


def test_files_that_the_readme_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_overlays_that_the_readme_names_exist() -> None:
    for target in re.findall(r"configs/\w+/\w+\.yaml", README):
        assert (ROOT / target).is_file(), target
