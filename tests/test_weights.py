"""Weights of rows and classes: what is minimised does not depend on the batch, and a row of weight 0 is not there."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import pytest
from common import AUTOMATIC, BACKENDS, ENGINES, VECTORISED, parameters
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import Sequential, Trainer, backends, nn, optim
from fastnn.engine import Batches, Objective
from fastnn.nn import LOSSES

_rng = np.random.default_rng(3)
X = _rng.normal(size=(90, 4))
Y = X[:, :1] * X[:, 1:2] - X[:, 2:3]
LABELS = (X[:, 0] > 0.2).astype(np.int64) + (X[:, 1] > 0.5)
WEIGHT = np.exp(_rng.normal(size=90)) * (_rng.random(90) > 0.3)  # three tenths are 0
THERE = np.flatnonzero(WEIGHT)

engines = pytest.mark.parametrize("backend", ENGINES)


def bias(value: float = 0.0) -> Sequential:
    """One number that learns: what every row predicts."""
    model = Sequential([nn.Dense(1, init=0.0)], dtype=np.float64).build(1, seed=0)
    model.layers[0].bias[...] = value
    return model


def network(loss: str = "mse", outputs: int = 1, *, backend: str = AUTOMATIC, dtype=np.float32, **more) -> Trainer:
    layers = [nn.Normalize(), nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dropout(0.1), nn.Dense(outputs)]
    return Trainer(Sequential(layers, dtype=dtype), loss, "adam", seed=0, backend=backend, **more)


def same(one: Trainer, other: Trainer) -> None:
    """Every bit of what was learned and measured, but for the clock."""
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    for name in one.history.keys() - {"seconds"}:
        np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)


# The optimum does not depend on the batch ------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 8, 32, 200, "full"])
def test_balanced_classes_are_balanced_in_batches_of_any_size(batch):
    """One positive in a hundred and nothing else to go by: weighted by class, both are as likely."""
    y = np.zeros(20000, int)
    y[:200] = 1
    ones = np.ones((len(y), 1))
    whole = batch == "full"
    trainer = Trainer(
        Sequential([nn.Dense(1)]), "binary_cross_entropy", optim.SGD(1.0 if whole else 0.05), schedule="linear", seed=0
    )
    trainer.fit(ones, y, epochs=200 if whole else 20, batch_size=batch, class_weight="balanced", verbose=False)
    assert trainer.model.predict_proba(ones[:1])[0, 1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("batch", [1, 8, 32, 200, "full"])
def test_a_weighted_mean_is_found_by_batches_of_any_size(batch):
    """Lognormal weights and values that go with them: their mean is 1, without weights 0."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20000, 1))
    weight = np.exp(y[:, 0])
    expected = np.average(y[:, 0], weights=weight)
    assert expected == pytest.approx(1.0, abs=0.05)
    whole = batch == "full"
    rate = 0.3 if whole else min(0.05, 0.002 * batch)
    trainer = Trainer(bias(), "mse", optim.SGD(rate), schedule="linear", seed=0)
    trainer.fit(np.zeros((len(y), 1)), y, sample_weight=weight, epochs=50 if whole else 15, batch_size=batch)
    assert trainer.model.layers[0].bias[0] == pytest.approx(expected, abs=0.03)


def descended(y, weight, sizes, rate: float, start: float) -> tuple[float, float]:
    """Descent on the weighted mean square of one number, on paper: where it ends, and the epoch's mean loss."""
    b, total, first = start, 0.0, 0
    mean = weight.mean()
    for size in sizes:
        rows = slice(first, first + size)
        count = len(y[rows])
        total += float(weight[rows] @ (b - y[rows]) ** 2)
        b -= rate * float(weight[rows] @ (2.0 * (b - y[rows]))) / (count * mean)
        first += size
    return b, total / weight.sum()


