from __future__ import annotations

import pytest

from medseg.errors import InputError, input_error_in, nearest


def test_nearest() -> None:
    assert nearest("psuedo_label", ["supervised", "pseudo_label"]) == "; did you mean 'pseudo_label'?"
    assert nearest("zzz", ["supervised"]) == ""
    assert nearest("x", []) == ""


def test_the_input_error_behind_others_is_found() -> None:
    wrong = InputError("file: broken")

    def instantiate() -> None:
        try:
            raise KeyError("component") from wrong
        except KeyError:
            raise RuntimeError("wrapped")  # noqa: B904  # MONAI does not say where from either

    with pytest.raises(RuntimeError) as caused:
        instantiate()
    assert input_error_in(caused.value) is wrong
    assert input_error_in(wrong) is wrong
    assert input_error_in(ValueError("other")) is None
    assert input_error_in(None) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert input_error_in(one) is None
