"""MLPClassifier and MLPRegressor: what scikit-learn's compute, to rounding; then what goes beyond them."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import tracemalloc
import warnings

import numpy as np
import pytest
from common import run_python

pytest.importorskip("sklearn")

import sklearn
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, log_loss, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLPClassifier, MLPRegressor, nn, optim

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

oracle = pytest.mark.skipif(  # 1.6 has no poisson and no sample_weight, 1.7 fails to stop early on labels that are text
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8), reason="compares with scikit-learn 1.8 or newer"
)

ROWS = 120
_rng = np.random.default_rng(0)
X = _rng.normal(size=(ROWS, 6))
_Z = X @ _rng.normal(size=(6, 4)) + X[:, :4] ** 2
WEIGHT = _rng.uniform(0.2, 2.0, size=ROWS)
TARGETS = {
    "binary": ("MLPClassifier", np.where(_Z[:, 0] > 1, "yes", "no"), {}),
    "classes": ("MLPClassifier", _Z.argmax(axis=1) * 10, {}),
    "labels": ("MLPClassifier", (_Z > 1).astype(int), {}),
    "value": ("MLPRegressor", _Z[:, 0], {}),
    "values": ("MLPRegressor", _Z[:, :3], {}),
    "counts": ("MLPRegressor", np.abs(_Z[:, :3]) / 5, {"loss": "poisson"}),
}
SOLVERS = {
    "adam": {},
    "sgd": {},
    "sgd-plain-momentum": {"nesterovs_momentum": False},
    "sgd-no-momentum": {"momentum": 0.0},
    "sgd-invscaling": {"learning_rate": "invscaling", "learning_rate_init": 0.5},
    "sgd-invscaling-plain": {"learning_rate": "invscaling", "learning_rate_init": 0.5, "nesterovs_momentum": False},
    "sgd-invscaling-to-nothing": {"learning_rate": "invscaling", "power_t": 60.0},
    "sgd-adaptive": {"learning_rate": "adaptive"},
    "sgd-adaptive-momentum-1": {"learning_rate": "adaptive", "momentum": 1.0, "learning_rate_init": 1e-3},
    "lbfgs": {"max_iter": 10},
}
COMMON = {"hidden_layer_sizes": (7, 5), "random_state": 3, "learning_rate_init": 0.02, "max_iter": 40, "tol": 1e-3}


def both(target: str, **params):
    """Ours, in float64, and scikit-learn's with the same parameters, neither fitted; and y."""
    kind, y, own = TARGETS[target]
    theirs = getattr(neural_network, kind)(**own, **params)
    return getattr(fastnn, kind)(**own, **params, dtype="float64"), theirs, y


def assert_same(ours, theirs):
    """1e-8: forty steps of up to 1e4 roundings each, 1e-16, of sums in another order, and room for their growth."""
    assert ours.n_iter_ == theirs.n_iter_ and ours.t_ == theirs.t_
    assert ours.out_activation_ == theirs.out_activation_ and ours.n_layers_ == theirs.n_layers_
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-8)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
    if hasattr(theirs, "loss_curve_"):
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-8)
        for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-8)
    a, b = ours.predict(X), theirs.predict(X)
    assert a.dtype.kind == b.dtype.kind and a.shape == b.shape
    if a.dtype.kind == "f":
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
    else:
        np.testing.assert_array_equal(a, b)
        p, logs = theirs.predict_proba(X), theirs.predict_log_proba(X)
        np.testing.assert_allclose(ours.predict_proba(X), p, rtol=1e-6, atol=1e-9)
        digits = p > 1e-9  # scikit-learn's 1 - p is a multiple of 1e-16: its logarithm is off by 1e-16 / p
        np.testing.assert_allclose(ours.predict_log_proba(X)[digits], logs[digits], rtol=1e-6, atol=1e-6)


# Equal to scikit-learn -------------------------------------------------------------------------------------------


@oracle
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_batch_is_scikit_learns(solver, target, weighted):
    """With alpha, weights, and the stopping rules: each epoch is a step."""
    if solver == "lbfgs" and target == "values":
        pytest.skip("scikit-learn's loss and gradient differ by the number of outputs there: see docs/estimators.md")
    params = COMMON | {"batch_size": ROWS, "alpha": 0.05, "n_iter_no_change": 3} | SOLVERS[solver]
    ours, theirs, y = both(target, solver=solver.split("-")[0], **params)
    weight = WEIGHT if weighted else None
    assert_same(ours.fit(X, y, weight), theirs.fit(X, y, weight))


@oracle
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_activations_are_scikit_learns(solver, target, activation):
    if solver == "lbfgs" and target == "values":
        pytest.skip("see test_one_batch_is_scikit_learns")
    ours, theirs, y = both(target, solver=solver, activation=activation, **COMMON | {"max_iter": 10, "alpha": 0.05})
    assert_same(ours.fit(X, y), theirs.fit(X, y))


@oracle
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "lbfgs"])
def test_batches_are_scikit_learns_without_shuffling(solver, target):
    params = COMMON | {"batch_size": 30, "shuffle": False, "alpha": 0.0, "n_iter_no_change": 3} | SOLVERS[solver]
    ours, theirs, y = both(target, solver=solver.split("-")[0], **params)
    assert_same(ours.fit(X, y), theirs.fit(X, y))


