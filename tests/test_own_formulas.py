"""Formulas of one's own: the one that was passed is what is computed, on every backend, whatever it is called."""

from __future__ import annotations

import math
import pickle
import textwrap
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from common import OTHERS, VECTORISED, run_python

from fastnn import FallbackWarning, Sequential, Trainer, backends, nn, optim
from fastnn.formulas.rules import RULES, Rule

pytestmark = pytest.mark.filterwarnings("ignore::fastnn.FallbackWarning")
QUANTILE = 0.9


def pinball_value(z, y, p):
    return np.maximum(QUANTILE * (y - z), (QUANTILE - 1.0) * (y - z))


def pinball_gradient(z, y, p):
    return np.where(y > z, -QUANTILE, 1.0 - QUANTILE)


def sign_step(g, s, c):
    return c[0] * np.sign(g), s


PINBALL = replace(nn.LOSSES["mse"], pointwise=(pinball_value, pinball_gradient))


@dataclass(frozen=True)
class SignSGD(optim.SGD):
    rule = property(lambda self: replace(RULES["sgd"], formula=sign_step))


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("name", ["mse", "pinball"])
def test_a_loss_is_its_formula_not_its_name(name, backend):
    y = np.random.default_rng(0).normal(size=600)
    trainer = Trainer(Sequential([nn.Dense(1)]), replace(PINBALL, name=name), optim.SGD(0.1), seed=0, backend=backend)
    trainer.fit(np.ones((600, 1)), y, epochs=300, batch_size="full", verbose=False)
    assert trainer.model.predict(np.ones((1, 1))).item() == pytest.approx(np.quantile(y, QUANTILE), abs=1e-3)
    told = trainer.evaluate(np.ones((600, 1)), y)["loss"]
    rest = y - trainer.model.predict(np.ones((1, 1))).item()
    assert told == pytest.approx(np.mean(np.maximum(QUANTILE * rest, (QUANTILE - 1) * rest)), rel=1e-5)


@pytest.mark.parametrize("backend", VECTORISED)
def test_a_rule_is_its_formula_not_its_name(backend):
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = Sequential([nn.Dense(1, init=0.0)])
    Trainer(model, "mse", SignSGD(0.01), seed=0, backend=backend).fit(X, X[:, 0], epochs=1, batch_size="full")
    np.testing.assert_allclose(np.abs(model.layers[0].weight), 0.01, rtol=1e-6)


def test_an_activation_that_borrows_a_name_is_refused():
    for changed in ({"value": np.abs}, {"derivative": lambda a, alpha: a}, {"saves": "z"}):
        with pytest.raises(ValueError, match="activation is relu with formulas of its own, expected another name"):
            nn.Dense(1, activation=replace(nn.ACTIVATIONS["relu"], **changed))
    with pytest.raises(ValueError, match="another name"):
        nn.Dense(1, activation=replace(nn.ACTIVATIONS["relu"], name="softmax"))


def test_a_rule_that_nobody_knows_is_refused_before_anything_is_touched():
    class Lion(optim.Optimizer):
        name = "lion"

    class Nameless(optim.Optimizer):
        pass

    class Wrong(optim.SGD):
        rule = "sgd"

    for optimizer, message in ((Lion(0.1), "name 'lion', expected one of sgd"), (Nameless(0.1), "name None")):
        with pytest.raises(ValueError, match=message):
            Trainer(Sequential([nn.Dense(1)]), "mse", optimizer)
    with pytest.raises(TypeError, match="rule 'sgd', expected a Rule"):
        Trainer(Sequential([nn.Dense(1)]), "mse", Wrong(0.1))


def test_slots_of_another_rule_of_the_same_name_are_not_taken_over():
    other = Rule("momentum", ("v",), ("lr", "beta", "gain"), lambda g, s, c: (c[0] * g, (s[0] + 1.0,)), "counts")

    class Counting(optim.Momentum):
        rule = property(lambda self: other)

    X = np.ones((8, 1))
    model = Sequential([nn.Dense(1)])
    Trainer(model, "mse", optim.Momentum(0.1), seed=0, backend="numpy").fit(X, X[:, 0], epochs=3, batch_size="full")
    Trainer(model, "mse", Counting(0.1), seed=0, backend="numpy").fit(X, X[:, 0], epochs=2, batch_size="full")
    assert {*model.state.slots[0][:1]} == {2.0} and model.state.step == 2


