"""What users pass where they meet the package: refused by name, before anything is changed; and what they see of it."""

from __future__ import annotations

import copy
import os
import sys

import numpy as np
import pytest
from common import features

import fastnn
from fastnn import Sequential, Trainer, cli, nn, tabular

X = features(20, 6) * 3 + 1
Y = features(20, 1, seed=1)

# Normalize.adapt ---------------------------------------------------------------------------------------------------


def poisoned(value: float) -> np.ndarray:
    x = X.copy()
    x[4, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], ValueError, r"x has shape \(6,\), expected two dimensions"),
        (X[:, :1], ValueError, "x has 1 features, but this model was built with 6"),
        (X[:, :2], ValueError, "x has 2 features, but this model was built with 6"),
        (X[:0], ValueError, "x has 0 rows"),
        (X + 1j, ValueError, "x has complex values"),
        (poisoned(np.nan), ValueError, "Input x contains NaN, first at row 4, column 2"),
        (poisoned(-np.inf), ValueError, "Input x contains infinity, first at row 4, column 2"),
        (poisoned(1e300), ValueError, "Input x contains 1e[+]300, a value too large for float32"),
        (None, ValueError, "x is None, expected an array of numbers"),
        ("x", (TypeError, ValueError), "x has "),
        (3.0, ValueError, r"x has shape \(\), expected two dimensions"),
        (X.reshape(20, 3, 2), ValueError, r"x has rows of shape \(3, 2\), but this model was built with"),
    ],
)
def test_adapt_refuses_what_a_fit_refuses(x, error, message):
    model = Sequential([nn.Normalize(), nn.Dense(1)]).build(6, seed=0)
    layer = model.layers[0]
    with pytest.raises(error, match=f"^{message}"):
        layer.adapt(x)
    assert not layer.adapted and (layer.shift == 0).all() and (layer.scale == 1).all()


@pytest.mark.parametrize("made", [lambda model: model, copy.deepcopy], ids=["model", "copy"])
def test_adapt_takes_rows_of_the_models_shape_alone(made):
    model = made(Sequential([nn.Normalize(), nn.Flatten(), nn.Dense(1)]).build((2, 3), seed=0))
    layer = model.layers[0]
    with pytest.raises(ValueError, match=r"^x has rows of shape \(3, 2\), but this model was built with rows of shape"):
        layer.adapt(X.reshape(20, 3, 2))
    layer.adapt(X.reshape(20, 2, 3))
    np.testing.assert_allclose(layer.shift, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(layer.scale, 1 / X.std(axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "weight has 3 rows, but X has 20"),
        (np.full(20, np.nan), "Input weight contains NaN"),
        (np.full(20, -1.0), "weight has value -1, expected weights >= 0"),
    ],
)
def test_adapt_refuses_weights_that_a_fit_refuses(weight, message):
    layer = Sequential([model_layer := nn.Normalize(), nn.Dense(1)]).build(6, seed=0).layers[0]
    assert layer is model_layer
    with pytest.raises(ValueError, match=f"^{message}"):
        layer.adapt(X, None, weight)
    assert not layer.adapted


# Data for another loss or dtype ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["poisson", "binary_cross_entropy"])
@pytest.mark.parametrize("use", ["fit", "validation", "evaluate"])
def test_targets_of_data_are_checked_for_another_loss(loss, use):
    y = [-5.0, *[0.5] * 19]
    data = Sequential([nn.Dense(1)]).checked(X, y, None, "mse")
    trainer = Trainer(Sequential([nn.Dense(1)]).build(6, seed=0), loss)
    trainer.model.loss = nn.LOSSES[loss]
    calls = {
        "fit": lambda: trainer.fit(data, verbose=False),
        "validation": lambda: trainer.fit(X, np.full(20, 0.5), validation=data, verbose=False),
        "evaluate": lambda: trainer.model.evaluate(data),
    }
    with pytest.raises(ValueError, match="y has value -5, expected values in"):
        calls[use]()
    assert trainer.model.state.step == 0


def test_data_for_a_loss_that_takes_their_targets_are_taken():
    y = np.linspace(0.1, 0.9, 20)
    data = Sequential([nn.Dense(1)]).checked(X, y, None, "mse")
    here, there = (Trainer(Sequential([nn.Dense(1)]), "poisson", seed=0) for _ in range(2))
    here.fit(data, epochs=2, verbose=False)
    there.fit(X, y, epochs=2, verbose=False)
    np.testing.assert_array_equal(here.model.layers[0].weight, there.model.layers[0].weight)