@oracle
@pytest.mark.parametrize("target", ["binary", "classes", "labels", "value"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_early_stopping_is_scikit_learns(target, weighted):
    """The same rows held out, the same scores, the same epoch's parameters put back."""
    params = COMMON | {"max_iter": 150, "n_iter_no_change": 5, "tol": 0.01, "validation_fraction": 0.25}
    ours, theirs, y = both(target, early_stopping=True, shuffle=False, **params)
    weight = WEIGHT if weighted else None
    assert_same(ours.fit(X, y, weight), theirs.fit(X, y, weight))
    assert theirs.n_iter_ < 150


@pytest.mark.parametrize("solver", ["adam", "sgd", "sgd-adaptive", "sgd-invscaling"])
@pytest.mark.parametrize("target", ["binary", "classes", "labels", "values"])
def test_fits_that_go_on_are_scikit_learns(target, solver):
    """partial_fit keeps the optimizer's moments, a warm start begins them anew; both keep the curves."""
    params = COMMON | {"max_iter": 6, "shuffle": False} | SOLVERS[solver]
    estimators = both(target, solver=solver.split("-")[0], **params)
    ours, theirs, y = estimators
    for estimator in (ours, theirs):
        classes = {"binary": ["no", "yes"], "classes": [0, 10, 20, 30], "labels": [0, 1, 2, 3]}.get(target)
        estimator.partial_fit(X, y, **{} if classes is None else {"classes": classes})
        for _ in range(4):
            estimator.partial_fit(X[:60], y[:60])
    assert_same(ours, theirs)
    for estimator in (ours, theirs):
        estimator.set_params(warm_start=True).fit(X, y).fit(X, y)
    assert len(ours.loss_curve_) > 10
    assert_same(ours, theirs)


@oracle
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=str)
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_first_weights_are_scikit_learns(activation, hidden):
    """Also without a hidden layer, where the parameter alone says which."""
    settings = dict(hidden_layer_sizes=hidden, activation=activation, max_iter=1, random_state=3)
    labels = X[:, 0] > 0
    made = [
        module.MLPClassifier(**settings, solver="sgd", learning_rate_init=1e-300).fit(X, labels)
        for module in (fastnn, neural_network)
    ]
    for ours, theirs in zip(made[0].coefs_ + made[0].intercepts_, made[1].coefs_ + made[1].intercepts_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_several_outputs_reach_scikit_learns_minimum():
    """lbfgs and squared error, without a hidden layer, where there is one minimum: our loss is the one the gradient is
    of, so we end no higher."""
    ours, theirs, y = both("values", solver="lbfgs", hidden_layer_sizes=(), max_iter=2000, random_state=0, tol=1e-6)
    ours.fit(X, y)
    theirs.fit(X, y)
    assert ours.loss_ <= theirs.loss_ * (1 + 1e-6)


@oracle
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_and_defaults_are_scikit_learns(name):
    ours = inspect.signature(getattr(fastnn, name)).parameters
    for parameter in inspect.signature(getattr(neural_network, name)).parameters.values():
        assert ours[parameter.name].default == parameter.default, parameter.name
        assert ours[parameter.name].kind == parameter.kind, parameter.name
    further = [p for p in ours.values() if p.name not in inspect.signature(getattr(neural_network, name)).parameters]
    assert len(further) > 10 and all(p.kind is p.KEYWORD_ONLY for p in further)


@oracle
@pytest.mark.parametrize("target", ["binary", "labels", "value"])
@pytest.mark.parametrize("params", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
def test_fitted_attributes_are_scikit_learns(target, params):
    ours, theirs, y = both(target, max_iter=3, **params)
    assert not hasattr(ours, "coefs_")
    ours.fit(X, y)
    theirs.fit(X, y)
    for name in [name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")]:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert isinstance(a, type(b)) or (isinstance(a, float) and isinstance(b, float)), name
    missing = {name for name in dir(theirs) if not name.startswith("_") and not hasattr(ours, name)}
    # scikit-learn's MLPRegressor has a partial_fit with lbfgs, which is a whole fit
    assert missing == ({"partial_fit"} if target == "value" and ours.solver == "lbfgs" else set())


MISTAKES = {
    "hidden sizes": (dict(hidden_layer_sizes=(5, 0)), X, None),
    "alpha": (dict(alpha=-1.0), X, None),
    "momentum": (dict(momentum=2.0), X, None),
    "tol": (dict(tol="small"), X, None),
    "rows": ({}, X[:50], None),
    "NaN": ({}, np.where(X > 2.4, np.nan, X), None),
    "one dimension": ({}, X[:, 0], None),
    "weights": ({}, X, np.ones(3)),
    "validation": (dict(early_stopping=True, validation_fraction=1e-3), X, None),
}


@oracle
@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_are_scikit_learns(mistake):
    params, x, weight = MISTAKES[mistake]
    messages = []
    for module in (fastnn, neural_network):
        with pytest.raises((ValueError, TypeError)) as raised:
            module.MLPRegressor(**params).fit(x, TARGETS["value"][1], weight)
        messages.append((type(raised.value), str(raised.value)))
    assert messages[0] == messages[1]


def test_errors_of_classes_are_scikit_learns():
    y = TARGETS["classes"][1]

    def unknown(model):
        model.partial_fit(X, y, classes=[0, 10, 20, 30]).partial_fit(X, y + 1)

    def other_classes(model):
        model.set_params(warm_start=True).fit(X, y).fit(X, y + 1)

    def other_columns(model):
        model.fit(X, y).predict(X[:, :2])

    def stopping(model):
        model.set_params(early_stopping=True).partial_fit(X, y, classes=[0, 10, 20, 30])

    def without_classes(model):
        model.partial_fit(X, y)

    def values(model):
        model.fit(X, X[:, 0])

    def before(model):
        model.predict(X)

    def not_stochastic(model):
        model.set_params(solver="lbfgs").partial_fit(X, y)

    for mistake in (unknown, other_classes, other_columns, stopping, without_classes, values, before, not_stochastic):
        raised = []
        for module in (fastnn, neural_network):
            with pytest.raises((ValueError, AttributeError)) as caught:
                mistake(module.MLPClassifier(max_iter=2))
            raised.append((type(caught.value), str(caught.value)))
        assert raised[0] == raised[1], mistake.__name__


def test_warnings_are_scikit_learns_and_point_at_the_caller():
    for module in (fastnn, neural_network):
        for params, message in (
            ({}, r"Maximum iterations \(2\) reached"),
            ({"batch_size": 500}, "going to be clipped"),
            ({"solver": "lbfgs"}, "lbfgs failed to converge"),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                module.MLPRegressor(max_iter=2, **params).fit(X, TARGETS["value"][1])
            found = [warning for warning in caught if re.search(message, str(warning.message))]
            assert found, (module.__name__, message)
            if module is fastnn:
                assert found[0].filename == __file__
    assert issubclass(found[0].category, ConvergenceWarning)


def test_numbers_too_large_are_an_error():
    for module in (fastnn, neural_network):
        model = module.MLPRegressor(solver="sgd", learning_rate_init=1e10, random_state=0)
        with pytest.raises(ValueError, match="non-finite parameter weights"), np.errstate(all="ignore"):
            model.fit(X, TARGETS["value"][1])


@oracle
def test_verbose_says_what_scikit_learns_does(capsys):
    for params in ({}, {"learning_rate": "adaptive", "solver": "sgd"}, {"early_stopping": True}):
        ours, theirs, y = both("binary", **COMMON | {"shuffle": False, "tol": 0.05, "n_iter_no_change": 2}, **params)
        said = []
        for model in (ours, theirs):
            model.set_params(verbose=True).fit(X, y)
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]


# Scripts with one import changed ---------------------------------------------------------------------------------

SCRIPTS = {
    "classification": """
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
        X, y = load_digits(return_X_y=True)
        X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0)
        model = MLPClassifier(hidden_layer_sizes=(64,), max_iter=30, random_state=1)
        score = model.fit(X, y).score(X_test, y_test)
        assert model.predict_proba(X_test).shape == (len(X_test), 10)
        assert len(model.loss_curve_) == model.n_iter_ and [w.shape for w in model.coefs_] == [(64, 64), (64, 10)]
        least = 0.93
    """,
    "regression": """
        from sklearn.datasets import load_diabetes
        from sklearn.preprocessing import scale
        X, y = load_diabetes(return_X_y=True)
        X, y = scale(X), scale(y)
        score = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", alpha=1.0, max_iter=300, random_state=0)
        score = score.fit(X[:300], y[:300]).score(X[300:], y[300:])
        least = 0.2
    """,
    "grid search in a pipeline": """
        from sklearn.datasets import load_wine
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler
        X, y = load_wine(return_X_y=True)
        steps = [("scale", StandardScaler()), ("net", MLPClassifier(max_iter=100, random_state=0))]
        grid = {"net__alpha": [1e-4, 1e-1], "net__hidden_layer_sizes": [(8,), (32,)]}
        search = GridSearchCV(Pipeline(steps), grid, cv=3).fit(X, y)
        score, least = search.best_score_, 0.95
    """,
    "randomized search": """
        from scipy.stats import loguniform
        from sklearn.datasets import load_iris
        from sklearn.model_selection import RandomizedSearchCV
        X, y = load_iris(return_X_y=True)
        model = MLPClassifier((16,), max_iter=150, random_state=0)
        rates = {"learning_rate_init": loguniform(1e-3, 1e-1)}
        score = RandomizedSearchCV(model, rates, n_iter=4, cv=3, random_state=0).fit(X, y).best_score_
        least = 0.93
    """,
    "warm start": """
        from sklearn.datasets import load_breast_cancer
        from sklearn.preprocessing import scale
        X, y = load_breast_cancer(return_X_y=True)
        model = MLPClassifier((10,), warm_start=True, max_iter=1, random_state=0)
        for _ in range(20):
            model.fit(scale(X), y)
        assert len(model.loss_curve_) == 20 and model.n_iter_ == 1
        score, least = model.score(scale(X), y), 0.9
    """,
    "partial_fit": """
        import numpy as np
        from sklearn.datasets import load_iris
        X, y = load_iris(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(X))
        model = MLPClassifier((16,), learning_rate_init=0.02, random_state=0)
        for epoch in range(30):
            for part in np.array_split(order, 3):
                model.partial_fit(X[part], y[part], classes=np.unique(y))
        assert model.t_ == 30 * len(X)
        score, least = model.score(X, y), 0.93
    """,
    "multi-label": """
        from sklearn.datasets import make_multilabel_classification
        X, y = make_multilabel_classification(n_samples=300, n_labels=2, n_classes=4, random_state=0)
        model = MLPClassifier((40,), max_iter=100, learning_rate_init=0.01, random_state=0).fit(X, y)
        assert model.predict(X).shape == y.shape and model.predict_proba(X).shape == y.shape
        score, least = model.score(X, y), 0.8
    """,
    "calibration": """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.datasets import load_breast_cancer
        from sklearn.preprocessing import scale
        X, y = load_breast_cancer(return_X_y=True)
        model = CalibratedClassifierCV(MLPClassifier((10,), max_iter=60, random_state=0), cv=3).fit(scale(X), y)
        score, least = model.score(scale(X), y), 0.92
    """,
    "bagging": """
        from sklearn.datasets import load_diabetes
        from sklearn.ensemble import BaggingRegressor
        from sklearn.preprocessing import scale
        X, y = load_diabetes(return_X_y=True)
        model = MLPRegressor(hidden_layer_sizes=(10,), solver="lbfgs", max_iter=60, alpha=1.0)
        X, y = scale(X), scale(y)
        score = BaggingRegressor(model, n_estimators=5, random_state=0).fit(X, y).score(X, y)
        least = 0.5
    """,
    "early stopping": """
        from sklearn.datasets import load_digits
        X, y = load_digits(return_X_y=True)
        model = MLPClassifier((32,), early_stopping=True, max_iter=100, random_state=0, n_iter_no_change=5).fit(X, y)
        assert len(model.validation_scores_) == model.n_iter_ < 100 and model.best_loss_ is None
        assert model.best_validation_score_ == max(model.validation_scores_)
        score, least = model.score(X, y), 0.93
    """,
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run_with_one_import_changed(script):
    scores = []
    for module in ("sklearn.neural_network", "fastnn"):
        names: dict = {}
        exec(f"from {module} import MLPClassifier, MLPRegressor\n" + inspect.cleandoc("\n" + SCRIPTS[script]), names)
        assert names["score"] >= names["least"], (module, names["score"])
        scores.append(names["score"])
    assert scores[1] > scores[0] - 0.03  # another shuffle: the hundreds of rows tested on have an error of 0.01


# Among scikit-learn's tools --------------------------------------------------------------------------------------


def small(**params) -> MLPClassifier:
    return MLPClassifier(**{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0} | params)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x / 16, y


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_sparse_rows_give_what_dense_ones_do(kind, params, digits):
    x, y = digits[0][:400], digits[1][:400]
    dense, thin = small(**params).fit(x, y), small(**params).fit(kind(x), y)
    for a, b in zip(dense.coefs_, thin.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(dense.predict_proba(x), thin.predict_proba(kind(x)))


def test_sparse_rows_are_never_all_dense():
    """8000 x 10000 would be 640 MB in float64: what is dense at once is less than 100 MB."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=80_000), rng.integers(0, 10_000, 80_000), np.arange(0, 80_001, 10)
    x = sparse.csr_matrix(parts, shape=(8000, 10_000))
    tracemalloc.start()
    try:
        model = small(max_iter=1, hidden_layer_sizes=(2,)).fit(x, rng.integers(0, 2, 8000))
        assert model.predict(x).shape == (8000,)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6


def test_sparse_labels_come_back_sparse():
    y = TARGETS["labels"][1]
    model = small().fit(X, sparse.csr_matrix(y))
    answer = model.predict(X)
    assert sparse.issparse(answer)
    np.testing.assert_array_equal(answer.toarray(), small().fit(X, y).predict(X))


def test_pickle_and_clone_and_going_on():
    y = TARGETS["classes"][1]
    model = small(dropout=0.2, callbacks=[fastnn.Timer()]).fit(X, y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    model.partial_fit(X, y)
    copied.partial_fit(X, y)
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend, digits):
    import joblib

    grid = {"alpha": [1e-4, 1e-1], "activation": ["relu", "tanh"]}
    alone = GridSearchCV(small(), grid, cv=3).fit(*digits)
    with joblib.parallel_backend(backend, n_jobs=2):
        spread = GridSearchCV(small(), grid, cv=3).fit(*digits)
    np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], spread.cv_results_["mean_test_score"])


@pytest.mark.skipif("native" not in fastnn.backends.available(), reason="it has the threads")
def test_workers_of_loky_share_the_processors():
    """Each of two workers on two processors takes one thread."""
    result = run_python(
        """
        import os
        os.environ["LOKY_MAX_CPU_COUNT"] = "2"
        from joblib import Parallel, delayed
        def threads():
            from fastnn.backends import native
            return native.threads()
        print(Parallel(n_jobs=2, backend="loky")(delayed(threads)() for _ in range(2)))
        """
    )
    assert result.stdout.strip() == "[1, 1]", result.stderr


def test_data_frames_and_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    y = TARGETS["classes"][1]
    for scoring in (None, "neg_log_loss"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = small(early_stopping=True, scoring=scoring).fit(frame, y, eval_X=frame[:50], eval_y=y[:50])
            model.predict(frame)
    assert list(model.feature_names_in_) == list("abcdef") and model.n_features_in_ == 6
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_metadata_routing_carries_weights_and_validation_rows():
    y = TARGETS["binary"][1]
    with config_context(enable_metadata_routing=True):
        model = (
            small().set_fit_request(sample_weight=True, eval_X=True, eval_y=True).set_score_request(sample_weight=True)
        )
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipe.fit(X, y, sample_weight=WEIGHT, eval_X=X, eval_y=y)
        assert len(pipe[-1].validation_scores_) == 5
        scores = cross_val_score(small().set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
                                 X, y, params={"sample_weight": WEIGHT})  # fmt: skip
    assert len(scores) == 5


def test_coefs_are_views():
    model = small().fit(X, TARGETS["binary"][1])
    model.coefs_[-1][...] = 0.0
    model.intercepts_[-1] = [3.0]
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-3.0)))
    model.intercepts_ = [np.zeros_like(bias) for bias in model.intercepts_]
    np.testing.assert_array_equal(model.predict_proba(X), 0.5)
    with pytest.raises(ValueError, match="broadcast"):
        model.coefs_[0] = np.zeros((2, 2))


def test_without_scikit_learn_the_package_imports_and_says_what_to_install():
    result = run_python(
        """
        import sys
        sys.modules["sklearn"] = None
        import fastnn
        from fastnn import *
        assert "MLPClassifier" not in dir(fastnn)
        try:
            fastnn.MLPClassifier
        except ImportError as error:
            print(error)
        try:
            fastnn.Nonsense
        except AttributeError as error:
            print(error)
        """
    )
    assert "scikit-learn" in result.stdout and "[sklearn]" in result.stdout, result.stderr
    assert "no attribute 'Nonsense'" in result.stdout


def test_importing_the_package_does_not_import_scikit_learn():
    result = run_python(
        "import sys, fastnn; print('sklearn' in sys.modules, 'scipy' in sys.modules, 'MLPClassifier' in dir(fastnn))"
    )
    assert result.stdout.split() == ["False", "False", "True"], result.stderr


def test_an_interrupted_fit_is_kept():
    def interrupt(run):
        if run.epoch == 3:
            raise KeyboardInterrupt

    y = TARGETS["classes"][1]
    with pytest.warns(UserWarning, match="interrupted by user"):
        model = small(callbacks=[fastnn.Lambda(on_epoch_end=interrupt)]).fit(X, y)
    assert model.n_iter_ == 3
    assert model.predict(X).shape == (ROWS,)


# Beyond scikit-learn's -------------------------------------------------------------------------------------------


def test_auto_dtype():
    """As the data's, as scikit-learn's; L-BFGS always float64."""
    y, single = TARGETS["classes"][1], X.astype(np.float32)
    for params, x, expected in (
        ({}, X, np.float64),
        ({}, single, np.float32),
        ({}, (16 * np.abs(X)).astype(np.uint8), np.float64),
        ({}, sparse.csr_matrix(single), np.float32),
        ({"batch_size": 20}, X, np.float64),
        ({"batch_size": 20}, single, np.float32),
        ({"solver": "lbfgs"}, single, np.float64),
        ({"dtype": "float64"}, single, np.float64),
        ({"dtype": "float32", "solver": "lbfgs"}, X, np.float32),
    ):
        model = small(**params).fit(x, y)
        assert model.coefs_[0].dtype == expected
        assert model.predict_proba(x).dtype == np.float64
    values = MLPRegressor(max_iter=2)
    assert values.fit(X, y).predict(single).dtype == np.float32
    assert values.predict(X).dtype == np.float64


@pytest.mark.parametrize("rows", [2, 199, 200, 201, 1000])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_auto_dtype_is_that_of_any_number_of_rows_and_of_partial_fit(rows, given):
    rng = np.random.default_rng(rows)
    x, y = rng.normal(size=(rows, 3)).astype(given), rng.normal(size=rows)
    for model in (
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=1).fit(x, y),
        MLPRegressor(hidden_layer_sizes=(4,)).partial_fit(x, y),
    ):
        assert model.coefs_[0].dtype == given


def test_partial_fit_of_one_whole_batch_is_fit():
    y = TARGETS["value"][1]
    params = dict(hidden_layer_sizes=(8,), solver="sgd", batch_size=ROWS, momentum=0.0, random_state=0, tol=0.0)
    whole = MLPRegressor(**params, max_iter=30, n_iter_no_change=30).fit(X, y)
    parts = MLPRegressor(**params)
    for _ in range(30):
        parts.partial_fit(X, y)
    np.testing.assert_allclose(parts.predict(X), whole.predict(X), rtol=1e-12, atol=1e-12)
    theirs = neural_network.MLPRegressor(**params)
    for _ in range(30):
        theirs.partial_fit(X, y)
    np.testing.assert_allclose(parts.predict(X), theirs.predict(X), rtol=1e-11, atol=1e-11)


@oracle
@pytest.mark.parametrize("rate", [1.0, 1e3])
@pytest.mark.parametrize("change", [3, 10])
def test_early_stopping_that_diverges_ends_as_scikit_learns(rate, change):
    """No error: the best epoch's weights, and NaN from where there is no number any more."""
    y = TARGETS["value"][1]
    params = dict(hidden_layer_sizes=(100,), activation="identity", solver="sgd", learning_rate_init=rate, max_iter=20)
    params |= dict(early_stopping=True, n_iter_no_change=change, random_state=0, shuffle=False)
    ours, theirs = MLPRegressor(**params), neural_network.MLPRegressor(**params)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours.fit(X, y)
        theirs.fit(X, y)
    assert ours.n_iter_ == theirs.n_iter_ and ours.t_ == theirs.t_
    assert len(ours.loss_curve_) == len(ours.validation_scores_) == ours.n_iter_
    assert np.isnan(ours.loss_) == np.isnan(theirs.loss_)
    assert np.isnan(ours.validation_scores_[-1]) == np.isnan(theirs.validation_scores_[-1])
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_early_stopping_that_diverges_at_once_keeps_finite_weights(kind, dtype):
    params = dict(solver="sgd", learning_rate_init=1e300, early_stopping=True, max_iter=9, random_state=0, dtype=dtype)
    params["hidden_layer_sizes"] = (5,)
    y = TARGETS["binary" if kind is MLPClassifier else "value"][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(**params).fit(X, y)
    assert all(np.isfinite(weights).all() for weights in model.coefs_)
    assert model.n_iter_ == 9 and np.isnan(model.validation_scores_[-1]) and np.isnan(model.loss_)
    with pytest.raises(ValueError, match="non-finite parameter weights"):  # scikit-learn's, without early stopping
        kind(**params | {"early_stopping": False}).fit(X, y)


def test_rounding_that_costs_digits_is_said():
    shifted = X + 1e7
    with pytest.warns(fastnn.PrecisionWarning, match="StandardScaler") as caught:
        MLPRegressor(max_iter=1, dtype="float32").fit(shifted, shifted[:, 0])
    assert caught[0].filename == __file__


def test_activations_layer_by_layer():
    y = TARGETS["value"][1]
    parts = ["gelu", nn.PReLU(0.1), nn.ACTIVATIONS["leaky_relu"].with_alpha(0.2), "maxout"]
    model = MLPRegressor(hidden_layer_sizes=(9, 8, 7, 6), activation=parts, max_iter=100, learning_rate_init=0.01)
    model.set_params(random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8
    assert [w.shape for w in model.coefs_] == [(6, 9), (9, 8), (8, 7), (7, 12), (6, 1)]
    pickle.loads(pickle.dumps(clone(model).fit(X, y))).predict(X)
    with pytest.raises(ValueError, match="activation has 4 entries, expected 1"):
        model.set_params(hidden_layer_sizes=(9,)).fit(X, y)


def test_dropout_and_batch_norm():
    y = TARGETS["classes"][1]
    model = small(
        hidden_layer_sizes=(16, 16), dropout=[0.5, 0.0], batch_norm=True, max_iter=50, learning_rate_init=0.05
    ).fit(X, y)
    kinds = [type(layer).__name__ for layer in model._model.layers]
    assert kinds == ["Dense", "BatchNorm", "Activation", "Dropout", "Dense", "BatchNorm", "Activation", "Dense"]
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X))
    assert model.score(X, y) > 0.6
    with pytest.raises(ValueError, match="'lbfgs', which takes no dropout, batch_norm"):
        small(dropout=0.5, batch_norm=True, solver="lbfgs").fit(X, y)


def test_class_weight_is_a_sample_weight():
    y = TARGETS["classes"][1]
    table = {0: 1.0, 10: 2.0, 20: 3.0, 30: 4.0}
    weight = np.array([table[label] for label in y])
    for a, b in (
        (small(class_weight=table).fit(X, y), small().fit(X, y, weight)),
        (small(class_weight=table).fit(X, y, WEIGHT), small().fit(X, y, weight * WEIGHT)),
        (small(class_weight=table).partial_fit(X, y, classes=np.unique(y)),
         small().partial_fit(X, y, weight, classes=np.unique(y))),
    ):  # fmt: skip
        np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    rare = (X[:, 0] + 0.3 * X[:, 1] > 1.2).astype(int)
    plain = small(max_iter=30).fit(X, rare).predict(X).sum()
    assert small(max_iter=30, class_weight="balanced").fit(X, rare).predict(X).sum() > plain
    with pytest.raises(ValueError, match="not supported for partial_fit"):
        small(class_weight="balanced").partial_fit(X, rare, classes=[0, 1])


@pytest.mark.parametrize("loss", ["absolute_error", "mae", "huber", "mse", nn.Huber(0.5)], ids=str)
def test_losses_of_values(loss):
    y = TARGETS["value"][1]
    model = MLPRegressor(loss, (20,), max_iter=200, learning_rate_init=0.02, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8
    if str(loss) in ("absolute_error", "mae"):
        mean = np.abs(y - model.predict(X)).mean()
        assert model.loss_ == pytest.approx(mean, rel=0.1)


def test_a_loss_is_of_classes_or_of_values():
    y = TARGETS["classes"][1]
    with pytest.raises(ValueError, match="expected a loss of values"):
        MLPRegressor(nn.CrossEntropy()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="expected a loss of classes"):
        MLPClassifier(loss=nn.Huber()).fit(X, y)
    with pytest.raises(ValueError, match="multilabel-indicator"):
        MLPClassifier(loss="hinge").fit(X, TARGETS["labels"][1])
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, but hinge has none"):
        MLPClassifier(loss="hinge", label_smoothing=0.1).fit(X, y)


@pytest.mark.parametrize("target", ["binary", "classes"])
def test_hinge(target):
    y = TARGETS[target][1]
    model = small(loss="hinge", max_iter=150, learning_rate_init=0.02).fit(X, y)
    assert model.score(X, y) > 0.85
    assert not hasattr(model, "predict_proba")
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict_proba(X)


@pytest.mark.parametrize("target", ["binary", "classes", "labels"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_cross_entropies(loss, target):
    if target == "labels" and loss == "cross_entropy":
        pytest.skip("of one class a row")
    y = TARGETS[target][1]
    model = small(loss=loss, max_iter=150, learning_rate_init=0.02).fit(X, y)
    assert model.score(X, y) > 0.7
    p = model.predict_proba(X)
    if target != "labels":
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))


def test_label_smoothing_keeps_probabilities_from_the_ends():
    y = TARGETS["binary"][1]
    sharp, smooth = (small(max_iter=300, learning_rate_init=0.05, label_smoothing=s).fit(X, y) for s in (0.0, 0.2))
    assert smooth.predict_proba(X).max() < sharp.predict_proba(X).max()
    assert np.median(smooth.predict_proba(X).max(axis=1)) < 0.95 < np.median(sharp.predict_proba(X).max(axis=1))


def test_several_columns_of_classes():
    y = np.stack([TARGETS["classes"][1], TARGETS["binary"][1] == "yes", _Z[:, 2] > 0], axis=1)
    model = small(hidden_layer_sizes=(30,), max_iter=200, learning_rate_init=0.02).fit(X, y)
    assert [len(known) for known in model.classes_] == [4, 2, 2]
    assert [p.shape for p in model.predict_proba(X)] == [(ROWS, 4), (ROWS, 2), (ROWS, 2)]
    for p in model.predict_proba(X):
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert model.score(X, y) > 0.75
    first = small().partial_fit(X[:20], y[:20], classes=[np.unique(column) for column in y.T])
    np.testing.assert_array_equal(first.partial_fit(X, y).predict(X).shape, y.shape)
    assert small(early_stopping=True, max_iter=20).fit(X, y).best_validation_score_ >= 0.0
    with pytest.raises(ValueError, match=r"not in `self\.classes_`"):
        first.partial_fit(X, y + 1)


def test_partial_fit_of_labels_needs_no_classes():
    y = TARGETS["labels"][1]
    model = small().partial_fit(X, y).partial_fit(X, y)
    known = small().partial_fit(X, y, classes=np.arange(4)).partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), known.predict_proba(X))


def test_validation_rows_of_ones_own(digits):
    x, y = digits
    held = dict(eval_X=x[1200:], eval_y=y[1200:])
    watched = small(max_iter=15).fit(x[:1200], y[:1200], **held)
    assert len(watched.validation_scores_) == len(watched.validation_loss_curve_) == 15
    p = watched.predict_proba(x[1200:])
    assert watched.validation_loss_curve_[-1] == pytest.approx(log_loss(y[1200:], p), rel=1e-5)
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(x[1200:], y[1200:]))
    alone = small(max_iter=15).fit(x[:1200], y[:1200])
    np.testing.assert_array_equal(alone.coefs_[0], watched.coefs_[0])  # looking changes nothing
    with pytest.raises(ValueError, match="one is None"):
        small().fit(x, y, eval_X=x)
    with pytest.raises(ValueError, match=r"not in `self\.classes_`"):
        small().fit(x, y, eval_X=x, eval_y=y + 1)


SCORES = {
    "default": None,
    "loss": "loss",
    "named": "neg_log_loss",
    "of-classes": "f1_macro",
    "own": lambda model, x, y: model.score(x, y),
}


@pytest.mark.parametrize("scoring", SCORES.values(), ids=SCORES)
def test_early_stopping_by_any_score_restores_the_best(scoring, digits):
    x, y = digits
    params = dict(early_stopping=True, scoring=scoring, max_iter=60, n_iter_no_change=3, learning_rate_init=0.02)
    held = dict(eval_X=x[1200:], eval_y=y[1200:])
    model = small(**params).fit(x[:1200], y[:1200], **held)
    assert model.n_iter_ < 60 and len(model.validation_scores_) == model.n_iter_
    best = int(np.argmax(model.validation_scores_))
    p = model.predict_proba(x[1200:])
    assert log_loss(y[1200:], p) == pytest.approx(model.validation_loss_curve_[best], rel=1e-5)
    last = small(**params, restore_best=False).fit(x[:1200], y[:1200], **held)
    assert log_loss(y[1200:], last.predict_proba(x[1200:])) == pytest.approx(last.validation_loss_curve_[-1], rel=1e-5)


def test_optimizers_and_schedules():
    y = TARGETS["classes"][1]
    for optimizer in ("nadam", optim.AdamW(0.02, decay=0.1), optim.RMSprop(0.01)):
        seen: list[float] = []
        note = fastnn.Lambda(on_epoch_end=lambda run, seen=seen: seen.append(run.logs["lr"]))
        model = small(
            optimizer=optimizer, schedule=optim.Cosine(), callbacks=[note], max_iter=40, learning_rate_init=0.01
        ).fit(X, y)
        assert model.score(X, y) > 0.5
        assert seen[0] == (0.01 if optimizer == "nadam" else optimizer.lr) and seen[-1] < seen[0] / 100
    heavy = small(optimizer=optim.SGD(0.05), alpha=1000.0, max_iter=100).fit(X, y)
    light = small(optimizer=optim.SGD(0.05), alpha=0.0, max_iter=100).fit(X, y)
    assert np.abs(heavy.coefs_[0]).max() < 0.1 * np.abs(light.coefs_[0]).max()


def test_clip_norm_bounds_a_step():
    y = TARGETS["values"][1]
    params = dict(
        solver="sgd", momentum=0.0, learning_rate_init=1.0, alpha=0.0, max_iter=1, random_state=0, shuffle=False
    )
    before = MLPRegressor(**params | {"learning_rate_init": 1e-300}, dtype="float64").fit(X, y)
    after = MLPRegressor(**params, clip_norm=0.25, dtype="float64").fit(X, y)
    parts = zip(before.coefs_ + before.intercepts_, after.coefs_ + after.intercepts_, strict=True)
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in parts))
    assert moved == pytest.approx(0.25, rel=1e-9)  # scikit-learn's gradient, a sum over the outputs


def test_ema_smooths(digits):
    x, y = digits
    plain, averaged = (
        small(solver="sgd", learning_rate_init=0.3, ema=decay, max_iter=10).fit(x, y) for decay in (None, 0.95)
    )
    assert not np.array_equal(plain.coefs_[0], averaged.coefs_[0])
    assert averaged.score(x, y) > 0.85


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_fit_that_is_refused_touches_nothing(solver):
    """What the Trainer finds wrong, after scikit-learn's checks: a value beyond float32, a negative count."""
    model = MLPRegressor("poisson", dtype="float32", solver=solver, max_iter=3, random_state=0)
    for x, y in ((X * 1e40, np.ones(ROWS)), (X, -np.ones(ROWS))):
        with pytest.raises(ValueError, match=r"too large|expected values in"):
            model.fit(x, y)
        with pytest.raises(NotFittedError):
            model.predict(X)
    before = model.fit(X, np.ones(ROWS)).predict(X)
    with pytest.raises(ValueError, match="expected values in"):
        model.fit(X[:, :2], -np.ones(ROWS))
    np.testing.assert_array_equal(model.predict(X), before)


def test_a_network_cannot_change_under_its_parameters():
    y = TARGETS["classes"][1]
    model = small(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="not those of the previous fit"):
        model.set_params(hidden_layer_sizes=(9,)).fit(X, y)
    with pytest.raises(ValueError, match="not those of the previous fit"):
        small().fit(X, y).set_params(activation="tanh").partial_fit(X, y)


def test_progress(capsys):
    small(verbose="progress").fit(X, TARGETS["classes"][1])
    captured = capsys.readouterr()
    assert captured.out == "" and "epoch 5/5" in captured.err


def test_threads_change_no_bit(digits):
    one, many = small(threads=1).fit(*digits), small().fit(*digits)
    np.testing.assert_array_equal(one.coefs_[0], many.coefs_[0])
    np.testing.assert_array_equal(one.predict_proba(digits[0]), many.predict_proba(digits[0]))


def test_bytes_stay_bytes(digits):
    x = (digits[0] * 16).astype(np.uint8)
    same, other = small().fit(x, digits[1]), small().fit(x.astype(np.float64), digits[1])
    np.testing.assert_array_equal(same.coefs_[0], other.coefs_[0])


def test_one_seed_one_result(digits):
    a, b, c = (small(random_state=seed).fit(*digits) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])
    assert not np.array_equal(a.coefs_[0], c.coefs_[0])


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_backends(backend, digits):
    if backend not in fastnn.backends.available():
        pytest.skip(f"no {backend}")
    with fastnn.use_backend(backend):
        assert small(max_iter=20, learning_rate_init=0.01).fit(*digits).score(*digits) > 0.85
        assert small(max_iter=20, solver="lbfgs").fit(*digits).score(*digits) > 0.6


# What users found ------------------------------------------------------------------------------------------------


def imbalanced(rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4))
    return x, (x[:, 0] + rng.normal(size=rows) > 1.5).astype(int)