@pytest.mark.parametrize("backend", VECTORISED)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 12),
    batch=st.integers(1, 12),
    data=st.data(),
    scale=st.sampled_from([1.0, 1e-30, 1e30, 3.7]),
)
def test_a_step_divides_by_rows_and_the_mean_weight(backend, rows, batch, data, scale):
    draw = st.floats(0.01, 100.0)
    weight = np.array(data.draw(st.lists(draw, min_size=rows, max_size=rows)))
    y = np.array(data.draw(st.lists(st.floats(-3.0, 3.0), min_size=rows, max_size=rows)))
    trainer = Trainer(bias(0.3), "mse", optim.SGD(0.01), seed=0, backend=backend)
    trainer.fit(
        np.zeros((rows, 1)), y, sample_weight=weight * scale, epochs=1, batch_size=batch, shuffle=False, verbose=False
    )
    b, loss = descended(y, weight, [batch] * math.ceil(rows / batch), 0.01, 0.3)
    assert trainer.model.layers[0].bias[0] == pytest.approx(b, rel=1e-11, abs=1e-13)
    assert trainer.history["loss"] == [pytest.approx(loss, rel=1e-11, abs=1e-25)]


@engines
def test_the_unit_of_weights_does_not_matter(backend):
    """To the bit, where the units differ by a power of 2; nearly at the ends of float32."""
    one, other = network(backend=backend), network(backend=backend)
    for trainer, unit in ((one, 1.0), (other, 2.0**40)):
        trainer.fit(X, Y, sample_weight=WEIGHT * unit, epochs=2, batch_size=8, verbose=False)
    same(one, other)
    for unit in (1e-35, 1e35):
        far = network(backend=backend)
        far.fit(X, Y, sample_weight=WEIGHT * unit, epochs=2, batch_size=8, verbose=False)
        np.testing.assert_allclose(far.history["loss"], one.history["loss"], rtol=1e-4)


