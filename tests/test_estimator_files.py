"""Files and pickles of the estimators: what comes back predicts the same bits and learns on, or there is an error."""

from __future__ import annotations

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
from common import features, run_python
from file_drafts import set_in_header

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastnn
from fastnn import MLPClassifier, MLPRegressor, ModelFormatError, Sequential, files, nn, optim
from fastnn.estimators import classes, kept, plain

X = features(60, 5)
K = np.random.default_rng(0).integers(0, 3, len(X))
NAMES = np.array(["a", "bb", "c é"])
TARGETS = {
    "ints": K - 1,
    "two": K % 2,
    "one": np.full(60, 7),
    "bytes": K.astype(np.uint8),
    "bools": K > 0,
    "floats": K.astype(np.float32),
    "text": NAMES[K],
    "wide text": NAMES.astype("U9")[K],
    "objects": NAMES.astype(object)[K],
    "labels": np.stack([K > 0, K == 1, K == 0], axis=1).astype(int),
    "columns": np.stack([K, K + 5, K > 1], axis=1),
    "columns of text": np.stack([NAMES[K], NAMES[K - 1]], axis=1),
}
SETTINGS = {
    "as they are": {},
    "stopped": dict(early_stopping=True, max_iter=6, hidden_layer_sizes=[4, 3]),
    "not the best": dict(early_stopping=True, max_iter=6, restore_best=False, n_iter_no_change=np.inf),
    "lbfgs": dict(solver="lbfgs"),
    "sgd": dict(solver="sgd", learning_rate="invscaling", dtype="float32", threads=1),
    "layers": dict(dropout=[0.2], batch_norm=True, activation=[nn.PReLU(0.1)], ema=0.9),
    "maxout": dict(activation=nn.Maxout(3), dropout=0.5, scoring="loss", verbose=0),
    "activations": dict(hidden_layer_sizes=(3, 4), activation=("gelu", nn.ACTIVATIONS["elu"].with_alpha(0.5))),
    "how it learns": dict(
        optimizer=optim.AdamW(0.01, decay=1e-3), schedule=optim.Warmup(1, then=optim.Cosine(restart=2.0)), clip_norm=1.0
    ),
    "by name": dict(optimizer="rmsprop", schedule="cosine", alpha=np.float64(1e-3), max_iter=np.int64(2)),
}


def quietly(kind, y, **settings):
    settings = dict(hidden_layer_sizes=(4,), max_iter=3, random_state=0) | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**settings).fit(X, y)


def round_trip(estimator, folder):
    estimator.save(folder / "estimator")
    return fastnn.load(folder / "estimator")


def fitted_attributes(estimator) -> str:
    own = {name: value for name, value in vars(estimator).items() if name.endswith("_") and not name.startswith("__")}
    return repr([(name, plain.without_numpy(own[name])) for name in sorted(own)])


def same(a, b) -> None:
    assert type(a) is type(b)
    assert repr(a.get_params()) == repr(b.get_params())
    assert fitted_attributes(a) == fitted_attributes(b)
    found, expected = a.predict(X), b.predict(X)
    assert found.dtype == expected.dtype and np.array_equal(found, expected)
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert one.tobytes() == other.tobytes()


# What comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_classes_come_back(y, tmp_path):
    model = quietly(MLPClassifier, y)
    again = round_trip(model, tmp_path)
    same(again, model)
    for found, expected in (
        (again.classes_, model.classes_),
        (again.predict_proba(X), model.predict_proba(X)),
        (again.predict_log_proba(X), model.predict_log_proba(X)),
    ):
        for one, other in zip(columns_of(found), columns_of(expected), strict=True):
            assert one.dtype == other.dtype and np.array_equal(one, other)
    assert again.score(X, y) == model.score(X, y)


def columns_of(found) -> list[np.ndarray]:
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_settings_come_back_and_learn_on(kind, settings, tmp_path):
    y = NAMES[K] if kind is MLPClassifier else X[:, :2] + 1
    model = quietly(kind, y, warm_start=True, **settings)
    expected = {name: v.item() if isinstance(v, np.generic) else v for name, v in model.get_params().items()}
    again = round_trip(model, tmp_path)
    same(again, model.set_params(**expected))
    content = (tmp_path / "estimator").read_bytes()
    again.save(tmp_path / "estimator")
    assert (tmp_path / "estimator").read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in (model, again):  # a warm start begins its moments anew: the same bits
            one.fit(X, y)
        same(again, model)
        same(clone(again).fit(X, y), clone(model).fit(X, y))
        if settings.get("solver") != "lbfgs" and not settings.get("early_stopping"):
            assert round_trip(model, tmp_path).partial_fit(X, y).t_ > model.t_