@pytest.mark.parametrize("scoring", [None, "accuracy", lambda e, X, y: float((e.predict(X) == y).mean())])
def test_class_weights_are_of_training_alone(scoring):
    """The validation score counts every row once, whoever chose the rows, and a scorer need not take weights."""
    x, y = imbalanced()
    settings = dict(class_weight="balanced", early_stopping=True, max_iter=1, random_state=0, scoring=scoring)
    model = MLPClassifier(**settings).fit(x, y)
    _, held_x, _, held_y = train_test_split(x, y, random_state=random_state_after(model, x), test_size=0.1, stratify=y)
    assert model.validation_scores_[0] == pytest.approx(np.mean(model.predict(held_x) == held_y))


def random_state_after(model, x) -> np.random.RandomState:
    """The random state where the rows are split: behind the draws of the first weights."""
    random = np.random.RandomState(0)
    for weight in model.coefs_:
        random.uniform(size=weight.shape)
        random.uniform(size=weight.shape[1])
    return random


def test_scorers_get_the_weights_that_were_given_if_they_take_some():
    x, y = imbalanced()
    for kind, target, scoring in (
        (MLPRegressor, x[:, 0], "neg_max_error"),  # whose metric takes none
        (MLPClassifier, y, make_scorer(accuracy_score)),
    ):
        settings = dict(early_stopping=True, scoring=scoring, max_iter=2, random_state=0)
        model = kind(**settings).fit(x, target, sample_weight=np.ones(len(x)))
        assert np.isfinite(model.validation_scores_).all()


