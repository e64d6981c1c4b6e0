"""Many volumes at once: what is finished, what is broken, whose turn it is, and what is said of each."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.predict import share
from medseg.data.case import Case
from medseg.data.volume import read_labels
from medseg.errors import InputError

pytestmark = pytest.mark.usefixtures("elsewhere")


def _save(path: str | Path, seed: int = 0, shape: tuple[int, ...] = (12, 10, 9)) -> Path:
    path = Path(path)
    path.parent.mkdir(exist_ok=True)
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1, 1, 1.5, 1])), path)
    return path


def test_a_broken_file_stops_none_of_the_others(medseg: Any, model: Path) -> None:
    for i, name in enumerate(("a", "c", "e")):
        _save(f"scans/{name}.nii.gz", i)
    Path("scans/b.nii.gz").write_bytes(b"no image")
    Path("scans/d.nii.gz").write_bytes(Path("scans/a.nii.gz").read_bytes()[:-200])
    code, out, err = medseg("predict", model, "scans", "--output", "out")
    assert code == 1
    assert "3 segmentations" in out
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert [line.split(":")[1].strip() for line in errors] == ["scans/b.nii.gz", "scans/d.nii.gz"]
    assert sorted(p.name for p in Path("out").iterdir()) == [f"{n}.{s}" for n in "ace" for s in ("json", "nii.gz")]


def test_the_unlabelled_cases_of_a_data_set(medseg: Any, model: Path) -> None:
    for i, name in enumerate("abc"):
        _save(f"scans/{name}.nii.gz", i)
    rows = ["name,image,label", "first,scans/a.nii.gz,", "second,scans/b.nii.gz,b_seg.nii.gz", "third,scans/c.nii.gz,"]
    Path("cases.csv").write_text("\n".join(rows))
    code, out, err = medseg("predict", model, ".", "--unlabelled", "--output", "out")
    assert code == 0, err
    assert "2 segmentations" in out
    assert sorted(p.name for p in Path("out").glob("*.nii.gz")) == ["first.nii.gz", "third.nii.gz"]
    Path("cases.csv").write_text("\n".join([rows[0], rows[2]]))
    for arguments, said in (
        ((".", "--unlabelled"), "all 1 cases have labels"),
        ((".", "scans", "--unlabelled"), "2 inputs, expected one data set"),
        ((".",), "of a data set name the folder of its images, or `medseg predict --unlabelled`"),
    ):
        code, _, err = medseg("predict", model, *arguments, "--output", "out")
        assert code == 2
        assert said in err
        assert len(err.strip().splitlines()) == 1


def test_what_is_finished_is_not_done_again(medseg: Any, model: Path, tmp_path: Path) -> None:
    for name in "ab":
        _save(f"scans/{name}.nii.gz")
    assert medseg("predict", model, "scans", "--output", "out")[0] == 0
    Path("out/a.json").unlink()
    Path("out/a.nii.gz").unlink()
    before = Path("out/b.nii.gz").stat().st_mtime_ns
    code, out, _ = medseg("predict", model, "scans", "--output", "out")
    assert code == 0
    assert "1 segmentation written" in out
    assert "1 finished before" in out
    assert Path("out/b.nii.gz").stat().st_mtime_ns == before
    _, out, _ = medseg("predict", model, "scans", "--output", "out", "--uncertainty")
    assert "2 segmentations" in out  # a file that is asked for was not there

    _save("scans/b.nii.gz", seed=5)  # another input under the same name
    code, _, err = medseg("predict", model, "scans", "--output", "out")
    assert code == 1
    assert "out/b.nii.gz: exists already" in err
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / "plan.yaml").write_text((other / "plan.yaml").read_text() + "\n# changed\n")
    assert medseg("predict", other, "scans/a.nii.gz", "--output", "out")[0] == 1
    assert medseg("predict", other, "scans", "--output", "out", "--overwrite")[0] == 0


@pytest.mark.parametrize("dies_at", ["write_segmentation", "_write_values", "write_text"])
def test_what_was_interrupted_is_done_again(
    dies_at: str, medseg: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.inference import outputs

    for name in "ab":
        _save(f"scans/{name}.nii.gz")
    arguments = ("predict", model, "scans", "--output", "out", "--uncertainty")
    works, calls = getattr(outputs, dies_at), []

    def dies(path: Path, *rest: Any, **named: Any) -> None:
        calls.append(path)
        if len(calls) == (2 if dies_at == "write_text" else 1):
            raise OSError("killed")
        works(path, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, dies_at, dies)
        code, out, _ = medseg(*arguments)
    assert (code, "1 segmentation written" in out) == (1, True)
    code, out, err = medseg(*arguments)
    assert code == 0, err
    assert "1 segmentation written to out; 1 finished before" in out
    assert json.loads(Path("out/a.json").read_text())["finished"]


def test_a_foreign_file_stops_its_own_case_only(medseg: Any, model: Path) -> None:
    for name in "abc":
        _save(f"scans/{name}.nii.gz")
    Path("out").mkdir()
    Path("out/a.nii.gz").write_bytes(b"precious")
    Path("out/b.json").write_text('{"RepetitionTime": 2}')  # what BIDS keeps beside an image
    code, out, err = medseg("predict", model, "scans", "--output", "out")
    assert code == 1
    assert "1 segmentation written" in out
    assert "out/a.nii.gz: exists already" in err
    assert "out/b.json: exists, and is no record" in err
    assert Path("out/a.nii.gz").read_bytes() == b"precious"
    code, out, err = medseg("predict", model, "scans", "--output", "out", "--overwrite")
    assert code == 1
    assert "2 segmentations written" in out
    assert Path("out/b.json").read_text() == '{"RepetitionTime": 2}'
    assert not Path("out/b.nii.gz").exists()


def test_probabilities_uncertainty_and_the_record(medseg: Any, model: Path) -> None:
    image = nib.load(_save("scan.nii.gz"))
    code, _, err = medseg("predict", model, "scan.nii.gz", "--output", "out", "--probabilities", "--uncertainty")
    assert code == 0, err
    labels = read_labels("out/scan.nii.gz").array
    p, u = nib.load("out/scan_probabilities.nii.gz"), nib.load("out/scan_uncertainty.nii.gz")
    assert (p.shape, u.shape) == ((12, 10, 9, 3), (12, 10, 9))
    assert np.array_equal(p.affine, image.affine)
    assert np.allclose(p.get_fdata().sum(-1), 1, atol=1e-3)
    assert np.mean(p.get_fdata().argmax(-1) == labels) > 0.99
    entropy = -(p.get_fdata() * np.log(p.get_fdata() + 1e-9)).sum(-1) / np.log(3)
    assert np.allclose(u.get_fdata(), entropy, atol=1e-2)
    record = json.loads(Path("out/scan.json").read_text())
    assert set(record["classes"]) == {"liver", "liver tumour"}
    for found in record["classes"].values():
        assert found["ml"] == pytest.approx((labels == found["value"]).sum() * 1.5 / 1000, abs=1e-4)
    assert {flag["kind"] for flag in record["flags"]} >= {"border", "confidence"}  # it knows nothing
    assert "scan: " in err


def test_links_that_lead_out_are_named(medseg: Any, model: Path) -> None:
    _save("scans/a.nii.gz")
    _save("elsewhere/b.nii.gz")
    Path("scans/b.nii.gz").symlink_to(Path("elsewhere/b.nii.gz").resolve())
    Path("scans/same.nii.gz").symlink_to("a.nii.gz")
    code, _, err = medseg("predict", model, "scans", "--output", "out")
    assert code == 1
    assert "scans/b.nii.gz: a link that leads out of scans" in err
    assert sorted(p.name for p in Path("out").glob("*.nii.gz")) == ["a.nii.gz", "same.nii.gz"]


def test_shares_are_whole_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [Case(str(i), (Path(str(i)),), None) for i in range(11)]
    parts = [share(cases, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(case.name for part in parts for case in part) == sorted(case.name for case in cases)
    for wrong in ("0/3", "4/3", "1", "a/b", "-1/3", "1/0"):
        with pytest.raises(InputError, match="expected I/N"):
            share(cases, wrong)
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        seen += share(cases, "2/3")
    assert sorted(case.name for case in seen) == sorted(case.name for case in parts[1])


@pytest.mark.slow
def test_torchrun_shares_the_cases(model: Path) -> None:
    """A process that has nothing but a bad file does not end the others."""
    for i in (0, 2):
        _save(f"scans/{i}.nii.gz", i, (96, 96, 64))
    Path("scans/1.nii.gz").write_bytes(b"no image")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "medseg",
               "predict", str(model), "scans", "--output", "out"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("Error: scans/1.nii.gz: ") == 1
    assert "0 segmentations" in done.stdout
    assert "2 segmentations" in done.stdout
    assert sorted(path.name for path in Path("out").glob("*.nii.gz")) == ["0.nii.gz", "2.nii.gz"]
    Path("scans/1.nii.gz").unlink()
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_hostile_headers_cost_one_line(medseg: Any, model: Path) -> None:
    _save("scans/good.nii.gz")
    whole = gzip.decompress(Path("scans/good.nii.gz").read_bytes())
    header = nib.Nifti1Header(whole[:348])

    def broken(name: str, **fields: Any) -> None:
        changed = header.copy()
        for field, value in fields.items():
            changed[field] = value
        Path(f"scans/{name}.nii.gz").write_bytes(gzip.compress(changed.binaryblock + whole[348:]))

    broken("terabyte", dim=[3, 20000, 20000, 20000, 1, 1, 1, 1])
    broken("negative", dim=[3, -12, 10, 9, 1, 1, 1, 1])
    broken("zero", sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    broken("below", sform_code=0, qform_code=0, pixdim=[1, -1, 1, 1.5, 0, 0, 0, 0])
    broken("singular", srow_x=[1, 1, 1, 0], srow_y=[1, 1, 1, 0])
    broken("sheared", srow_x=[1, 0.5, 0, 0])
    broken("four", dim=[4, 12, 10, 3, 3, 1, 1, 1])
    Path("scans/bomb.nii.gz").write_bytes(gzip.compress(whole + bytes(2**26)))
    Path("scans/nrrd.nrrd").write_text("NRRD0004\ntype: float\ndimension: 3\nsizes: 90000 90000 90000\n"
                                       "encoding: raw\nendian: little\n\nx")  # fmt: skip
    code, out, err = medseg("predict", model, "scans", "--output", "out")
    assert code == 1
    assert "1 segmentation" in out
    errors = {line.split(":")[1].strip().split("/")[1]: line for line in err.splitlines() if line.startswith("Error: ")}
    names = ("terabyte", "negative", "zero", "below", "singular", "sheared", "four", "bomb")
    assert set(errors) == {*(f"{name}.nii.gz" for name in names), "nrrd.nrrd"}
    assert "GiB" in errors["terabyte.nii.gz"]
    assert "GiB" in errors["nrrd.nrrd"]
    assert "sheared by 26.6 degrees" in errors["sheared.nii.gz"]
    assert "voxels of 0 x 0 x 0 mm" in errors["zero.nii.gz"]
    assert "voxels of -1 x 1 x 1.5 mm" in errors["below.nii.gz"]
    assert "follow behind the voxels" in errors["bomb.nii.gz"]
    assert [p.name for p in Path("out").glob("*.nii.gz")] == ["good.nii.gz"]