@engines
@pytest.mark.parametrize("constant", [1.0, 0.25, 4096.0])
def test_equal_weights_are_none(backend, constant):
    one, other = network(backend=backend), network(backend=backend)
    one.fit(X, Y, epochs=2, batch_size=8, verbose=False)
    other.fit(X, Y, sample_weight=np.full(len(X), constant), epochs=2, batch_size=8, verbose=False)
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.Adam(0.01)], ids=["sgd", "adam"])
def test_a_whole_weight_is_a_row_so_many_times_in_whole_batches(backend, optimizer):
    copies = np.random.default_rng(1).integers(0, 4, 20)
    found = []
    for x, y, weight in ((X[:20], Y[:20], copies), (np.repeat(X[:20], copies, 0), np.repeat(Y[:20], copies, 0), None)):
        model = Sequential([nn.Dense(3, "tanh"), nn.Dense(1)], dtype=np.float64)
        trainer = Trainer(model, "mse", optimizer, seed=0, backend=backend)
        trainer.fit(x, y, sample_weight=weight, epochs=3, batch_size="full", verbose=False)
        found.append((parameters(model), trainer.history["loss"]))
    for name, here in found[0][0].items():
        np.testing.assert_allclose(here, found[1][0][name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)


@engines
@pytest.mark.parametrize("batch", [1, 7, "full"])
def test_the_loss_of_an_epoch_is_the_weighted_mean_of_its_rows(backend, batch):
    """With a learning rate of next to nothing it is that of `evaluate`, which is NumPy's average."""
    model = Sequential([nn.Dense(3, "tanh"), nn.Dense(1)], dtype=np.float64)
    trainer = Trainer(model, "mse", optim.SGD(1e-30), seed=0, backend=backend)
    trainer.fit(X, Y, sample_weight=WEIGHT, epochs=1, batch_size=batch, verbose=False)
    expected = np.average((model.predict(X) - Y)[:, 0] ** 2, weights=WEIGHT)
    assert trainer.history["loss"] == [pytest.approx(expected, rel=1e-12)]
    assert trainer.evaluate(X, Y, sample_weight=WEIGHT)["loss"] == pytest.approx(expected, rel=1e-12)


# scikit-learn ----------------------------------------------------------------------------------------------------


def test_whole_batches_have_the_optimum_of_scikit_learns_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    weight = WEIGHT * np.where(LABELS == 2, 3.0, 1.0)
    model = Sequential([nn.Dense(3)], dtype=np.float64)
    trainer = Trainer(model, "cross_entropy", optim.Momentum(0.5, l2=1.0 / weight.sum()), seed=0)
    trainer.fit(
        X, LABELS, sample_weight=WEIGHT, class_weight={2: 3.0}, epochs=3000, batch_size="full", verbose=False
    )  # fmt: skip
    right = linear_model.LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit(X, LABELS, weight)
    np.testing.assert_allclose(model.predict_proba(X), right.predict_proba(X), atol=1e-6)


# Rows of weight 0 ------------------------------------------------------------------------------------------------

SETTINGS = {
    "batches": dict(batch_size=8),
    "one row": dict(batch_size=1),
    "whole": dict(batch_size="full"),
    "in order": dict(batch_size=8, shuffle=False),
    "held out": dict(batch_size=8, validation=0.25),
    "measured": dict(batch_size=8, validation=(X[:9], Y[:9])),
}


@engines
@pytest.mark.parametrize("how", SETTINGS)
@pytest.mark.parametrize("metric", ["mae", lambda y, prediction: float(np.abs(y - prediction).max())])
def test_rows_of_weight_0_are_not_there(backend, how, metric):
    """For Normalize, BatchNorm, the shuffle, the batches, the rows held out, metrics and the loss: to the bit."""
    one, other = (network(backend=backend, metrics=[metric]) for _ in range(2))
    one.fit(X, Y, sample_weight=WEIGHT, epochs=2, verbose=False, **SETTINGS[how])
    other.fit(X[THERE], Y[THERE], sample_weight=WEIGHT[THERE], epochs=2, verbose=False, **SETTINGS[how])
    same(one, other)


@engines
@pytest.mark.parametrize("validation", [None, 0.25])
def test_balanced_classes_do_not_count_rows_of_weight_0(backend, validation):
    one, other = (network("cross_entropy", 3, backend=backend) for _ in range(2))
    how = dict(class_weight="balanced", validation=validation, epochs=2, batch_size=8, verbose=False)
    one.fit(X, LABELS, sample_weight=WEIGHT, **how)
    other.fit(X[THERE], LABELS[THERE], sample_weight=WEIGHT[THERE], **how)
    same(one, other)


@engines
def test_a_class_of_weight_0_is_not_there(backend):
    one, other = (network("cross_entropy", 3, backend=backend) for _ in range(2))
    left = LABELS != 1
    one.fit(X, LABELS, class_weight={1: 0.0}, epochs=2, batch_size=8, verbose=False)
    other.fit(X[left], LABELS[left], epochs=2, batch_size=8, verbose=False)
    same(one, other)


@engines
def test_rows_of_weight_0_in_batches_of_a_stream_are_not_there(backend):
    weight = WEIGHT.copy()
    weight[[0, 30, 60]] = 1.0  # each batch has one
    rows = [slice(start, start + 30) for start in (0, 30, 60)]
    kept = [part.start + np.flatnonzero(weight[part]) for part in rows]
    made = []
    for parts in (rows, kept):
        model = Sequential([nn.Dense(4), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(1)])
        made.append(Trainer(model, "mse", seed=0, backend=backend))
        made[-1].fit([(X[part], Y[part], weight[part]) for part in parts], epochs=3, verbose=False)
    same(*made)


def test_find_lr_and_gradient_check_do_not_see_rows_of_weight_0():
    one, other = network(), network()
    there = other.find_lr(X[THERE], Y[THERE], sample_weight=WEIGHT[THERE], steps=9)
    np.testing.assert_array_equal(one.find_lr(X, Y, sample_weight=WEIGHT, steps=9).loss, there.loss)
    wild = np.where(WEIGHT[:, None] > 0, X, 1e6)  # which would spoil BatchNorm's mean
    errors = fastnn.gradient_check(one.model, wild, Y, loss="mse", sample_weight=WEIGHT, seed=0)
    assert errors == fastnn.gradient_check(one.model, X[THERE], Y[THERE], loss="mse", sample_weight=WEIGHT[THERE])


def test_rows_of_weight_0_may_be_anything_but_nan():
    """Also where their loss is beyond all numbers."""
    far = np.where(WEIGHT[:, None] > 0, X, 1e30)
    one, other = network("poisson"), network("poisson")
    for trainer, x in ((one, far), (other, X)):
        trainer.fit(x, np.abs(Y), sample_weight=WEIGHT, epochs=2, verbose=False)
    same(one, other)
    measured = [each.evaluate(x, np.abs(Y) * 1e30, sample_weight=WEIGHT) for each, x in ((one, far), (other, X))]
    assert measured[0] == measured[1]
    with pytest.raises(ValueError, match="X contains NaN"):
        network().fit(np.where(WEIGHT[:, None] > 0, X, np.nan), Y, sample_weight=WEIGHT)


# Streams ---------------------------------------------------------------------------------------------------------


class Batched:
    """Batches of so many rows, begun anew for each epoch, without a length."""

    def __init__(self, y, weight, size: int) -> None:
        self.y, self.weight, self.size = y, weight, size

    def __iter__(self):
        for start in range(0, len(self.y), self.size):
            part = slice(start, start + self.size)
            yield np.zeros((len(self.y[part]), 1)), self.y[part], self.weight[part]


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("size", [1, 4, 30])
def test_a_stream_divides_by_the_mean_weight_so_far(backend, size):
    y, weight = Y[THERE][:30], WEIGHT[THERE][:30]
    trainer = Trainer(bias(0.3), "mse", optim.SGD(0.01), seed=0, backend=backend)
    trainer.fit(Batched(y, weight, size), epochs=2, verbose=False)
    b, seen, losses = 0.3, [], []
    for _ in range(2):
        total = 0.0
        for start in range(0, 30, size):
            w, t = weight[start : start + size], y[start : start + size, 0]
            seen.extend(w)
            total += float(w @ (b - t) ** 2)
            b -= 0.01 * float(w @ (2.0 * (b - t))) / (len(w) * np.mean(seen))
        losses.append(total / weight.sum())
    assert trainer.model.layers[0].bias[0] == pytest.approx(b, rel=1e-11)
    assert trainer.history["loss"] == pytest.approx(losses, rel=1e-11)


def test_a_stream_of_single_rows_finds_the_weighted_mean():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20000, 1))
    weight = np.exp(y[:, 0])
    trainer = Trainer(bias(), "mse", optim.SGD(0.05), schedule=None, seed=0)
    trainer.fit(Batched(y, weight, 50), epochs=8, verbose=False)
    assert trainer.model.layers[0].bias[0] == pytest.approx(np.average(y[:, 0], weights=weight), abs=0.1)