def test_a_score_that_is_nan_keeps_the_last_weights():
    x, y = imbalanced()
    settings = dict(early_stopping=True, scoring=lambda e, X, y: np.nan, random_state=0, learning_rate_init=0.01)
    with pytest.warns(UserWarning, match="NaN after every epoch: the weights of the last one are kept"):
        model = MLPClassifier(**settings).fit(x, y)
    assert model.n_iter_ == 11  # no improvement since the first
    assert model.score(x, y) > 0.9


def test_columns_of_two_classes_of_any_name():
    x, y = imbalanced()
    columns = 1 + np.stack([y, 1 - y], axis=1)
    model = MLPClassifier(max_iter=30, learning_rate_init=0.02, random_state=0).fit(x, columns)
    assert [list(known) for known in model.classes_] == [[1, 2], [1, 2]]
    assert model.score(x, columns) > 0.85


@pytest.mark.parametrize("classes", [[[0, 1, 2]] * 2, ([0, 1, 2], [0, 1, 2]), np.array([[0, 1, 2]] * 2)], ids=repr)
def test_partial_fit_of_columns_asks_classes_not_the_batch(classes):
    x, y = imbalanced()
    model = MLPClassifier(random_state=0).partial_fit(x, np.stack([y, y], axis=1), classes=classes)
    assert [list(known) for known in model.classes_] == [[0, 1, 2]] * 2
    with pytest.raises(ValueError, match="expected those of the first call"):
        model.partial_fit(x, np.stack([y, y], axis=1), classes=[[0, 1], [5]])