def test_pickle_keeps_an_importable_formula_and_refuses_any_other():
    copy = pickle.loads(pickle.dumps(PINBALL))
    assert copy == PINBALL and not copy.built_in
    assert pickle.loads(pickle.dumps(nn.Huber(2.0))) == nn.Huber(2.0)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(replace(PINBALL, pointwise=(lambda z, y, p: z - y, pinball_gradient)))


def test_a_model_with_a_loss_of_ones_own_is_not_saved(tmp_path):
    model = Sequential([nn.Dense(1)]).build(1, seed=0)
    model.loss = PINBALL
    with pytest.raises(TypeError, match="loss is mse, a loss of your own"):
        model.save(tmp_path / "model.fnn")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_formula_is_not_gone_on_from(tmp_path):
    import fastnn

    X = np.ones((8, 1))

    def fit(loss, **resume):
        trainer = Trainer(Sequential([nn.Dense(1)]), loss, "sgd", seed=0, backend="numpy")
        trainer.fit(X, X[:, 0], epochs=1, callbacks=[fastnn.Checkpoint(tmp_path)], verbose=False, **resume)

    fit(PINBALL)
    with pytest.raises(ValueError, match=r"loss is .*formula [0-9a-f]{16}"):
        fit(replace(PINBALL, pointwise=(lambda z, y, p: z - y, pinball_gradient)), resume=True)
    with pytest.raises(ValueError, match=r"loss is .*formula [0-9a-f]{16}"):
        fit("mse", resume=True)


def test_a_fit_with_a_rule_of_ones_own_goes_on_in_another_process(tmp_path):
    code = """
        import sys, numpy as np, fastnn
        from fastnn import nn, optim
        def step(g, s, c):
            return c[0] * np.sign(g), s
        X = np.random.default_rng(0).normal(size=(16, 2))
        model = fastnn.Sequential([nn.Dense(1)])
        rule = optim.rule("signs", step, lr=0.01, l2=0.1)
        trainer = fastnn.Trainer(model, "mse", rule, seed=0, backend="numpy")
        keep = fastnn.Checkpoint(sys.argv[1])
        trainer.fit(X, X[:, 0], epochs=int(sys.argv[2]), callbacks=[keep], verbose=False, resume=True)
        print(len(trainer.history), model.layers[0].weight.ravel().tolist())
    """
    setting = "import sys; sys.argv = ['-c', {!r}, {!r}]"

    def fit(folder, epochs):
        answer = run_python(setting.format(str(tmp_path / folder), str(epochs)) + "\n" + textwrap.dedent(code))
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    fit("two", 2)
    assert fit("two", 5) == fit("one", 5)


# Declared -------------------------------------------------------------------------------------------------------

CUBIC = nn.loss("cubic", lambda z, y, p: abs(z - y) ** 3.0, lambda z, y, p: 3.0 * (z - y) * abs(z - y))
BRANCHES = nn.loss(  # a formula that takes numbers only, with a parameter
    "branches",
    lambda z, y, q: q * (y - z) if y > z else (1.0 - q) * (z - y),
    lambda z, y, q: -q if y > z else 1.0 - q,
    parameter=0.9,
)


def swish_value(z, beta):
    return z / (1.0 + math.exp(-beta * z))


def swish_derivative(z, beta):
    s = 1.0 / (1.0 + math.exp(-beta * z))
    return s + beta * z * s * (1.0 - s)


SWISH = nn.activation("swish", swish_value, swish_derivative, alpha=1.0)
SHRINK = nn.activation(
    "shrink", lambda z, p: z / np.sqrt(1.0 + z * z), lambda a, p: (1.0 - a * a) * np.sqrt(1.0 - a * a), saves="a"
)


def lion(g, s, c):
    lr, beta1, beta2 = c
    return lr * np.sign(beta1 * s[0] + (1.0 - beta1) * g), (beta2 * s[0] + (1.0 - beta2) * g,)


def halved(g, s, c):
    """A formula that takes numbers only."""
    return (c[0] * g if g > 0.0 else c[0] * c[1] * g), s


