from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.stored import ArrayFile, Stored

small = st.integers(1, 6)
anywhere = st.integers(-12, 12)


@given(st.tuples(small, small, small), st.tuples(*[anywhere] * 3), st.tuples(*[anywhere] * 3), st.tuples(*[small] * 3))
def test_a_box_is_what_a_padded_volume_would_give(
    shape: tuple[int, ...], origin: tuple[int, int, int], start: tuple[int, ...], size: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (2, *shape))
    indices = [
        np.clip(np.arange(s, s + n) - o, 0, k - 1) for s, n, o, k in zip(start, size, origin, shape, strict=True)
    ]
    box = Stored(array, origin).box(start, size)
    assert np.array_equal(box, array[:, *np.ix_(*indices)])
    box[...] = -1  # a copy
    assert (array >= 0).all()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "array.npy"
        np.save(path, array)
        file = ArrayFile(path, array.shape, array.dtype.str, path.stat().st_size - array.nbytes)
        assert np.array_equal(Stored(file, origin).box(start, size), array[:, *np.ix_(*indices)])
        assert np.array_equal(file.mapped(), array)