def test_a_refused_fit_keeps_the_optimizer():
    x, y = imbalanced()
    model = MLPClassifier(warm_start=True, max_iter=3, random_state=0).fit(x, y)
    twin = copy.deepcopy(model)
    with pytest.raises(ValueError, match="features"):
        model.fit(x, y, eval_X=x[:, :2], eval_y=y)
    for one in (model, twin):
        one.partial_fit(x, y)
    for here, there in zip(model.coefs_, twin.coefs_, strict=True):
        np.testing.assert_array_equal(here, there)


def test_margins_of_hinge():
    x, y = imbalanced()
    model = MLPClassifier(loss="hinge", max_iter=30, learning_rate_init=0.01, random_state=0).fit(x, y)
    margin = model.decision_function(x)
    assert margin.shape == (len(x),)
    np.testing.assert_array_equal(margin > 0, model.predict(x) == 1)
    assert roc_auc_score(y, margin) > 0.8
    assert not hasattr(MLPClassifier(), "decision_function")


@pytest.mark.parametrize("sizes", [(5, 2.5), (0.5,), ("5",), ((5, 3),)], ids=repr)
def test_sizes_of_layers_are_integers(sizes):
    x, y = imbalanced()
    with pytest.raises(TypeError, match=r"hidden_layer_sizes has .*, expected integers"):
        MLPClassifier(sizes).fit(x, y)