LION = optim.rule("lion", lion, slots=["m"], lr=0.01, beta1=0.9, beta2=0.99, decay=0.1)
HALVED = optim.rule("halved", halved, lr=0.05, factor=0.5, l2=0.01)
ADAM = optim.rule(  # the built-in one without its corrections, to be compared with it
    "own adam",
    lambda g, s, c: (
        c[0] * (c[1] * s[0] + (1.0 - c[1]) * g) / (np.sqrt(c[2] * s[1] + (1.0 - c[2]) * g * g) + 1e-8),
        (c[1] * s[0] + (1.0 - c[1]) * g, c[2] * s[1] + (1.0 - c[2]) * g * g),
    ),
    slots=["m", "v"],
    beta1=0.9,
    beta2=0.999,
)
ROWS = 203  # three blocks of 64 and a rest; of 37 values or 3 values a row more
COMBINATIONS = {
    "loss": (CUBIC, "relu", optim.SGD(0.01)),
    "loss of numbers": (BRANCHES, "tanh", optim.Adam(0.01)),
    "activation": ("mse", SWISH, optim.SGD(0.05)),
    "activation of a": ("mse", SHRINK, optim.SGD(0.05)),
    "rule": ("mse", "relu", LION),
    "rule of numbers": ("mse", "tanh", HALVED),
    "all": (BRANCHES, SWISH, ADAM),
}


def fitted(which, backend, dtype, outputs=3, threads=None, **settings):
    loss, activation, optimizer = COMBINATIONS[which]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 5)), rng.normal(size=(ROWS, outputs))
    # fused below and above, by itself, and before an operation that does not go below
    layers = [nn.Dense(37, activation), nn.Dense(11, activation), nn.LayerNorm(), nn.Activation(activation)]
    model = Sequential([*layers, nn.Dense(outputs)], dtype=dtype)
    trainer = Trainer(model, loss, optimizer, seed=0, backend=backend, threads=threads, **settings)
    history = trainer.fit(X, y, epochs=2, batch_size=70, verbose=False)
    told = trainer.evaluate(X, y)["loss"]
    return np.concatenate([view.ravel() for view in model.state.views.values()]), model.predict(X), history, told


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("which", COMBINATIONS)
def test_every_backend_runs_it(which, backend, dtype):
    got, want = fitted(which, backend, dtype, clip_value=0.5), fitted(which, "numpy", dtype, clip_value=0.5)
    rtol = 1e-9 if dtype == "float64" else 2e-3  # a sign of a rounded gradient may turn: 6 steps of 0.01
    for mine, theirs in zip(got[:2], want[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol)
    assert got[3] == pytest.approx(want[3], rel=rtol)
    assert got[2]["loss"] == pytest.approx(want[2]["loss"], rel=rtol)


native = pytest.mark.skipif("native" not in backends.available(), reason="the extension is not compiled")


@native
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("which", COMBINATIONS)
def test_numba_makes_it_native_and_threads_change_no_bit(which, outputs):
    pytest.importorskip("numba")
    extension = backends.native.extension
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        alone = fitted(which, "native", "float32", outputs, threads=1)
        extension.set_least_work(0)
        try:
            together = [fitted(which, "native", "float32", outputs, threads=n) for n in (2, 3)]
        finally:
            extension.set_least_work(48_000)
    for other in together:
        np.testing.assert_array_equal(alone[0], other[0])
        np.testing.assert_array_equal(alone[1], other[1])


@native
def test_a_built_in_formula_declared_anew_computes_the_same():
    """The same mathematics through the blocks: what differs is rounding."""
    pytest.importorskip("numba")
    known = nn.LOSSES["binary_cross_entropy"]
    own = nn.loss("own cross entropy", *known.pointwise, link="sigmoid", y_range=(0.0, 1.0))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 4)), rng.integers(0, 2, ROWS)

    def fit(loss):
        model = Sequential([nn.Dense(16, "tanh"), nn.Dense(1, "sigmoid")], dtype="float64")
        return Trainer(model, loss, "adam", seed=0, backend="native").fit(X, y, epochs=3, verbose=False)["loss"]

    assert fit(own) == pytest.approx(fit("binary_cross_entropy"), rel=1e-12)