@pytest.mark.parametrize("form", ["array", "sparse"])
def test_values_of_data_are_checked_for_another_dtype(form):
    x = poisoned(1e300)
    if form == "sparse":
        x = pytest.importorskip("scipy.sparse").csr_array(x)
    wide = Sequential([nn.Dense(2)], dtype="float64")
    data = wide.checked(x, [0, 1] * 10, None, "cross_entropy")
    trainer = Trainer(Sequential([nn.Dense(2)]).build(6, seed=0), "cross_entropy")
    trainer.model.loss = nn.LOSSES["cross_entropy"]
    for call in (trainer.fit, trainer.model.predict, trainer.model.evaluate):
        with pytest.raises(ValueError, match=r"^Input X contains 1e[+]300, a value too large for float32"):
            call(data)
    assert trainer.model.state.step == 0
    assert np.isfinite(wide.build(6, seed=0).predict(data)).all()


def test_weights_of_data_come_in_the_dtype_of_the_model():
    y, weight = [0, 1] * 10, np.linspace(0.1, 2.0, 20)
    data = Sequential([nn.Dense(2)], dtype="float64").checked(X, y, weight, "cross_entropy")
    here, there = (Trainer(Sequential([nn.Dense(2)]), "cross_entropy", seed=0) for _ in range(2))
    here.fit(data, epochs=2, verbose=False)
    there.fit(X, y, sample_weight=weight, epochs=2, verbose=False)
    np.testing.assert_array_equal(here.model.layers[0].weight, there.model.layers[0].weight)
    data = Sequential([nn.Dense(2)], dtype="float64").checked(X, y, weight * 1e-300, "cross_entropy")
    with pytest.raises(ValueError, match=r"^sample_weight is all zero in float32"):
        here.fit(data, verbose=False)


def test_the_repr_of_data_says_what_they_are():
    data = Sequential([nn.Dense(1)]).checked(X, Y, np.ones(20), "mse")
    assert repr(data) == "Data(20 rows of shape (6,) of float64, y (20, 1) of float32, weights of float32)"
    assert repr(Sequential([nn.Dense(1)]).features(X)) == "Features(20 rows of shape (6,) of float64)"


# Rows that still have positions ------------------------------------------------------------------------------------


def test_answers_need_one_row_of_outputs():
    model = Sequential([nn.Dense(3)]).build((2, 4), seed=0)
    model.loss = nn.LOSSES["cross_entropy"]
    z = features(5, 8).reshape(5, 2, 4)
    assert model.predict(z).shape == (5, 2, 3)
    for call in (model.predict_proba, model.predict_class, lambda z: model.evaluate(z, [0] * 5)):
        with pytest.raises(ValueError, match=r"^the model makes rows of shape \(2, 3\), expected .*end with Flatten"):
            call(z)


@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)])
def test_a_bad_value_is_named_by_its_position(shape):
    x = np.ones((5, *shape))
    x[3, -1, ..., 1] = np.nan
    where = np.argwhere(np.isnan(x))[0].tolist()[1:]
    with pytest.raises(ValueError, match=rf"NaN, first at row 3, position \({', '.join(map(str, where))}\)$"):
        Sequential([nn.Dense(3)]).features(x)


# Arguments are named -----------------------------------------------------------------------------------------------

PATHS = {
    "path": [
        lambda given: Sequential([nn.Dense(1)]).save(given),
        lambda given: fastnn.load(given),
        lambda given: fastnn.CSVLogger(given),
    ],
    "directory": [lambda given: fastnn.Checkpoint(given)],
}


@pytest.mark.parametrize("given", [3, None, b"a", ["a"]])
@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in PATHS.items() for call in calls])
def test_what_is_no_path_is_named(name, call, given):
    with pytest.raises(TypeError, match=rf"^{name} is .*, expected a path: text, or an os\.PathLike of it$"):
        call(given)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Dense(2**31), nn.Dense(2**31)], r"weight of layers\[1\] \(Dense\) has shape \(2147483648, 2147483648\)"),
        ([nn.Dense(10**30)], r"weight of layers\[0\] \(Dense\) has shape \(3, 10{30}\)"),
    ],
)
def test_more_parameters_than_any_memory_has(layers, message):
    model = Sequential([copy.deepcopy(layer) for layer in layers])
    with pytest.raises(ValueError, match=f"^{message}, expected 2\\^40 values at most$"):
        model.build(3)
    assert not model.built