def test_one_row_to_validate_with_is_too_few():
    x, y = imbalanced()
    with pytest.raises(ValueError, match="eval_X has 1 row, expected at least 2"):
        MLPClassifier(early_stopping=True).fit(x, y, eval_X=x[:1], eval_y=y[:1])


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("where", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("call", ["fit", "partial_fit", "score", "predict", "report", "eval"])
def test_masked_values_are_refused(kind, where, call, tmp_path):
    """scikit-learn takes what is below the mask; what nobody may look at is no value to learn from."""
    given = {"X": np.eye(8), "y": np.arange(8) % 2, "sample_weight": np.ones(8)}
    estimator = kind(hidden_layer_sizes=(2,), max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(given["X"], given["y"])
    masked = np.ma.masked_array(given[where], mask=False)
    assert np.array_equal(estimator.predict(np.ma.masked_array(given["X"], mask=False)), estimator.predict(given["X"]))
    masked[1] = np.ma.masked
    given[where] = masked
    calls = {
        "fit": lambda: estimator.fit(**given),
        "partial_fit": lambda: estimator.partial_fit(**given),
        "score": lambda: estimator.score(**given),
        "predict": lambda: estimator.predict(given["X"]),
        "report": lambda: estimator.report(tmp_path / "r.html", importance=False, **given),
        "eval": lambda: estimator.fit(
            np.eye(8), np.arange(8) % 2, **{f"eval_{name}": each for name, each in given.items()}
        ),
    }
    if call == "predict" and where != "X":
        pytest.skip("it takes X alone")
    if call == "report":
        pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=f"{where} is a masked array with {8 if where == 'X' else 1} masked values"):
        calls[call]()