@native
def test_predictions_do_not_depend_on_the_batch_or_the_place():
    pytest.importorskip("numba")
    model = Sequential([nn.Dense(7, SWISH), nn.Dense(5, SHRINK)]).build(3, seed=0)
    X = np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    whole = model.predict(X, backend="native")
    for start, stop in ((0, 1), (1, 2), (63, 65), (5, 150)):
        np.testing.assert_array_equal(model.predict(X[start:stop], backend="native"), whole[start:stop])


@native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_engines_give_the_same_bits(dtype):
    """Rows that the extension does not read go through the Python engine with its kernels."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 4)).astype(dtype), rng.normal(size=(ROWS, 2))

    def fit(X):
        model = Sequential([nn.Dense(9, SWISH), nn.LayerNorm(), nn.Activation(SHRINK), nn.Dense(2)], dtype=dtype)
        Trainer(model, BRANCHES, ADAM, seed=0, backend="native").fit(X, y, epochs=2, verbose=False)
        return model.predict(X)

    np.testing.assert_array_equal(fit(X), fit(np.asfortranarray(X)))


def test_a_gradient_is_checked_where_it_is_declared():
    with pytest.raises(ValueError, match=r"gradient of loss wrong is .* at z = -?\d.*, y = .*, parameter = 2"):
        nn.loss("wrong", lambda z, y, p: p * (z - y) ** 2, lambda z, y, p: z - y, parameter=2.0)
    with pytest.raises(ValueError, match=r"derivative of activation wrong is 1 at z = .*, alpha = 0, .* slope 2"):
        nn.activation("wrong", lambda z, p: 2.0 * z, lambda z, p: 1.0)
    with pytest.raises(ValueError, match="cannot be checked: value has a slope at 0 of 61 places"):
        nn.activation("nowhere", lambda z, p: math.nan, lambda z, p: 1.0)
    step = nn.activation("step", lambda z, p: 1.0 * (z > 0), lambda z, p: 1.0 * (abs(z) < 1), check=False)
    assert not step.exact_derivative
    # only wrong above 2: the place is told
    with pytest.raises(ValueError, match=r"at z = 2\.\d"):
        nn.activation("late", lambda z, p: z * z, lambda z, p: 2.0 * min(z, 2.0))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.loss("mse", *CUBIC.pointwise), ValueError, "name is 'mse', which a built-in loss has"),
        (lambda: nn.loss("", *CUBIC.pointwise), TypeError, "name is ''"),
        (lambda: nn.loss("x", 3.0, CUBIC.pointwise[1]), TypeError, "value of loss x is 3.0, expected a function"),
        (lambda: nn.loss("x", *CUBIC.pointwise, link="soft"), ValueError, "link is 'soft'"),
        (lambda: nn.loss("x", *CUBIC.pointwise, y_range=(1, 1)), ValueError, "y_range is"),
        (lambda: nn.activation("prelu", swish_value, swish_derivative), ValueError, "name is 'prelu'"),
        (lambda: nn.activation("x", swish_value, swish_derivative, saves="x"), ValueError, "saves is 'x'"),
        (lambda: optim.rule("adam", lion), ValueError, "name is 'adam', which a built-in rule has"),
        (lambda: optim.rule("x", 1.0), TypeError, "formula is 1.0"),
        (lambda: optim.rule("x", lion, slots="m"), TypeError, "slots is 'm'"),
        (lambda: optim.rule("x", lion, slots=["m"]), ValueError, "formula of rule x: not enough values"),
        (lambda: optim.rule("x", lambda g, s, c: (g, (g,))), ValueError, "returned .*a tuple of 0 slots"),
        (
            lambda: optim.rule("x", lambda g, s, c: g),
            TypeError,
            r"formula of rule x returned 0\.5 .*, expected \(delta, a",
        ),
        (
            lambda: optim.rule("x", lambda g, s, c: "ab"),
            TypeError,
            r"formula of rule x returned 'ab' .*expected \(delta",
        ),
        (
            lambda: optim.rule("x", lambda g, s, c: ("1", ())),
            TypeError,
            r"of rule x returned \('1', .*expected numbers",
        ),
        (lambda: optim.rule("x", lambda g, s, c: (None, ())), TypeError, r"rule x returned \(None, .*expected numbers"),
        (lambda: optim.rule("x", lambda g, s, c: (g, "")), TypeError, "rule x returned .*a tuple of 0 slots"),
        (
            lambda: optim.rule("x", lambda g, s, c: (g, [None]), slots=["m"]),
            TypeError,
            r"\[None\]\) .*expected numbers",
        ),
        (
            lambda: optim.rule("x", lambda g, s, c: (math.inf, ())),
            ValueError,
            "rule x returned .*expected finite numbers",
        ),
        (
            lambda: nn.loss("x", lambda z, y, p: "a", lambda z, y, p: 0.0),
            TypeError,
            "value of loss x returned 'a' at z",
        ),
        (
            lambda: nn.loss("x", lambda z, y, p: z * z, lambda z, y, p: None),
            TypeError,
            "gradient of loss x returned None",
        ),
        (lambda: nn.activation("x", lambda z, a: z, lambda z, a: [1]), TypeError, r"activation x returned \[1\] at z"),
        (lambda: optim.rule("x", lambda g, s, c: (g, s), beta=math.nan), ValueError, "beta is nan"),
        (lambda: optim.rule("x", lambda g, s, c: (g, s), l2=-1.0), ValueError, "l2 is -1.0"),
        (lambda: optim.rule("x", lambda g, s, c: (g, s), slots=list("abcdefghi")), ValueError, "9 slots .*expected 8"),
    ],
)
def test_bad_declarations_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("other", ["x", None, 0.5, (0.5,), (0.5, (0.25, 0.25)), ("x", (0.5,))], ids=repr)
def test_a_rule_that_returns_something_else_later_is_named(backend, other):
    """Where it is declared g is 0.5; what it gives for others shows in the fit, with whatever computes."""

    def changing(g, s, c):
        return (0.1, s) if g == 0.5 else other

    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", optim.rule("changing", changing, slots=["m"]), backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        with pytest.raises((TypeError, ValueError), match=r"formula of rule changing: .*\(delta, a tuple of 1 slots\)"):
            trainer.fit(np.eye(3), [1.0, 2.0, 3.0], epochs=1, verbose=False)


def test_own_adam_is_adam_but_for_the_corrections():
    X = np.random.default_rng(0).normal(size=(64, 3))

    class Uncorrected(optim.Adam):
        def coefficients(self, lr, t):
            one = np.ones(np.shape(t))
            return (lr, 0.9, 1.0 - 0.9, 0.999, 1.0 - 0.999, one, 1e-8)

    def weights(optimizer):
        model = Sequential([nn.Dense(1)], dtype="float64")
        Trainer(model, "mse", optimizer, seed=0).fit(X, X[:, 0], epochs=3, verbose=False)
        return model.layers[0].weight

    np.testing.assert_allclose(weights(ADAM), weights(Uncorrected(0.01)), rtol=1e-10)


def test_another_parameter_compiles_nothing_anew():
    pytest.importorskip("numba")
    from fastnn.backends import own_formulas

    dtype = np.dtype(np.float32)
    assert own_formulas.addresses(BRANCHES, dtype) == own_formulas.addresses(BRANCHES.with_parameter(0.3), dtype)
    made = [nn.loss("same", lambda z, y, p: (z - y) ** 2, lambda z, y, p: 2.0 * (z - y)) for _ in range(2)]
    assert own_formulas.addresses(made[0], dtype) == own_formulas.addresses(made[1], dtype)
    scaled = [nn.loss("scaled", *of_factor(factor)) for factor in (1.0, 2.0, np.float32(3.0))]
    assert len({own_formulas.addresses(loss, dtype) for loss in scaled}) == 3


def of_factor(factor):
    return (lambda z, y, p: factor * (z - y) ** 2), (lambda z, y, p: 2.0 * factor * (z - y))


def test_what_numba_cannot_compile_runs_in_python_and_says_so_once():
    pytest.importorskip("numba")
    table = {"factor": 2.0}  # no dict of Python's is known to it
    loss = nn.loss("looks up", lambda z, y, p: table["factor"] * (z - y) ** 2, lambda z, y, p: 4.0 * (z - y))
    rule = optim.rule("looks up", lambda g, s, c: (c[0] * table["factor"] * g, s), lr=0.05)
    X = np.random.default_rng(0).normal(size=(64, 3))
    weights = {}
    for backend in VECTORISED:
        name = getattr(backend, "values", (backend,))[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                model = Sequential([nn.Dense(1)], dtype="float64")
                trainer = Trainer(model, loss, rule, seed=0, backend=name)
                trainer.fit(X, X[:, 0], epochs=2, verbose=False)
        weights[name] = model.layers[0].weight
        told = [str(each.message) for each in caught if issubclass(each.category, FallbackWarning)]
        assert len(told) == len({*told})
    for weight in weights.values():
        np.testing.assert_allclose(weight, weights["numpy"], rtol=1e-12)


@native
def test_without_numba_the_fit_runs_in_python_and_says_so_once():
    answer = run_python(
        """
        import sys, warnings
        sys.modules["numba"] = None
        import numpy as np, fastnn
        from fastnn import nn, optim
        loss = nn.loss("square", lambda z, y, p: (z - y) ** 2, lambda z, y, p: 2.0 * (z - y))
        double = nn.activation("double", lambda z, p: 2.0 * z, lambda z, p: 2.0)
        X = np.random.default_rng(0).normal(size=(64, 3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                model = fastnn.Sequential([nn.Dense(4, double), nn.Dense(1)])
                trainer = fastnn.Trainer(model, loss, optim.SGD(0.01), seed=0, backend="native")
                history = trainer.fit(X, X[:, 0], epochs=3, verbose=False)
        assert history["loss"][-1] < history["loss"][0], history["loss"]
        told = sorted(str(each.message) for each in caught if each.category is fastnn.FallbackWarning)
        assert len(told) == 2 and all("numba is not installed" in each for each in told), told
        print(told[0].split(" runs")[0], told[1].split(" runs")[0])
        """
    )
    assert answer.stdout.split("\n")[0] == "activation double loss square", answer.stderr


def test_a_model_with_an_activation_of_ones_own_is_pickled_and_not_saved(tmp_path):
    model = Sequential([nn.Dense(3, SWISH)]).build(2, seed=0)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(np.ones((2, 2))), model.predict(np.ones((2, 2))))
    with pytest.raises(TypeError, match=r"activation is swish.*, an activation of your own"):
        model.save(tmp_path / "model.fnn")
    assert not list(tmp_path.iterdir())


def test_codes_that_nobody_gave_out_are_refused():
    extension = pytest.importorskip("fastnn._native")
    z = np.zeros((2, 1), np.float32)
    for code in (len(extension.LOSSES) + 4000, 2**31 - 2):
        with pytest.raises(ValueError, match="loss: there is no such code"):
            extension.loss(0, code, 0.0, z, z.copy(), np.ones(2, np.float32), np.ones(2, np.float32), z.copy())
    with pytest.raises(ValueError, match="rule: there is no such code"):
        extension.update(0, len(extension.RULES) + 4000, (0.1,), (1.0, np.inf, 0.0, 0.0, 0.0), z[0], z[0].copy(), ())
    for arguments in (("loss", 4, 0), ("loss", 3, 1), ("los", 4, 1), ("activation", 4, 1), ("loss", 4, 1, 1)):
        with pytest.raises(ValueError, match=r"address|bytes|kind|slots"):
            extension.add_formula(*arguments)
    with pytest.raises(ValueError, match="slots is 9"):
        extension.add_formula("rule", 4, 1, 0, 9, 1)


def test_native_says_once_that_python_computes_it():
    """A loss of whole rows: a function of NumPy's arrays."""
    pytest.importorskip("fastnn._native", exc_type=ImportError)
    loss = replace(nn.LOSSES["cross_entropy"], name="told once", rowwise=lambda z, y, p: _rows(z, y, p))
    X = np.random.default_rng(0).normal(size=(8, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            trainer = Trainer(Sequential([nn.Dense(2)]), loss, "sgd", seed=0, backend="native")
            trainer.fit(X, [0, 1] * 4, epochs=1, verbose=False)
    told = [str(each.message) for each in caught if issubclass(each.category, FallbackWarning)]
    assert len(told) == 1 and "loss told once" in told[0] and "whole rows" in told[0]


def _rows(z, y, parameter):
    return nn.LOSSES["cross_entropy"].rowwise(z, y, parameter)