def test_where_there_are_no_moments_partial_fit_ends_with_the_same_bits(tmp_path):
    """Plain descent has none; what is shuffled, and how, goes on."""
    model = MLPRegressor(hidden_layer_sizes=(4,), optimizer=optim.SGD(0.01), batch_size=7, random_state=0)
    for _ in range(3):
        model.partial_fit(X, X[:, 0])
    again = round_trip(model, tmp_path)
    for one in (model, again):
        one.partial_fit(X, X[:, 0]).partial_fit(X, X[:, 0])
    same(again, model)


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "gamma", nn.Quantile(0.3), nn.Tweedie(1.3)])
def test_regressors_come_back(loss, tmp_path):
    for y in (np.exp(X[:, 0]), np.exp(X[:, :2])):
        model = quietly(MLPRegressor, y, loss=loss)
        again = round_trip(model, tmp_path)
        same(again, model)
        assert again.score(X, y) == model.score(X, y)
        assert np.array_equal(again.predictor()(X), model.predictor()(X))


def test_names_of_features(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("vwxyé"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((3,), max_iter=2, random_state=0).fit(frame, K)
    again = round_trip(model, tmp_path)
    assert again.feature_names_in_.dtype == object and again.feature_names_in_.tolist() == list("vwxyé")
    assert np.array_equal(again.predict_proba(frame), model.predict_proba(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(frame[list("éyxwv")])


def test_one_that_is_not_fitted(tmp_path):
    model = MLPClassifier(class_weight=[{0: 1.0, 1: 2.5}, {"a": 3}], loss=nn.CrossEntropy(0.1), hidden_layer_sizes=())
    again = round_trip(model, tmp_path)
    assert repr(again.get_params()) == repr(model.get_params())
    with pytest.raises(NotFittedError):
        again.predict(X)


def test_parameters_that_were_set_after_the_fit(tmp_path):
    model = quietly(MLPClassifier, NAMES[K]).set_params(hidden_layer_sizes=(9, 9), activation="tanh", loss="hinge")
    same(round_trip(model, tmp_path), model)


def test_arrays_among_the_parameters_become_lists(tmp_path):
    model = quietly(MLPClassifier, K, hidden_layer_sizes=np.array([4, 3]), class_weight={np.int64(0): np.float32(2)})
    again = round_trip(model, tmp_path)
    assert again.hidden_layer_sizes == [4, 3] and again.class_weight == {0: 2.0}
    assert np.array_equal(again.predict(X), model.predict(X))


def test_the_classes_of_a_first_partial_fit(tmp_path):
    model = MLPClassifier((3,), random_state=0).partial_fit(X[:9], NAMES[K[:9]], classes=NAMES)
    again = round_trip(model, tmp_path)
    same(again, model)
    assert again.partial_fit(X, NAMES[K]).classes_.tolist() == NAMES.tolist()
    with pytest.raises(ValueError, match="is not the same as on last call"):
        again.partial_fit(X, NAMES[K], classes=["other", *NAMES])


def test_text_whose_padding_takes_memory(tmp_path, monkeypatch):
    """NumPy pads each class to the longest one's width: what a file makes of a few letters is bounded."""
    monkeypatch.setattr(classes, "_MOST_TEXT", 1000)
    assert round_trip(quietly(MLPClassifier, NAMES.astype("U80")[K]), tmp_path).classes_.dtype == "U80"
    assert round_trip(quietly(MLPClassifier, NAMES.astype("U90")[K]), tmp_path).classes_.dtype == "U3"
    long = quietly(MLPClassifier, np.array(["a", "b", "x" * 90])[K])
    with pytest.raises(TypeError, match="classes of column 0 take 1080 bytes as <U90, expected 1000 at most"):
        long.save(tmp_path / "e")
    same(pickle.loads(pickle.dumps(long)), long)
    quietly(MLPClassifier, TARGETS["columns"]).save(tmp_path / "e")
    header, arrays = files.read(tmp_path / "e")
    header["fitted"]["labels"]["columns"] = [{"dtype": "U90", "values": ["a"]}] * 3
    files.write(tmp_path / "e", header, arrays)
    with pytest.raises(ModelFormatError, match=r"dtype is 'U90', expected .*U1 to U83"):
        fastnn.load(tmp_path / "e")


def test_sparse_labels(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    again = round_trip(quietly(MLPClassifier, sparse.csr_matrix(TARGETS["labels"])), tmp_path)
    assert sparse.issparse(again.predict(X))


def test_the_command_says_that_it_is_no_model(tmp_path, capsys):
    from fastnn.cli import main

    quietly(MLPClassifier, K).save(tmp_path / "e")
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert main(["predict", str(tmp_path / "e"), str(tmp_path / "t.csv")]) != 0
    assert "format is 'fastnn estimator', expected 'fastnn model'" in capsys.readouterr().err


def test_models_are_loaded_without_scikit_learn(tmp_path):
    Sequential([nn.Dense(2)]).build(3, seed=0).save(tmp_path / "m")
    quietly(MLPClassifier, K).save(tmp_path / "e")
    result = run_python(f"""
        import sys
        import fastnn
        fastnn.load({str(tmp_path / "m")!r})
        assert "sklearn" not in sys.modules
        sys.modules["sklearn"] = None
        try:
            fastnn.load({str(tmp_path / "e")!r})
        except ImportError as error:
            assert "scikit-learn" in str(error), error
        else:
            raise AssertionError
    """)
    assert result.returncode == 0, result.stderr


# What is refused before anything is written ----------------------------------------------------------------------


class Own(MLPClassifier):
    pass


REFUSED = {
    "callbacks": (lambda: quietly(MLPClassifier, K, callbacks=[fastnn.Timer(9.0)]), TypeError, r"callbacks\[0\] is <"),
    "a scorer": (lambda: quietly(MLPClassifier, K).set_params(scoring=print), TypeError, "scoring is <built-in"),
    "random_state": (
        lambda: quietly(MLPClassifier, K, random_state=np.random.RandomState(0)),
        TypeError,
        r"random_state is RandomState",
    ),
    "a loss": (
        lambda: MLPRegressor(nn.loss("mine", _value, _slope)),
        TypeError,
        "loss is mine",
    ),
    "an optimizer": (lambda: MLPRegressor(optimizer=[1, object()]), TypeError, r"optimizer\[1\] is <object"),
    "out of range": (lambda: MLPRegressor(alpha=-1.0), ValueError, "'alpha' parameter"),
    "a network that is none": (
        lambda: MLPRegressor(activation=["relu", "tanh"]),
        ValueError,
        "activation has 2 entries",
    ),
    "a class of one's own": (lambda: Own(), TypeError, "the estimator is a Own"),
    "an attribute": (lambda: with_attribute(quietly(MLPClassifier, K)), TypeError, "the attribute note"),
    "an attribute before": (lambda: with_attribute(MLPClassifier()), TypeError, "the attribute note"),
}


def with_attribute(estimator):
    estimator.note = "mine"
    return estimator


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_before_the_file_is_touched(make, error, message, tmp_path):
    path = tmp_path / "e"
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        make().save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["e"]


# Headers that say what cannot be --------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    quietly(MLPClassifier, NAMES[K], early_stopping=True, restore_best=False, max_iter=6).save(tmp_path / "e")
    return tmp_path / "e"


FITTED = "fitted"
COLUMN = (FITTED, "labels", "columns", 0)
SET = {
    "version": (("version",), 2, "version is 2, expected 1"),
    "class": (("class",), "Sequential", "class is 'Sequential', expected one of: MLPClassifier, MLPRegressor"),
    "another class": (("class",), "MLPRegressor", "parameters has the unknown field"),
    "another field": (("extra",), 1, "the header has the unknown field extra"),
    "another parameter": (("parameters", "color"), "red", "parameters has the unknown field color"),
    "alpha": (("parameters", "alpha"), -1, "parameters: The 'alpha' parameter"),
    "alpha of NaN": (("parameters", "alpha"), float("nan"), "alpha is nan"),
    "two keys": (("parameters", "alpha"), {"float": "inf", "tuple": []}, "alpha is .* one key"),
    "unknown kind": (("parameters", "alpha"), {"set": [1]}, "alpha has the key 'set'"),
    "a float": (("parameters", "alpha"), {"float": "1"}, "alpha is '1', expected one of: inf"),
    "sizes": (("parameters", "hidden_layer_sizes"), {"tuple": [0]}, "hidden_layer_sizes must be > 0"),
    "sizes of text": (
        ("parameters", "hidden_layer_sizes"),
        {"tuple": "a"},
        "hidden_layer_sizes is 'a', expected a list",
    ),
    "a deep one": (("parameters", "class_weight"), {"tuple": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}, "too deeply"),
    "a dict": (("parameters", "class_weight"), {"dict": [[1]]}, "pairs of a key"),
    "a key that is none": (("parameters", "class_weight"), {"dict": [[[], 1]]}, "class_weight .dict.: unhashable"),
    "a key twice": (("parameters", "class_weight"), {"dict": [[1, 2], [True, 3]]}, "a key twice"),
    "a loss": (("parameters", "loss"), {"loss": {"name": "magic", "parameter": 0}}, "loss: loss is 'magic'"),
    "a loss of none": (("parameters", "loss"), {"loss": None}, "expected a loss"),
    "an optimizer": (("parameters", "optimizer"), {"optimizer": {"kind": "Optimizer"}}, "expected one of: .*Adam"),
    "an optimizer's field": (
        ("parameters", "optimizer"),
        {"optimizer": {"kind": "SGD"}},
        "optimizer .SGD. has no decay",
    ),
    "a layer": (("parameters", "activation"), {"layer": {"kind": "Dense"}}, r"activation \(Dense\) has no"),
    "an initialiser": (("parameters", "activation"), {"layer": {"kind": "Zeros", "value": 0}}, "expected a layer"),
    "fitted": ((FITTED,), [], "fitted is .*wrong type"),
    "fitted of nothing": ((FITTED,), None, "not fitted, with its arrays, has the unknown field"),
    "layout": ((FITTED, "layout"), {}, "layout has no activations"),
    "hidden": ((FITTED, "layout", "hidden"), [10**40], "tensor 0.weight is .*, but its layer has"),
    "hidden of text": ((FITTED, "layout", "hidden"), ["a"], "layout.hidden is 'a'"),
    "dropout": ((FITTED, "layout", "dropout"), [1.0], "layout: dropout is 1.0"),
    "activation": ((FITTED, "layout", "activations"), ["snake"], "layout: activation is 'snake'"),
    "a dense activation": ((FITTED, "layout", "activations"), [{"tuple": []}], "layout: "),
    "inputs": ((FITTED, "inputs"), 4, r"tensor 0.weight is float64 \(5, 4\)"),
    "outputs": ((FITTED, "outputs"), 4, "tensor 2?1?.weight|tensor 1.weight"),
    "dtype": ((FITTED, "dtype"), "float16", "dtype is 'float16'"),
    "loss under softmax": ((FITTED, "loss", "name"), "mse", "loss is mse, expected a loss of classes"),
    "rate": ((FITTED, "rate"), 0.0, "rate is 0.0, expected a finite number > 0"),
    "seed": ((FITTED, "seed"), -1, "seed is -1"),
    "labels": ((FITTED, "labels"), None, "labels is None"),
    "kind of labels": ((FITTED, "labels", "kind"), "many", "labels.kind is 'many'"),
    "another kind": ((FITTED, "labels", "kind"), "binary", "3 classes, which are not binary"),
    "sparse": ((FITTED, "labels", "sparse"), True, "labels.sparse is True"),
    "no columns": ((FITTED, "labels", "columns"), [], "labels.columns is"),
    "no classes": ((*COLUMN, "values"), [], r"columns\[0\].values is \[\]"),
    "order": ((*COLUMN, "values"), ["b", "a", "c"], "ascending order"),
    "classes of two kinds": ((*COLUMN, "values"), ["a", 1, "c"], "expected classes of <U"),
    "text beyond its width": ((*COLUMN, "dtype"), "U1", "which <U1 does not hold"),
    "a width beyond memory": ((*COLUMN, "dtype"), "U9999999", "dtype is 'U9999999'"),
    "a dtype that is none": ((*COLUMN, "dtype"), "V8", "dtype is 'V8'"),
    "fewer classes": ((*COLUMN, "values"), ["a", "b", "c", "d"], "3 outputs, expected 4"),
    "names of features": ((FITTED, "feature_names"), ["a"], "feature_names is"),
    "a count": ((FITTED, "numbers", "t_"), -1, "numbers.t_ is -1"),
    "a count of text": ((FITTED, "numbers", "n_iter_"), "3", "numbers.n_iter_ is '3'"),
    "a number": ((FITTED, "numbers", "loss_"), None, "numbers.loss_ is None"),
    "a number more": ((FITTED, "numbers", "callbacks"), 1.0, "numbers has the unknown field callbacks"),
    "scores twice": ((FITTED, "numbers", "validation_scores_"), None, "unknown field validation_scores_"),
    "history": ((FITTED, "history"), ["loss"], "a row of float64 for each"),
    "best": ((FITTED, "best"), "network", "best epoch has the unknown field"),
    "best of none": ((FITTED, "best"), 1, "best is 1"),
    "optimizer": ((FITTED, "optimizer"), {"rule": "adam", "step": -1}, "expected null in a file"),
}


@pytest.mark.parametrize(("where", "value", "message"), SET.values(), ids=SET)
def test_headers_that_say_what_cannot_be(where, value, message, saved):
    set_in_header(saved, where, value)
    with pytest.raises(ModelFormatError, match=message) as caught:
        fastnn.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("field", [*kept.FIELDS, *kept.FITTED, "layout.hidden", "numbers.n_iter_", "labels.kind"])
def test_a_field_left_out(field, saved):
    header, arrays = files.read(saved)
    outer, _, inner = field.rpartition(".")
    spot = header if field in kept.FIELDS else header[FITTED][outer] if outer else header[FITTED]
    del spot[inner]
    files.write(saved, header, arrays)
    with pytest.raises(ModelFormatError, match="format is None" if field == "format" else inner):
        fastnn.load(saved)


def test_arrays_that_are_others(saved):
    header, arrays = files.read(saved)
    curve = arrays["curve.loss_curve_"]
    for name, array, message in (
        ("curve.loss_curve_", curve[None], r"curve.loss_curve_ is float64 \(1, "),
        ("curve.loss_curve_", curve.astype(np.float32), "curve.loss_curve_ is float32"),
        ("history", arrays["history"][:1], "a row of float64"),
        ("history", curve, "a row of float64"),
        ("best.0.weight", arrays["0.weight"].T.copy(), "tensor 0.weight"),
        ("slot.0", curve, "the optimizer has the unknown field slot.0"),
        ("curve.another", curve, "unknown field curve.another"),
    ):
        files.write(saved, header, arrays | {name: array})
        with pytest.raises(ModelFormatError, match=message):
            fastnn.load(saved)
    for name in ("curve.loss_curve_", "history", "best.0.bias", "0.bias"):
        files.write(saved, header, {key: value for key, value in arrays.items() if key != name})
        with pytest.raises(ModelFormatError):
            fastnn.load(saved)


def test_an_older_reader_says_what_it_is(saved):
    from fastnn.nn import reading

    with pytest.raises(ModelFormatError, match="format is 'fastnn estimator', expected 'fastnn model'"):
        reading.load(saved)


# Pickles and copies ----------------------------------------------------------------------------------------------

COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_copies_go_on_with_their_moments(settings, copied):
    model = quietly(MLPClassifier, NAMES[K], **settings)
    again = copied(model)
    same(again, model)
    if settings.get("solver") != "lbfgs" and not settings.get("early_stopping"):
        for one in (model, again):
            one.partial_fit(X, NAMES[K]).partial_fit(X, NAMES[K])
        same(again, model)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_have_what_no_file_holds(copied):
    random, model = np.random.RandomState(0), with_attribute(MLPClassifier(callbacks=[fastnn.Timer(9.0)]))
    model.set_params(random_state=random, hidden_layer_sizes=np.array([4, 3]), alpha=np.float32(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(max_iter=2).fit(X, K)
    again = copied(model)
    assert again.note == "mine" and type(again.callbacks[0]) is fastnn.Timer
    assert again.random_state.randint(1 << 30) == random.randint(1 << 30)
    assert again.hidden_layer_sizes.tolist() == [4, 3] and type(again.alpha) is np.float32
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert copied(Own(alpha=-1.0)).alpha == -1.0


def test_a_network_with_formulas_of_ones_own_is_pickled_as_it_is():
    model = quietly(MLPRegressor, X[:, 0], loss=nn.loss("own", _value, _slope))
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), model.predict(X))


def _value(z, y, parameter):
    return (z - y) ** 2


def _slope(z, y, parameter):
    return 2 * (z - y)


def test_a_shallow_copy_shares_the_network():
    model = quietly(MLPClassifier, K)
    assert copy.copy(model).coefs_[0].base is model.coefs_[0].base


def test_pickles_of_before_are_read():
    """Their state is the attributes themselves."""
    model = quietly(MLPClassifier, K)
    again = MLPClassifier.__new__(MLPClassifier)
    again.__setstate__(dict(vars(model)))
    same(again, model)


def test_skops_trusts_one_class(tmp_path):
    io = pytest.importorskip("skops.io")
    for model in (quietly(MLPClassifier, NAMES[K], early_stopping=True), quietly(MLPRegressor, X[:, :2])):
        io.dump(model, tmp_path / "e.skops")
        trusted = io.get_untrusted_types(file=tmp_path / "e.skops")
        kind = type(model)
        assert trusted == [f"{kind.__module__}.{kind.__name__}"]
        again = io.load(tmp_path / "e.skops", trusted=trusted)
        same(again, model)
        assert np.array_equal(again.predict(X), model.predict(X))
