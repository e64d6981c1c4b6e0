"""Every command of the README runs. Minutes become two steps and cohorts shrink; all else is run as written."""

from __future__ import annotations

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


def _commands() -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.strip().splitlines()]


def _shortened(command: str) -> str:
    for written, short in (
        (r"--max-minutes [\d.]+", "--steps 2 --set plan_sizes#base_filters=4"),
        (r"--max_minutes [\d.]+", "--steps 2 --plan_sizes#base_filters 4"),
        (r"--steps \d\d+", "--steps 2"),
        (r"data phantoms \w+", r"\g<0> --unlabelled 1 --validation 1 --test 1"),
    ):
        command = re.sub(written, short, command)
    return command


def test_every_command_runs(medseg: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("bundles", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    commands = _commands()
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


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("command", "calls"),
    [
        ("make train", "-m monai.bundle run training --config_file bundles/unet3d/configs/train.yaml"),
        ("make train DATA=folder", '--dataset_dir "folder"'),
        ("make test", "-m pytest"),
    ],
)
def test_make_targets_call_what_the_readme_says(command: str, calls: str) -> None:
    assert command.split(" DATA")[0] in README
    done = subprocess.run(f"{command} --dry-run", shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    assert calls in done.stdout


def test_files_that_the_readme_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_overlays_that_the_readme_names_exist() -> None:
    for target in re.findall(r"configs/\w+/\w+\.yaml", README):
        assert (ROOT / target).is_file(), target