@pytest.mark.parametrize(
    ("layer", "role"),
    [
        (lambda: nn.Dense(5, init=1e300), "weight"),
        (lambda: nn.Dense(5, init=nn.Normal(1e300)), "weight"),
        (lambda: nn.Scale(1e300), "factor"),
        (lambda: nn.PReLU(-1e300), "slope"),
    ],
)
def test_what_float32_does_not_hold_is_no_initial_value(layer, role):
    model = Sequential([nn.Dense(3), nn.Residual([layer()]) if role != "weight" else layer()])
    with pytest.raises(ValueError, match=rf"^{role} of layers\[1\].* has infinite values in float32, expected a small"):
        model.build(3, seed=0)
    assert not model.built
    wide = Sequential([nn.Dense(3), layer()], dtype="float64").build(3, seed=0)
    assert np.isfinite(wide.state.parameters).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_argument_init_is_named(value):
    with pytest.raises(ValueError, match=r"^init is (nan|inf), expected a finite number"):
        nn.Dense(3, init=value)


def test_wrong_tuples_say_their_length():
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse")
    for validation, length in (((X, Y, None, 1), 4), ((X,), 1)):
        with pytest.raises(TypeError, match=rf"^validation is tuple of {length}, expected \(X, y\)"):
            trainer.fit(X, Y, validation=validation, verbose=False)
    for batch, length in (((X,), 1), ((X, Y, None, None), 4), ([X], 1)):
        with pytest.raises(TypeError, match=rf"^X yields (tuple|list) of {length}, expected batches \(X, y\)"):
            trainer.fit([batch], verbose=False)


def test_predictions_beyond_the_dtype_are_said():
    model = Sequential([nn.Normalize(), nn.Dense(2)]).build(6, seed=0)
    model.layers[0].adapt(X * 1e-6)
    model.loss = "cross_entropy"
    far = np.stack([X[0] * 1e-6, np.full(6, 3e38)])
    for call in (model.predict, model.predict_proba):
        with pytest.warns(RuntimeWarning, match=r"^predictions of 1 of 2 rows are NaN or infinite: X, as Normalize"):
            call(far)


# What was accepted in silence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("lr", 1e-4, AttributeError, r"a Trainer has no setting 'lr', .*set trainer\.optimizer, as to optim\.Adam\(lr"),
        ("foo", 0, AttributeError, "a Trainer has no setting 'foo', expected one of: loss, optimizer, schedule"),
        ("model", 3, AttributeError, "model of a Trainer stays what it is, expected a new Trainer"),
        ("history", 3, TypeError, r"history is 3, expected a fastnn\.History"),
    ],
)
def test_a_trainer_takes_its_settings_alone(name, value, error, message):
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse")
    with pytest.raises(error, match=f"^{message}"):
        setattr(trainer, name, value)
    assert vars(trainer).get(name) is not value


def test_a_trainer_of_ones_own_has_attributes_of_its_own():
    class Mine(Trainer):
        pass

    trainer = Mine(Sequential([nn.Dense(1)]), "mse")
    trainer.note = "mine"
    assert copy.deepcopy(trainer).note == "mine"


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("loss", "foo", ValueError, "loss is 'foo', expected one of"),
        ("metadata", 3, TypeError, "metadata is 3, expected a dict of what JSON holds"),
        ("metadata", {"a": [float("nan")]}, ValueError, r"metadata\['a'\]\[0\] is nan, expected what JSON holds"),
        ("metadata", {"a": -(10**5000)}, ValueError, r"metadata\['a'\] is a whole number of over 4000 digits"),
        ("metadata", {"a": {1: 2}}, TypeError, r"metadata\['a'\] has the key 1, expected text"),
    ],
)
def test_a_model_checks_what_it_is_told_of_itself(name, value, error, message, tmp_path):
    model = Sequential([nn.Dense(1)]).build(3, seed=0)
    before = getattr(model, name)
    with pytest.raises(error, match=f"^{message}"):
        setattr(model, name, value)
    assert getattr(model, name) is before
    if name == "metadata":
        with pytest.raises(error, match=f"^{message}"):
            model.save(tmp_path / "model", metadata=value)
        assert list(tmp_path.iterdir()) == []


