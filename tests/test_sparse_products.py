"""Sparse rows that the native engine multiplies as they are stored: the bits of dense ones without their memory."""

from __future__ import annotations

import golden
import numpy as np
import pytest

from fastnn import Sequential, Trainer, nn, optim

native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
scipy_sparse = pytest.importorskip("scipy.sparse")

RUN = 4096  # rows that the kernels add up at once: kRun of csrc/kernels/column_sums.hpp
ISAS = native.instruction_sets()


def rows(count: int, inputs: int, density: float = 0.04, dtype: type = np.float32, seed: int = 0):
    """Sparse and dense: rows and columns without any entry among them, and an entry that is 0."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((count, inputs)) < density, rng.normal(size=(count, inputs)) * 3, 0.0).astype(dtype)
    dense[count // 2] = 0
    stored = scipy_sparse.csr_array(dense)
    if stored.nnz:
        stored.data[0] = 0  # stays an entry
    return stored, stored.toarray()


def fitted(x, y, isa: str, dtype=np.float32, layers=None, optimizer=None, clip_norm=None, **settings) -> Trainer:
    model = Sequential(layers() if layers else [nn.Dense(5, "tanh"), nn.Dense(1)], dtype=dtype)
    trainer = Trainer(
        model, "mse", optimizer or optim.Adam(0.01), seed=0, backend=golden.backend_for(isa, []), clip_norm=clip_norm
    )
    trainer.fit(x, y, **(dict(epochs=2, batch_size=16, verbose=False) | settings))
    return trainer


def assert_same(x, dense, y, **settings) -> None:
    one, other = fitted(x, y, **settings), fitted(dense, y, **settings)
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(one.history["loss"], other.history["loss"])
    np.testing.assert_array_equal(one.model.predict(x), other.model.predict(dense))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 2, 4, 5, 16, 33, 70, 131])
@pytest.mark.parametrize("inputs", [9, 64, 307])  # with one to four outputs and many inputs, sums by lanes
def test_bits_of_dense_rows(isa, dtype, outputs, inputs):
    x, dense = rows(70, inputs)
    y = np.random.default_rng(1).normal(size=(70, 1))
    assert_same(x, dense, y, isa=isa, dtype=dtype, layers=lambda: [nn.Dense(outputs, "relu"), nn.Dense(1)])


@pytest.mark.parametrize("stored", [np.float64, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_bits_of_dense_rows_however_they_are_stored(stored, index):
    x, dense = rows(40, 100)
    parts = np.abs(x.data).astype(stored), x.indices.astype(index), x.indptr.astype(index)
    x = scipy_sparse.csr_array(parts, x.shape)
    y = dense[:, :1]
    assert_same(x, x.toarray(), y, isa=ISAS[-1])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": "full"},
        {"batch_size": 1, "epochs": 1},
        {"shuffle": False, "batch_size": 7},
        {"sample_weight": np.linspace(0.5, 2, 300)},
        {"clip_norm": 0.1, "optimizer": optim.Momentum(0.01)},
        {"layers": lambda: [nn.Dense(40, "gelu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(1)]},
        {"layers": lambda: [nn.Dense(1)]},
        {"layers": lambda: [nn.Dense(60, bias=False), nn.LayerNorm(), nn.Dense(1)]},
        # of these the first operation is not the product: their rows are made dense
        {"layers": lambda: [nn.Dropout(0.1), nn.Dense(1)]},
        {"layers": lambda: [nn.Residual([nn.Dense(120, "relu")]), nn.Dense(1)]},
        {"layers": lambda: [nn.Reshape((60, 2)), nn.Dense(3), nn.Flatten(), nn.Dense(1)]},
        {"layers": lambda: [nn.Normalize(), nn.Dense(1)]},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_bits_of_dense_rows_in_any_training(isa, settings):
    x, dense = rows(300, 120)
    assert_same(x, dense, dense[:, :1] + dense[:, 5:6], isa=isa, **settings)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("outputs", [1, 40])
def test_bits_of_dense_rows_beyond_a_run_of_sums(isa, outputs):
    x, dense = rows(2 * RUN + 3, 110, density=0.02)
    assert_same(
        *(x, dense, dense[:, :1]),
        isa=isa,
        layers=lambda: [nn.Dense(outputs, "tanh"), nn.Dense(1)],
        batch_size="full",
    )


def test_dense_and_sparse_rows_take_turns():
    """One trainer, whose buffers are made for the one and then the other."""
    x, dense = rows(60, 90)
    trainer, other = (fitted(dense, dense[:, :1], ISAS[-1]) for _ in range(2))
    for rows_, batch in ((x, 8), (dense, 8), (x, 60), (dense, 60), (x, 4)):
        trainer.fit(rows_, dense[:, :1], epochs=1, batch_size=batch, verbose=False)
        other.fit(dense, dense[:, :1], epochs=1, batch_size=batch, verbose=False)
    for here, there in zip(trainer.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)


def test_more_entries_than_a_tenth():
    """Dense products are faster there: the same values either way."""
    for density in (0.09, 0.11, 0.5, 1.0):
        x, dense = rows(50, 60, density=density)
        assert_same(x, dense, dense[:, :1], isa=ISAS[-1])


def test_no_entries_at_all():
    x, dense = rows(50, 60, density=0.0)
    assert_same(x, dense, np.ones((50, 1)), isa=ISAS[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", ["renamed", "twice"])
def test_indices_changed_in_place(change, dtype):
    """scipy goes on to say that they ascend, each once."""
    x = scipy_sparse.random(200, 100, 0.05, format="csr", dtype=dtype, random_state=0)
    assert x.has_canonical_format
    x.indices[:] = np.random.default_rng(0).permutation(100)[x.indices] if change == "renamed" else x.indices // 8
    dense = scipy_sparse.csr_matrix((x.data, x.indices, x.indptr), x.shape).toarray()
    assert_same(x, dense, np.ones((200, 1)) - dense[:, :1], isa=ISAS[-1])


def test_columns_that_do_not_ascend_are_refused_by_the_engine():
    """Of Data that were checked before somebody changed them: no entry gets lost without a word."""
    x, dense = rows(50, 60)
    model = Sequential([nn.Dense(1)]).build(60, seed=0)
    data = model.checked(x, dense[:, :1], None, "mse")
    row = int(np.argmax(np.diff(data.x.indptr)))
    first = data.x.indptr[row]
    data.x.indices[first : first + 2] = data.x.indices[first : first + 2][::-1].copy()
    with pytest.raises(ValueError, match=rf"X cannot be read at row {row}, .*that ascend"):
        Trainer(model, "mse", seed=0, backend="native").fit(data, epochs=1, batch_size=8, verbose=False)