@engines
def test_batches_without_weights_have_weight_1_beside_those_that_have_some(backend):
    batches = [(X[:30], Y[:30]), (X[30:60], Y[30:60], np.full(30, 3.0)), (X[60:], Y[60:])]
    explicit = [(x, y, *(weight or [np.ones(30)])) for x, y, *weight in batches]
    made = []
    for each in (batches, explicit):
        made.append(Trainer(Sequential([nn.Dense(3, "tanh"), nn.Dense(1)]), "mse", seed=0, backend=backend))
        made[-1].fit(each, epochs=2, verbose=False)
    same(*made)


class Stop(fastnn.Callback):
    every = 1

    def on_step(self, run):
        if run.step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stream", [True, False])
def test_a_weighted_fit_resumes_to_the_bit(tmp_path, stream):
    """In the middle of an epoch: the mean weight so far is kept."""
    weight = WEIGHT + 0.01
    given = [(X[part : part + 30], Y[part : part + 30], weight[part : part + 30]) for part in (0, 30, 60)]
    how = dict(epochs=3, verbose=False)

    def fit(trainer: Trainer, **more) -> Trainer:
        if stream:
            trainer.fit(given, **how, **more)
        else:
            trainer.fit(X, Y, sample_weight=weight, batch_size=30, **how, **more)
        return trainer

    def made() -> Trainer:
        return Trainer(Sequential([nn.Dense(3, "tanh"), nn.Dense(1)]), "mse", seed=0)

    whole = fit(made(), callbacks=[fastnn.Checkpoint(tmp_path / "whole", every=1)])
    with pytest.raises(KeyboardInterrupt):
        fit(made(), callbacks=[fastnn.Checkpoint(tmp_path / "cut", every=1), Stop()])
    again = fit(made(), callbacks=[fastnn.Checkpoint(tmp_path / "cut", every=1)], resume=True)
    same(whole, again)


