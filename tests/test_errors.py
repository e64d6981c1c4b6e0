from __future__ import annotations

import signal

import pytest
import torch
from monai.utils import instantiate

from medseg.errors import InputError, Interrupted, dead_worker, first_line, last_words, nearest


def test_nearest() -> None:
    assert nearest("psuedo_label", ["supervised", "pseudo_label"]) == "; did you mean 'pseudo_label'?"
    assert nearest("zzz", ["supervised"]) == ""
    assert nearest("x", []) == ""


def test_the_first_line_is_that_which_says_something() -> None:
    assert first_line(OSError("\n  refused \nand more")) == "refused"
    assert first_line(ConnectionError()) == "ConnectionError"


def test_what_ends_a_command_is_found_behind_others() -> None:
    wrong = InputError("file: broken")

    def instantiate() -> None:
        try:
            raise KeyError("component") from wrong
        except KeyError:
            raise RuntimeError("wrapped")  # noqa: B904  # MONAI does not say where from either

    with pytest.raises(RuntimeError) as caused:
        instantiate()
    assert last_words(caused.value) == ("Error: file: broken", 2)
    assert last_words(wrong) == ("Error: file: broken", 2)
    assert last_words(Interrupted(signal.SIGTERM)) == ("stopped by SIGTERM", 143)
    assert last_words(ValueError("other")) is None


def test_a_value_that_a_constructor_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def last(target: str, **values: object) -> tuple[str, int] | None:
        with pytest.raises(RuntimeError, match="Failed to instantiate") as caught:
            instantiate(target, "default", **values)
        return last_words(caught.value)

    assert last("medseg.augment.BoxMix", side=(0.9, 0.2)) == (
        "Error: BoxMix: side is two shares of the patch from above 0 to 1, the smaller first, found (0.9, 0.2)",
        2,
    )
    said, code = last("medseg.losses.DiceCELoss", class_weight="inverse") or ("", 0)
    assert code == 2
    assert said.startswith("Error: DiceCELoss: class_weight must be one of 'inverse_frequency', ")
    weights = [torch.nn.Parameter(torch.zeros(1))]
    assert last("torch.optim.AdamW", params=weights, lr=-1) == ("Error: AdamW: Invalid learning rate: -1", 2)
    # an error further down in what a constructor does is ours
    monkeypatch.setattr("medseg.losses.functional_module.torch.as_tensor", lambda *_, **__: int("x"))
    assert last("medseg.losses.DiceCELoss", class_weight=[1, 2]) is None


def test_an_error_that_was_handled_does_not_end_a_command() -> None:
    error = ValueError("other")
    error.__context__, error.__suppress_context__ = InputError("handled"), True  # raise ... from None
    assert last_words(error) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert last_words(one) is None


def test_the_ways_in_which_a_dead_worker_shows() -> None:
    said = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore")
    assert "(DataLoader worker (pid 7) is killed by signal: Killed.)" in str(dead_worker(said))
    cut = ConnectionResetError(104, "Connection reset by peer")  # while it was handing over a patch
    assert "was gone before" in str(dead_worker(cut, receiving=True))
    assert dead_worker(cut) is None
    own = FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.")  # of the worker's own work
    assert dead_worker(own, receiving=True) is None
    assert dead_worker(RuntimeError("CUDA out of memory")) is None