def test_the_largest_metadata_come_back(tmp_path):
    model = Sequential([nn.Dense(1)])
    model.metadata = {"a": 10**4000 - 1, "b": [1e308, -0.0, True, None, "ä"]}
    model.save(tmp_path / "model")
    assert fastnn.load(tmp_path / "model").metadata == model.metadata


@pytest.mark.parametrize("kind", [str, bytes, object])
def test_numbers_as_text_are_no_numbers(kind):
    x = np.array([[f"{value:.3f}" for value in row] for row in X.tolist()])
    x = x.astype(kind)
    if kind is object:
        x[:, 1:] = X[:, 1:]
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse")
    with pytest.raises(ValueError, match=r"^X has dtype .*, expected numbers: it has text such as b?'[0-9.-]+'"):
        trainer.fit(x, Y, verbose=False)
    assert not trainer.model.built


def test_two_columns_of_one_name_are_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[*"abcade"])
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse")
    with pytest.raises(ValueError, match=r"^X has 2 columns 'a', expected names of their own"):
        trainer.fit(frame, Y, verbose=False)
    assert not trainer.model.built


# Places that cannot be written to ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fastnn.CSVLogger, fastnn.Checkpoint], ids=lambda make: make.__name__)
@pytest.mark.parametrize("where", ["below a file", "/proc/fastnn/a.csv", "missing"])
def test_a_place_that_cannot_be_written_to_is_found_before_the_fit(make, where, tmp_path):
    (tmp_path / "file").write_text("")
    place = {"below a file": tmp_path / "file" / "a", "missing": tmp_path / "no" / "a.csv"}.get(where, where)
    if where.startswith("/proc") and not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here")
    trainer = Trainer(Sequential([nn.Normalize(), nn.Dense(1)]), "mse", seed=0)
    if make is fastnn.Checkpoint and where == "missing":  # which makes its folder
        trainer.fit(X, Y, epochs=1, callbacks=[make(place)], verbose=False)
        assert len(list(place.iterdir())) >= 1
        return
    with pytest.raises(OSError, match=r"file|a[.]csv|fastnn"):
        trainer.fit(X, Y, epochs=1, callbacks=[make(place)], verbose=False)
    assert not trainer.model.built and not trainer.model.layers[0].adapted
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_nothing_is_left_where_a_fit_is_refused(tmp_path):
    """By another callback, after the place was tried."""
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", seed=0)
    callbacks = [
        fastnn.Checkpoint(tmp_path / "a" / "b"),
        fastnn.CSVLogger(tmp_path / "c"),
        fastnn.EarlyStopping("val_los"),
    ]
    with pytest.raises(ValueError, match="val_los"):
        trainer.fit(X, Y, epochs=1, callbacks=callbacks, verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_both_errors(tmp_path):
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse")
    for kind in (fastnn.CheckpointError, FileNotFoundError):
        with pytest.raises(kind, match="which has no checkpoint"):
            trainer.fit(X, Y, resume=tmp_path / "nowhere", verbose=False)


def test_a_model_of_many_long_names_is_kept(tmp_path):
    """30,000 columns with names of 43 letters, and the same in its metadata: 3 MB beside 240 KB of parameters."""
    names = [f"{k:0>43}" for k in range(30_000)]
    model = Sequential([nn.Dense(2)]).build(len(names), seed=0)
    model.feature_names, model.metadata = names, {"columns": names}
    model.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model")
    assert again.feature_names == names and again.metadata == {"columns": names}


@pytest.mark.parametrize("command", [["demo"], ["bench", "ladder"], ["train", "t.csv", "--target=y", "--plot=c.png"]])
def test_a_missing_matplotlib_is_said_first(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # which makes its import fail
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    for slow in ("demo.run", "ladder.climb", "tabular.train"):
        monkeypatch.setattr(f"fastnn.cli.{slow}", lambda *_, **__: pytest.fail("worked before it looked"))
    out = ["--out=model"] if command[0] == "train" else []
    assert cli.main([*command, *out]) == 1
    error = capsys.readouterr().err
    assert "matplotlib" in error and error.count("\n") == 1


# Callbacks that are added where a fit goes on ------------------------------------------------------------------------


def test_a_callback_may_be_added_where_a_fit_goes_on_and_none_left_out(tmp_path):
    def fit(epochs, *callbacks):
        trainer = Trainer(Sequential([nn.Dense(1)]), "mse", seed=0)
        callbacks = [fastnn.Checkpoint(tmp_path), *callbacks]
        return trainer.fit(X, Y, epochs=epochs, callbacks=callbacks, validation=0.2, resume=True, verbose=False)

    fit(2)
    assert len(fit(4, fastnn.EMA(0.9))) == 4
    with pytest.raises(ValueError, match="callbacks has no EMA"):
        fit(6)


class Counted(fastnn.Callback):
    def __init__(self, fails=False):
        self.fails, self.calls = fails, []

    def on_fit_begin(self, run):
        self.calls.append("begin")
        if self.fails:
            raise RuntimeError("no")

    def on_fit_end(self, run):
        self.calls.append("end")


def test_who_has_begun_is_ended():
    callbacks = [Counted(), Counted(fails=True), Counted()]
    with pytest.raises(RuntimeError, match="no"):
        Trainer(Sequential([nn.Dense(1)]), "mse").fit(X, Y, callbacks=callbacks, verbose=False)
    assert [callback.calls for callback in callbacks] == [["begin", "end"], ["begin"], []]


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: --target"),
        (["--target", "y", "--hidden", "0"], "argument --hidden: '0' is not like 128,64"),
        (["--target", "y", "--epochs", "ten"], "argument --epochs: invalid int value: 'ten'"),
    ],
)
def test_an_option_that_cannot_be_read_is_status_2(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "t.csv", *options])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("usage: fastnn train") and message in error
    assert os.listdir(tmp_path) == ["t.csv"]