# Class weights in containers -------------------------------------------------------------------------------------


def weighted(class_weight, y=LABELS) -> Trainer:
    trainer = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", "sgd", seed=0)
    trainer.fit(X, y, epochs=2, class_weight=class_weight, verbose=False)
    return trainer


BY_LABEL = {2: 5.0, 0: 0.5, 1: 2.0}
CONTAINERS = {
    "list": lambda pd: [0.5, 2.0, 5.0],
    "tuple": lambda pd: (0.5, 2.0, 5.0),
    "array": lambda pd: np.array([0.5, 2.0, 5.0]),
    "mapping": lambda pd: MappingProxyType(BY_LABEL),
    "whole floats": lambda pd: {float(label): value for label, value in BY_LABEL.items()},
    "NumPy's integers": lambda pd: {np.uint8(label): np.float32(value) for label, value in BY_LABEL.items()},
    "Series": lambda pd: pd.Series(BY_LABEL),
    "Series of floats": lambda pd: pd.Series({float(label): value for label, value in BY_LABEL.items()}),
    "Series in order": lambda pd: pd.Series([0.5, 2.0, 5.0]),
    "Index": lambda pd: pd.Index([0.5, 2.0, 5.0]),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_class_weights_are_read_by_label_where_they_have_labels(container):
    pd = pytest.importorskip("pandas")
    same(weighted(BY_LABEL), weighted(CONTAINERS[container](pd)))


def test_what_value_counts_gives_is_the_balance():
    """Its largest class comes first."""
    pd = pytest.importorskip("pandas")
    y = pd.Series(np.where(X[:, 0] < 1, 1, 0))
    weights = len(y) / (2 * y.value_counts())
    assert list(weights.index) == [1, 0]
    made = []
    for class_weight, target in (
        (weights, y), (weights.to_dict(), y), ("balanced", y), (len(y) / (2 * (y == 1).value_counts()), y == 1)
    ):  # fmt: skip
        made.append(Trainer(Sequential([nn.Dense(2)]), "cross_entropy", "sgd", seed=0))
        made[-1].fit(X, target, epochs=2, class_weight=class_weight, verbose=False)
    for other in made[1:]:
        same(made[0], other)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0.5, 2.0, 5.0}, r"class_weight is \{.*\}, expected 'balanced', a dict \{label: weight\} or one"),
        (frozenset([0.5, 2.0, 5.0]), "class_weight is frozenset"),
        (BY_LABEL.values(), "class_weight is dict_values"),
        (BY_LABEL.keys(), "class_weight is dict_keys"),
        (BY_LABEL.items(), "class_weight is dict_items"),
        ((value for value in (0.5, 2.0, 5.0)), "class_weight is <generator"),
        (iter([0.5, 2.0, 5.0]), "class_weight is <list_iterator"),
        (map(float, [1, 2, 3]), "class_weight is <map"),
        (b"abc", "class_weight is b'abc'"),
        (np.ones((3, 1)), r"class_weight has shape \(3, 1\)"),
        (np.float64(3.0), r"class_weight has shape \(\)"),
        ({0.5: 1.0}, "a label of class_weight is 0.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_class_weights_without_order_are_refused(class_weight, message):
    with pytest.raises(TypeError, match=message):
        weighted(class_weight)


def test_tables_and_doubled_labels_are_refused():
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match=r"class_weight has shape \(3, 1\)"):
        weighted(pd.DataFrame({"w": [0.5, 2.0, 5.0]}))
    with pytest.raises(ValueError, match="class_weight has label 1 twice"):
        weighted(pd.Series([1.0, 2.0, 3.0], index=[0, 1, 1]))
    with pytest.raises(ValueError, match=r"class_weight has label 7, expected labels 0 .. 2"):
        weighted(pd.Series([1.0, 2.0, 3.0], index=[0, 1, 7]))


