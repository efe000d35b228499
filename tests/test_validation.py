"""What a fit is measured on: rows held out by class, batches in the place of arrays, every k-th epoch alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from common import AUTOMATIC
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import Sequential, Trainer, nn, optim
from fastnn.training.holdout import classes_of, split

_rng = np.random.default_rng(0)
X = _rng.normal(size=(90, 3))
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
WEIGHT = _rng.uniform(0.5, 2.0, size=90)
HELD = X[:35], Y[:35], WEIGHT[:35]


def make(seed=0, **settings):
    model = Sequential([nn.Dense(4, "tanh"), nn.Dense(2)])
    return Trainer(model, "cross_entropy", optim.Adam(0.02), seed=seed, metrics=["accuracy"], **settings)


def fit(trainer, **settings):
    trainer.fit(X[35:], Y[35:], **{"epochs": 4, "verbose": False} | settings)
    return trainer


# Which rows are held out -----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_class_is_divided_in_proportion_and_learned_from(counts, fraction, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        parts = split(len(labels), {"validation": fraction}, seed, labels)
    except ValueError:  # nothing is left to hold out, or nothing else
        assert round(fraction * len(labels)) <= len(counts) or round((1 - fraction) * len(labels)) == 0
        return
    assert np.array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(len(labels)))
    for label, count in enumerate(counts):
        held = int((labels[parts["validation"]] == label).sum())
        assert held <= count - 1  # one at least is learned from
        assert abs(held - fraction * count) <= 1 or held == count - 1
    again = split(len(labels), {"validation": fraction}, seed, labels)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_no_seed_leaves_a_class_of_8_out():
    labels = np.zeros(400, int)
    labels[:8] = 1
    held = [labels[split(400, {"validation": 0.2}, seed, labels)["validation"]].sum() for seed in range(200)]
    assert set(held) <= {1, 2}  # 1.6 rows, to within one


def test_a_class_of_one_row_is_learned_from_beside_two_parts():
    labels = np.repeat([0, 1, 2, 3], [40, 1, 1, 2])
    for seed in range(100):
        parts = split(44, {"validation": 0.45, "test": 0.45}, seed, labels)
        assert set(labels[parts["training"]]) == {0, 1, 2, 3}
        assert sum(map(len, parts.values())) == 44


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array([2, 0, 1]), [2, 0, 1]),
        (np.array([[1.0], [0.0]]), [1, 0]),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), [1, 0]),
        (np.array([[1.0, 1.0], [1.0, 0.0]]), None),  # several labels
        (np.array([[0.0, 0.0], [1.0, 0.0]]), None),
        (np.array([[0.9], [0.1]]), None),
        (np.array([[2.0], [1.0]]), None),
    ],
)
def test_classes_of(y, classes):
    found = classes_of(y)
    assert (found is None) == (classes is None)
    assert classes is None or found.tolist() == classes


@pytest.mark.parametrize("kind", ["labels", "column", "one-hot"])
def test_fit_draws_by_class_unless_it_is_told_otherwise(kind):
    labels = np.zeros(400, int)
    labels[:8] = 1
    y = {"labels": labels, "column": labels, "one-hot": np.eye(2)[labels]}[kind]
    loss, outputs = ("binary_cross_entropy", 1) if kind == "column" else ("cross_entropy", 2)
    x = np.random.default_rng(1).normal(size=(400, 2))

    def held(seed, **settings):
        seen = []
        watch = fastnn.Lambda(on_fit_begin=lambda run: seen.append(run.held_out.y))
        trainer = Trainer(Sequential([nn.Dense(outputs)]), loss, seed=seed)
        trainer.fit(x, y, epochs=1, batch_size="full", validation=0.2, callbacks=[watch], verbose=False, **settings)
        return int(classes_of(seen[0]).sum())

    assert {held(seed) for seed in range(20)} <= {1, 2}
    assert 0 in {held(seed, stratify=False) for seed in range(40)}


def test_stratify_is_a_flag():
    with pytest.raises(TypeError, match="stratify is 'yes', expected True or False"):
        fit(make(), validation=0.2, stratify="yes")


def test_the_command_lines_rule_is_the_trainers():
    seen = []
    fit(make(seed=3), validation=0.3, callbacks=[fastnn.Lambda(on_fit_begin=lambda run: seen.append(run.source.among))])
    expected = split(len(Y[35:]), {"validation": 0.3}, 3, Y[35:])["training"]
    np.testing.assert_array_equal(seen[0], expected)


# Batches ---------------------------------------------------------------------------------------------------------


def batches(size=12, weight=True):
    count = 3 if weight else 2
    return [tuple(each[start : start + size] for each in HELD[:count]) for start in range(0, 35, size)]


class Anew:
    """An iterable that is no list: it makes an iterator each time, and counts how often."""

    def __init__(self, made=None):
        self.made, self.begun = batches() if made is None else made, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.made)


def loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(*map(torch.tensor, HELD))
    return torch.utils.data.DataLoader(data, batch_size=9)


def checked():
    model = make().model
    return [model.checked(*batch, "cross_entropy") for batch in batches()]


KINDS = {
    "list": batches,
    "tuple": lambda: tuple(batches()),
    "lists": lambda: [list(batch) for batch in batches()],
    "one batch": lambda: [HELD],
    "batches of one row": lambda: batches(1),
    "iterable": Anew,
    "DataLoader": loader,
    "list of Data": checked,
    "iterable of Data": lambda: Anew(checked()),
    "Data": lambda: make().model.checked(*HELD, "cross_entropy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_measure_what_arrays_do(kind):
    """The same bits: the outputs of all batches are put together, and measured as of one. NumPy's product of one row
    sums in another order than that of many."""
    plain, other = fit(make(), validation=HELD), fit(make(), validation=KINDS[kind]())
    assert [*other.history] == [*plain.history]
    exact = kind != "batches of one row" or AUTOMATIC == "native"
    for name in ("loss", "val_loss", "val_accuracy"):
        assert other.history[name] == (plain.history[name] if exact else pytest.approx(plain.history[name], rel=1e-6))


def test_batches_are_measured_as_scikit_learn_measures_them():
    metrics = pytest.importorskip("sklearn.metrics")
    trainer = fit(make(), validation=batches())
    p = trainer.model.predict_proba(HELD[0])
    loss = metrics.log_loss(HELD[1], p, sample_weight=HELD[2])
    assert trainer.history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    accuracy = metrics.accuracy_score(HELD[1], p.argmax(axis=1), sample_weight=HELD[2])
    assert trainer.history["val_accuracy"][-1] == pytest.approx(accuracy, rel=1e-6)


def test_values_of_batches_are_measured_as_they_were_passed():
    """In float64: float32 rounds these targets to 128."""
    y = 1.7e9 + 5 * _rng.normal(size=90)
    made = [(X[start : start + 30], y[start : start + 30]) for start in range(0, 90, 30)]
    made[1] = made[1][0], made[1][1][:, None]  # a column among vectors

    def measured(validation):
        model = Sequential([nn.Dense(1, init=0.0)]).build(3, seed=0)
        model.layers[0].bias[...] = 1.7e9
        trainer = Trainer(model, "mse", optim.SGD(1e-30), metrics=["mae", "r2"], seed=0)
        with pytest.warns(fastnn.PrecisionWarning, match="y spreads"):
            trainer.fit(X, y, epochs=1, validation=validation, verbose=False)
        return {name: trainer.history[name][0] for name in ("val_loss", "val_mae", "val_r2")}, model

    found, model = measured(made)
    errors = y - model.predict(X)[:, 0].astype(np.float64)
    assert found["val_mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert found["val_loss"] == pytest.approx((errors**2).mean(), rel=1e-9)
    assert found["val_r2"] == pytest.approx(1 - (errors**2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-6)


def test_rates_of_batches_are_those_of_predict():
    """A poisson model that ends with its exponential is trained on logarithms, and measured on rates."""
    y = np.exp(X[:, 0])

    def measured(validation):
        trainer = Trainer(Sequential([nn.Dense(1, "exponential")]), "poisson", metrics=["mae"], seed=0)
        return trainer.fit(X, y, epochs=2, validation=validation, verbose=False)["val_mae"], trainer.model

    found, model = measured([(X[:40], y[:40]), (X[40:], y[40:])])
    assert found == measured((X, y))[0]
    assert found[-1] == pytest.approx(np.abs(y - model.predict(X)[:, 0]).mean(), rel=1e-6)


def test_some_batches_have_weights():
    mixed = [batches()[0], *batches(weight=False)[1:]]
    ones = np.append(WEIGHT[:12], np.ones(23))
    one = fit(make(), validation=(*HELD[:2], ones))
    assert fit(make(), validation=mixed).history["val_loss"] == one.history["val_loss"]


def test_batches_of_both():
    training = [(X[start : start + 11], Y[start : start + 11]) for start in range(35, 90, 11)]
    trainer, plain = make(), make()
    trainer.fit(training, epochs=3, validation=batches(), verbose=False)
    plain.fit(X[35:], Y[35:], epochs=3, batch_size=11, shuffle=False, validation=HELD, verbose=False)
    assert trainer.history["val_loss"] == plain.history["val_loss"]


def test_an_iterable_is_gone_through_once_an_epoch():
    anew = Anew()
    fit(make(), validation=anew, epochs=6, validation_freq=2)
    assert anew.begun == 1 + 3  # one look before the first step


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        ((lambda: (batch for batch in batches())), ValueError, "validation is a generator, which can be gone through"),
        (lambda: iter(batches()), ValueError, "validation is a list_iterator, which can be gone through once"),
        (lambda: map(tuple, batches()), ValueError, "validation is a map, which can be gone through once"),
        (lambda: Anew([]), ValueError, "validation has no batches"),
        (lambda: Anew([X]), TypeError, "validation yields ndarray, expected batches"),
        (lambda: Anew([(X,)]), TypeError, "validation yields tuple, expected batches"),
        (lambda: Anew([(X[:, :2], Y)]), ValueError, "batch 0 of validation X has 2 features, but X has 3"),
        (lambda: [HELD, (X, Y[:-1])], ValueError, "batch 1 of validation y has 89 rows, but X has 90"),
        (lambda: [HELD, (X, Y + 1)], ValueError, "batch 1 of validation y has label 2"),
        (list, TypeError, "validation is list of 0, expected"),
        (lambda: X, TypeError, "validation is ndarray, expected"),
        (lambda: {"X": X, "y": Y}, TypeError, "validation is dict, expected"),
    ],
)
def test_batches_that_are_wrong_touch_nothing(validation, error, message):
    trainer = make()
    with pytest.raises(error, match=message):
        fit(trainer, validation=validation())
    assert not trainer.model.built and len(trainer.history) == 0


def test_nested_lists_are_rows_and_not_batches():
    rows = X[:2].tolist(), Y[:2].tolist()
    arrays = fit(make(), validation=(X[:2], Y[:2])).history["val_loss"]
    assert fit(make(), validation=rows).history["val_loss"] == arrays


def test_names_of_columns_are_compared_in_every_batch():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    part = lambda k, names: (frame[[*names]].iloc[20 * k : 20 * k + 20], Y[20 * k : 20 * k + 20])  # noqa: E731
    good = [part(k, "abc") for k in range(4)]
    trainer = make()
    trainer.fit(good, epochs=2, validation=good, verbose=False)
    assert trainer.model.feature_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="X has column 'c' at position 0, but this model was fitted with 'a' there"):
        trainer.model.predict(frame[list("cba")])
    with pytest.raises(ValueError, match="batch 1 of X has column 'c' at position 0"):
        make().fit([part(0, "abc"), part(1, "cba")], epochs=1, verbose=False)
    for wrong in (part(0, "cba"), [part(0, "cba")], Anew([part(0, "cba")])):
        fresh = make()
        with pytest.raises(ValueError, match="validation X has column 'c' at position 0"):
            fresh.fit(good, epochs=1, validation=wrong, verbose=False)
        assert not fresh.model.built
    with pytest.raises(ValueError, match="batch 2 of validation X has column 'c' at position 1"):
        make().fit(good, epochs=1, validation=[*good[:2], part(2, "acb")], verbose=False)


# Every k epochs --------------------------------------------------------------------------------------------------


def test_only_every_kth_epoch_is_measured():
    plain, other = fit(make(), validation=HELD, epochs=7), fit(make(), validation=HELD, epochs=7, validation_freq=3)
    expected = [value if epoch % 3 == 0 else math.nan for epoch, value in enumerate(plain.history["val_loss"], 1)]
    np.testing.assert_array_equal(other.history["val_loss"], expected)
    assert other.history["loss"] == plain.history["loss"]


def test_a_second_fit_counts_its_own_epochs():
    trainer = fit(fit(make(), epochs=3, validation=HELD), epochs=4, validation=HELD, validation_freq=2)
    assert np.isnan(trainer.history["val_loss"]).tolist() == [False] * 3 + [True, False] * 2


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_counts_validated_epochs(every, patience):
    stop = fastnn.EarlyStopping(patience=patience, min_delta=10.0)  # none becomes better by so much
    trainer = fit(make(), epochs=100, validation=HELD, validation_freq=every, callbacks=[stop])
    assert stop.best_epoch == 1 + np.nanargmin(trainer.history["val_loss"])
    assert len(trainer.history) == every * (1 + patience)


def test_plateaus_count_validated_epochs():
    plateau = fastnn.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=10.0)
    trainer = fit(make(), epochs=20, validation=HELD, validation_freq=4, callbacks=[plateau])
    assert np.array(trainer.history["lr"]) / 0.02 == pytest.approx([1.0] * 12 + [0.5] * 8)


def test_what_watches_training_sees_every_epoch():
    stop = fastnn.EarlyStopping("loss", patience=3, min_delta=10.0, mode="min")
    trainer = fit(make(), epochs=100, validation=HELD, validation_freq=7, callbacks=[stop])
    assert len(trainer.history) == 1 + 3


def test_a_log_has_the_columns_of_validation_from_the_beginning(tmp_path):
    fit(make(), epochs=4, validation=HELD, validation_freq=2, callbacks=[fastnn.CSVLogger(tmp_path / "log.csv")])
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,lr,seconds,val_loss,val_accuracy"
    assert [line.split(",")[4] == "nan" for line in lines[1:]] == [True, False, True, False]


def test_resumed_within_the_count(tmp_path):
    """Stopped after 3 epochs and gone on with: the same epochs are measured as at once."""
    options = dict(validation=HELD, validation_freq=2, epochs=8)
    stop = fastnn.Lambda(on_epoch_end=lambda run: run.stop("for now", resumable=True) if run.epoch == 3 else None)
    fit(make(), callbacks=[stop, fastnn.Checkpoint(tmp_path)], **options)
    other = fit(make(), callbacks=[fastnn.Checkpoint(tmp_path)], resume=True, **options)
    at_once = fit(make(), **options)
    np.testing.assert_array_equal(other.history["val_loss"], at_once.history["val_loss"])
    with pytest.raises(ValueError, match=r"validation is .* every 2 epochs is what"):
        fit(make(), callbacks=[fastnn.Checkpoint(tmp_path)], resume=True, **options | {"validation_freq": 1})


@pytest.mark.parametrize(
    ("every", "validation", "error", "message"),
    [
        (0, HELD, ValueError, "validation_freq is 0, expected an integer >= 1"),
        (1.5, HELD, TypeError, "validation_freq is 1.5, expected an integer >= 1"),
        (2, None, ValueError, "validation_freq is 2, but validation is None"),
        (5, HELD, ValueError, "validation_freq is 5, but epochs is 4"),
    ],
)
def test_counts_that_are_wrong(every, validation, error, message):
    trainer = make()
    with pytest.raises(error, match=message):
        fit(trainer, validation=validation, validation_freq=every)
    assert not trainer.model.built