def test_predictions_go_into_no_file_of_another_kind(tmp_path):
    """Nor where that is there already."""
    (tmp_path / "x.foo").write_text("mine")
    for name in ("x.foo", "y.foo"):
        with pytest.raises(ValueError, match=rf"{name} ends in \.foo, expected \.csv or \.tsv"):
            tabular.check_writable(tmp_path / name)
    tabular.check_writable(tmp_path / "x.csv")
    tabular.check_writable(os.devnull)


# What a user of the wheel met ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trainable", "requires_grad", "frozen"])
def test_freezing_is_refused(name):
    """It would be without effect: of Keras's and PyTorch's names none is taken."""
    layer = nn.Dense(3)
    for owner in (layer, Sequential([nn.Dense(3)]), Sequential([nn.Dense(3)]).build(2, seed=0).layers[0]):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}': all parameters of a model are trained"):
            setattr(owner, name, False)
    with pytest.raises(TypeError, match=f"Dense has no argument '{name}', expected nothing: all parameters"):
        nn.Dense(3, **{name: False})


def test_rmse_of_several_outputs_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y, prediction, weight = rng.normal(size=(40, 3)) * [1, 10, 100], rng.normal(size=(40, 3)), rng.random(40)
    for given in (None, weight):
        right = metrics.root_mean_squared_error(y, prediction, sample_weight=given)
        assert fastnn.METRICS["rmse"].function(y, prediction, given) == pytest.approx(right, rel=1e-12)


def test_text_in_one_column_is_named():
    frame = pytest.importorskip("pandas").DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    with pytest.raises(ValueError, match=r"X has dtype object, expected numbers: .*'x' in column 1 \('b'\)$"):
        Trainer(Sequential([nn.Dense(1)]), "mse").fit(frame, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"expected numbers: .* in column 1$"):
        Trainer(Sequential([nn.Dense(1)]), "mse").fit(frame.to_numpy(), [1.0, 2.0])


SEVERAL = np.array([1, 2])


def regression() -> Trainer:
    return Trainer(Sequential([nn.Dense(1)]), "mse")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: regression().fit(np.ones((4, 1)), np.ones(4), batch_size=SEVERAL), "batch_size"),
        (lambda: nn.Normalize(SEVERAL), "mode"),
        (lambda: fastnn.Checkpoint("somewhere", every=SEVERAL), "every"),
        (lambda: fastnn.EarlyStopping(mode=SEVERAL), "mode"),
        (lambda: fastnn.metric(np.mean, needs=SEVERAL), "needs"),
        (lambda: fastnn.metric(np.mean, needs=0), "needs"),
        (lambda: fastnn.metric(np.mean, mode=SEVERAL), "mode"),
        (lambda: regression().find_lr(np.ones((4, 1)), np.ones(4), low=1e30), "high is 10.0 and low"),
    ],
)  # fmt: skip
def test_settings_that_are_arrays_are_named(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name} is "):
        call()