@engines
def test_weights_of_rows_are_read_by_position(backend):
    """As scikit-learn has it, whatever the index of a Series says: X and y are read so too."""
    pd = pytest.importorskip("pandas")
    one, other = (network(backend=backend) for _ in range(2))
    index = np.arange(len(X))[::-1]
    one.fit(X, Y, sample_weight=WEIGHT, epochs=2, verbose=False)
    other.fit(X, Y, sample_weight=pd.Series(WEIGHT, index=index), epochs=2, verbose=False)
    same(one, other)
    for wrong in (set(WEIGHT), dict(enumerate(WEIGHT)).values(), iter(WEIGHT)):
        with pytest.raises((TypeError, ValueError), match="sample_weight"):
            network().fit(X, Y, sample_weight=wrong)


# Several labels --------------------------------------------------------------------------------------------------

SEVERAL = (X @ _rng.normal(size=(4, 3)) > [1.0, -2.0, 2.5]).astype(int)


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("batch", [1, 8, "full"])
def test_labels_are_balanced_each_by_itself(backend, batch):
    """A network of one layer for all labels is one for each, whose gradient is a third."""
    by_label = [{0: 1.5, 1: 4.0}, "balanced", [0.5, 3.0]]
    for class_weight in ("balanced", by_label):
        each = [class_weight] * 3 if isinstance(class_weight, str) else class_weight
        together = Sequential([nn.Dense(3, init=0.0)], dtype=np.float64)
        trainer = Trainer(together, "binary_cross_entropy", optim.SGD(0.3), seed=0, backend=backend)
        how = dict(epochs=3, batch_size=batch, verbose=False)
        trainer.fit(X, SEVERAL, class_weight=class_weight, **how)
        balance = [_weights_by_hand(one, column) for one, column in zip(each, SEVERAL.T, strict=True)]
        losses = []
        for label, weight in enumerate(balance):
            alone = Sequential([nn.Dense(1, init=0.0)], dtype=np.float64)
            rate = 0.1 * weight.mean() / np.mean(balance)
            single = Trainer(alone, "binary_cross_entropy", optim.SGD(rate), seed=0, backend=backend)
            single.fit(X, SEVERAL[:, label], sample_weight=weight, **how)
            np.testing.assert_allclose(together.layers[0].weight[:, [label]], alone.layers[0].weight, rtol=1e-9)
            np.testing.assert_allclose(together.layers[0].bias[label], alone.layers[0].bias[0], rtol=1e-9)
            losses.append(np.array(single.history["loss"]) * weight.mean())
        np.testing.assert_allclose(trainer.history["loss"], np.sum(losses, axis=0) / np.mean(balance) / 3, rtol=1e-9)


def _weights_by_hand(class_weight, y):
    if class_weight == "balanced":
        return np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (len(y) - y.sum())))
    return np.where(y == 1, class_weight[1], class_weight[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_by_output_are_the_same_bits_on_any_number_of_threads(dtype):
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)).astype(dtype), (rng.random((300, 37)) > 0.8).astype(dtype)
    weight, order = rng.uniform(0, 2, (300, 37)).astype(dtype), rng.permutation(300)
    found = []
    try:
        native.set_least_work(0)
        for threads in (1, 2):
            native.set_threads(threads)
            model = Sequential([nn.Dense(40, "relu"), nn.Dense(37)], dtype=dtype).build(20, seed=0)
            objective = Objective(LOSSES["binary_cross_entropy"], optim.Adam(), 0)
            batches = Batches(x, y, weight, order, 64, 1.25)
            losses = backends.resolve("native").train_steps(
                model.plan, model.state, objective, batches, np.full(5, 1e-2)
            )
            found.append((losses, model.state.parameters.copy()))
    finally:
        native.set_least_work(48000)
        native.set_threads(0)
    for here, there in zip(*found, strict=True):
        np.testing.assert_array_equal(here, there)
    reference = Sequential([nn.Dense(40, "relu"), nn.Dense(37)], dtype=dtype).build(20, seed=0)
    losses = backends.resolve("numpy").train_steps(
        reference.plan, reference.state, objective, batches, np.full(5, 1e-2)
    )
    np.testing.assert_allclose(found[0][0], losses, rtol=1e-4 if dtype is np.float32 else 1e-10)


def test_weights_by_output_are_of_a_loss_of_values_alone():
    pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    x, y, weight = np.zeros((4, 2), np.float32), np.full((4, 3), 1 / 3, np.float32), np.ones((4, 3), np.float32)
    model = Sequential([nn.Dense(3)]).build(2, seed=0)
    objective = Objective(LOSSES["cross_entropy"], optim.SGD(0.1), 0)
    step = backends.resolve("native").train_steps
    with pytest.raises(ValueError, match="weight is 2-D, but the loss is of whole rows"):
        step(model.plan, model.state, objective, Batches(x, y, weight, np.arange(4), 2), np.ones(2))
    for mean in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="mean_weight is not a number > 0"):
            step(
                model.plan,
                model.state,
                objective,
                Batches(x, y, weight[:, 0].copy(), np.arange(4), 2, mean),
                np.ones(2),
            )


@pytest.mark.parametrize(
    "class_weight",
    [{0: 1.0, 1: 2.0}, [{0: 1.0}], [1.0, 2.0], np.ones(3), {0, 1}],
    ids=["dict", "one", "two", "array", "set"],
)  # fmt: skip
def test_several_labels_need_weights_for_each(class_weight):
    trainer = Trainer(Sequential([nn.Dense(3)]), "binary_cross_entropy", seed=0)
    with pytest.raises(ValueError, match=r"class_weight is .* expected 'balanced' or a list of 3 dicts"):
        trainer.fit(X, SEVERAL, class_weight=class_weight)
    assert not trainer.model.built


# PyTorch ---------------------------------------------------------------------------------------------------------


def test_a_torch_module_finds_the_weighted_optimum_in_small_batches():
    torch = pytest.importorskip("torch")
    import fastnn.torch

    y = np.zeros(4000, np.float32)
    y[:40] = 1
    weight = torch.from_numpy(np.where(y == 1, 50.0, 0.5).astype(np.float32))
    for weights in (
        dict(sample_weight=weight),
        dict(class_weight="balanced"),
        dict(class_weight=torch.tensor([0.505, 50])),
    ):
        module = torch.nn.Sequential(torch.nn.Linear(1, 1))
        fastnn.torch.fit(
            module, torch.ones(4000, 1), y, loss="binary_cross_entropy", optimizer=optim.SGD(0.1), schedule="linear",
            epochs=20, batch_size=8, seed=0, verbose=False, **weights,
        )  # fmt: skip
        assert torch.sigmoid(module(torch.ones(1, 1))).item() == pytest.approx(0.5, abs=0.03)


def test_layers_without_order_are_refused():
    with pytest.raises(TypeError, match=r"layers is \{.*\}, expected a list of layers"):
        Sequential({nn.Dense(3), nn.Dense(1)})
