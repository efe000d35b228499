"""Convolutions, pools and what is around them: geometry, refusals, PyTorch's values and gradients, bits on threads."""

from __future__ import annotations

import numpy as np
import pytest
from common import BACKENDS, ENGINES, EVERY_LAYER, WINDOWED, build, make_layer, row_shape, stir

import fastnn
from fastnn import Sequential, Trainer, backends, nn
from fastnn.gradient_check import gradient_check
from fastnn.loading import load

NATIVE = "native" in backends.available()
native = pytest.mark.skipif(not NATIVE, reason="no native backend")


def images(rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, *shape))


# Shapes and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"),
    [
        (nn.Conv2D(5, 3), (7, 9, 2), (5, 7, 5)),
        (nn.Conv2D(5, 3, padding="same"), (7, 9, 2), (7, 9, 5)),
        (nn.Conv2D(5, 3, stride=2, padding="same"), (7, 8, 2), (4, 4, 5)),
        (nn.Conv2D(5, 3, stride=2, padding=1), (7, 8, 2), (4, 4, 5)),
        (nn.Conv2D(5, (1, 3), padding=((2, 0), (1, 3))), (7, 8, 2), (9, 10, 5)),
        (nn.Conv2D(5, 3, dilation=2), (7, 8, 2), (3, 4, 5)),
        (nn.Conv2D(5, 3), (28, 28), (26, 26, 5)),
        (nn.Conv2D(5, 28), (28, 28), (1, 1, 5)),
        (nn.Conv2D(4, 1, activation=nn.Maxout(3)), (2, 2, 5), (2, 2, 4)),
        (nn.Conv1D(5, 4, stride=3, padding=(1, 0)), (10, 3), (3, 5)),
        (nn.Conv1D(5, 4, padding="same"), (10,), (10, 5)),
        (nn.Conv1D(6, 2, groups=3), (10, 3), (9, 6)),
        (nn.MaxPool2D(2), (5, 5, 3), (2, 2, 3)),
        (nn.MaxPool2D(2, padding="same"), (5, 5, 3), (3, 3, 3)),
        (nn.MaxPool2D((1, 2), stride=1), (5, 5), (5, 4, 1)),
        (nn.AvgPool1D(3, stride=2, padding=1), (6, 2), (3, 2)),
        (nn.GlobalAvgPool(), (5, 4, 3), (3,)),
        (nn.GlobalMaxPool(), (5, 3), (3,)),
        (nn.ZeroPad(2), (5, 3), (9, 3)),
        (nn.ZeroPad((1, 2)), (5, 3), (8, 3)),
        (nn.ZeroPad((1, 2)), (5, 4, 3), (7, 8, 3)),
        (nn.Upsample((2, 3)), (5, 4, 3), (10, 12, 3)),
        (nn.Upsample(2), (5, 3), (10, 3)),
    ],
    ids=repr,
)
def test_shapes(layer, inputs, outputs):
    model = Sequential([layer]).build(inputs, seed=0)
    assert model.plan.output_shape == outputs
    assert model.predict(images(2, *inputs)).shape == (2, *outputs)
    assert "x".join(map(str, outputs)) in model.summary()
    for op in model.plan.ops:
        assert op.operation.spec.x == op.operation.spec.a or op.operation.fits(op.inputs, op.outputs, op.settings)


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (nn.Conv2D(5, 8), (7, 9, 2), r"layers\[0\] \(Conv2D\): kernel 8 is larger than the rows' height of 7$"),
        (
            nn.Conv2D(5, 3, padding=1, dilation=5),
            (9, 7, 2),
            r"kernel 3 with dilation 5 .* width of 7 with padding 1",
        ),
        (nn.Conv2D(5, 3), (7,), r"takes rows of shape \(height, width, channels\) or \(height, width\), not \(7,\)"),
        (nn.Conv1D(5, 3), (7, 7, 3), r"takes rows of shape \(length, channels\) or \(length,\), not \(7, 7, 3\)"),
        (nn.Conv1D(6, 3, groups=2), (7, 3), "groups is 2, expected a divisor of the 3 channels that come in"),
        (nn.Conv2D(1, 3, padding=10**5), (3, 3, 1), "images of more than .* values, padding and all"),
        (nn.MaxPool1D(9), (7, 3), "size 9 is larger than the rows' length of 7"),
        (nn.GlobalAvgPool(), (7,), r"takes rows of shape \(length, channels\) or"),
        (nn.ZeroPad(((1, 1), (1, 1))), (7, 3), r"takes rows of shape \(height, width, channels\), not \(7, 3\)"),
    ],
    ids=lambda each: repr(each) if isinstance(each, nn.Layer) else "",
)
def test_rows_that_do_not_fit(layer, inputs, message):
    with pytest.raises(ValueError, match=message):
        Sequential([layer]).build(inputs, seed=0)


def test_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="groups is 3, expected a divisor of the 4 filters"):
        nn.Conv2D(4, 3, groups=3)


def test_weights_are_live_and_counted():
    layer = nn.Conv2D(6, (2, 3), groups=2, init="he_uniform")
    model = Sequential([layer]).build((5, 5, 4), seed=0)
    assert layer.weight.shape == (2, 3, 2, 6) and layer.bias.shape == (6,)
    assert np.abs(layer.weight).max() <= np.sqrt(6 / 12)  # of 2 3 2 values that come in
    assert np.abs(layer.weight).max() > 0.8 * np.sqrt(6 / 12)
    layer.weight *= 0
    assert not model.predict(images(1, 5, 5, 4)).any()
    assert model.plan.parameter_count == 2 * 3 * 2 * 6 + 6


def test_pools_ignore_what_is_outside():
    x = -1 - np.arange(9.0).reshape(1, 3, 3)
    assert Sequential([nn.MaxPool2D(3, 1, "same")]).build((3, 3), seed=0).predict(x)[0, 0, 0] == -1
    assert Sequential([nn.AvgPool2D(3, 1, "same")]).build((3, 3), seed=0).predict(x)[0, 0, 0] == -3  # of 1 2 4 5


@pytest.mark.parametrize("kind", [kind for kind in EVERY_LAYER if kind in WINDOWED], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nan_counts_as_the_largest(kind, backend):
    """And goes through every layer where it is seen, nowhere else: a row of another sample stays as it was."""
    model = build(make_layer(kind), inputs=row_shape(kind))
    x = images(3, *row_shape(kind))
    clean = model.predict(x)
    kernels = backends.resolve(backend)
    broken = x.copy()
    broken[1].flat[1] = np.nan
    out = np.empty((3, model.plan.outputs))
    fastnn.engine.predict(kernels.kernels, model.plan, model.state, broken.reshape(3, -1), out)
    assert np.isnan(out[1]).any()
    np.testing.assert_array_equal(np.isnan(out[[0, 2]]), False)
    np.testing.assert_allclose(out[[0, 2]], clean.reshape(3, -1)[[0, 2]], rtol=1e-12, atol=1e-13)


def test_errors_name_the_exporter_that_lacks_them(tmp_path):
    model = Sequential([nn.Conv2D(2, 3), nn.GlobalAvgPool(), nn.Dense(2)]).build((5, 5), seed=0)
    for write, name in ((model.to_onnx, "m.onnx"), (model.to_c, "m.c")):
        with pytest.raises(ValueError, match=r"conv.*images are not written as"):
            write(tmp_path / name)


# Against PyTorch --------------------------------------------------------------------------------------------------

CASES = [  # rows, channels, filters, kernel, stride, padding, dilation, groups
    ((8, 9), 3, 16, 3, 1, "valid", 1, 1),
    ((7, 6), 16, 32, 3, 1, 1, 1, 1),
    ((9, 5), 17, 33, (2, 3), (2, 1), ((1, 0), (2, 1)), 1, 1),
    ((13, 12), 2, 15, 5, 3, 2, 2, 1),
    ((5, 7), 32, 70, 1, 1, "valid", 1, 1),
    ((6, 6), 5, 7, 1, 2, "valid", 1, 1),
    ((33, 3), 1, 6, (7, 2), (2, 2), (3, 1), 1, 1),
    ((6, 5), 6, 12, 3, 1, 1, 1, 3),
    ((6, 5), 34, 34, 3, 2, 1, 1, 34),
    ((9, 4), 4, 12, (3, 2), 1, (2, 2), (2, 1), 4),
    ((1, 1), 70, 31, 1, 1, 0, 1, 1),
    ((3, 4), 9, 5, 2, 4, 1, 3, 1),
    ((4, 4), 31, 1, 4, 1, 3, 1, 1),
    ((80, 70), 2, 3, 3, 1, 1, 1, 1),  # more than 4096 pixels: sums in runs
]


def torch_conv(torch, x, layer, dz):
    """Values, and gradients of input, weights and bias, channels last."""
    spread = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 2
    if layer.padding == "valid":
        spread = (0, 0)
    (top, bottom), (left, right) = (side if isinstance(side, tuple) else (side, side) for side in spread)
    given = [torch.tensor(np.ascontiguousarray(each), requires_grad=True) for each in (x, layer.weight, layer.bias)]
    moved = torch.nn.functional.pad(given[0].permute(0, 3, 1, 2), (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        moved, given[1].permute(3, 2, 0, 1).contiguous(), given[2], layer.stride, 0, layer.dilation, layer.groups
    ).permute(0, 2, 3, 1)
    out.backward(torch.tensor(dz(tuple(out.shape))))
    return [out.detach().numpy(), *(each.grad.numpy() for each in given)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_pytorchs(case):
    torch = pytest.importorskip("torch")
    size, channels, filters, kernel, stride, padding, dilation, groups = case
    layer = nn.Conv2D(filters, kernel, stride, padding, dilation, groups)
    model = build(layer, inputs=(*size, channels))
    (op,) = model.plan.ops
    x = images(3, *size, channels)
    made = {}

    def dz(shape):
        return made.setdefault("dz", np.random.default_rng(4).normal(size=shape))

    expected = torch_conv(torch, x, layer, dz)
    B, (w, b) = len(x), model.state.views.values()
    flat, rows = x.reshape(B, -1), made["dz"].reshape(B, -1, filters)
    for name in ENGINES:
        kernels = backends.resolve(name).kernels.ops["conv"]
        z, dx = np.empty_like(rows), np.empty_like(flat)
        dw, db = np.empty_like(w), np.empty_like(b)
        numbers = [float(op.settings[each]) for each in op.operation.spec.setting_names]
        identity = nn.ACTIVATIONS["identity"]
        kernels.forward(flat, w, b, *numbers, identity, z, z)
        kernels.backward(flat, w, *numbers, identity, flat, rows, dx, dw, db)
        for got, want in zip((z, dx, dw, db), expected, strict=True):
            np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-10, atol=1e-10 * np.abs(want).max())


@pytest.mark.parametrize(
    ("name", "size", "stride", "padding"),
    [("Max", 2, None, 0), ("Max", (3, 2), (2, 1), (1, 0)), ("Avg", 2, None, 0), ("Avg", (3, 2), (2, 3), (1, 1))],
)
def test_pools_are_pytorchs(name, size, stride, padding):
    torch = pytest.importorskip("torch")
    x = images(2, 9, 7, 5)
    model = build(getattr(nn, f"{name}Pool2D")(size, stride, padding), inputs=(9, 7, 5))
    more = {"count_include_pad": False} if name == "Avg" else {}
    theirs = getattr(torch.nn, f"{name}Pool2d")(size, stride, padding, **more)
    want = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(model.predict(x), want, rtol=1e-12)


def test_same_is_that_of_onnx_and_keras():
    """ceil(L / s) windows, and the odd cell of padding behind: 4 cells, kernel 3, stride 2 begin at the first."""
    layer = nn.Conv1D(1, 3, stride=2, padding="same", bias=False, init=1.0)
    out = Sequential([layer]).build((4,), seed=0).predict([[1, 10, 100, 1000]])
    np.testing.assert_array_equal(out.ravel(), [111, 1100])
    symmetric = Sequential([nn.Conv1D(1, 3, stride=2, padding=1, bias=False, init=1.0)]).build((4,), seed=0)
    np.testing.assert_array_equal(symmetric.predict([[1, 10, 100, 1000]]).ravel(), [11, 1110])


# Training ---------------------------------------------------------------------------------------------------------


def net() -> list[nn.Layer]:
    """Everything an image goes through, in all kinds of groups, strides and pads."""
    return [
        nn.Conv2D(18, 3, padding="same", bias=False),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.MaxPool2D(2, padding="same"),
        nn.Residual(
            [nn.Conv2D(34, 3, stride=2, padding="same", activation="gelu"), nn.Dropout(0.2)],
            shortcut=[nn.Conv2D(34, 1, 2)],
        ),
        nn.LayerNorm(),
        nn.Conv2D(34, 3, padding=2, dilation=2, groups=34, activation="tanh"),
        nn.Upsample(2),
        nn.ZeroPad(((1, 0), (0, 2))),
        nn.Conv2D(10, (3, 2), (2, 1), groups=2, activation="prelu"),
        nn.AvgPool2D(3, 2, 1),
        nn.Flatten(),
        nn.Dense(3),
    ]


@pytest.mark.parametrize("backend", ENGINES)
def test_gradient_check(backend):
    model = stir(Sequential(net(), dtype=np.float64).build((9, 8, 2), seed=0))
    y = np.random.default_rng(1).integers(0, 3, 4)
    errors = gradient_check(model, images(4, 9, 8, 2), y, loss="cross_entropy", backend=backend, limit=9)
    assert max(errors.values()) < 1e-6, errors


def trained(threads: int, dtype: type, **fit) -> list[np.ndarray]:
    model = Sequential(net(), dtype=dtype).build((9, 8, 2), seed=0)
    x, y = images(70, 9, 8, 2), np.arange(70) % 3
    Trainer(model, "cross_entropy", seed=1, threads=threads, **fit).fit(x, y, epochs=2, batch_size=32, verbose=False)
    return [view.copy() for view in model.state.views.values()] + [model.predict(x), model.predict(x[5:6])]


@native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype):
    from fastnn.backends import native as backend

    backend.set_least_work(0)
    try:
        expected = trained(1, dtype)
        for threads in (2, 3, 4):
            for got, want in zip(trained(threads, dtype), expected, strict=True):
                np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(expected[-1], expected[-2][5:6])  # a row alone
    finally:
        backend.set_least_work(48000)


@native
def test_native_learns_what_numpy_does():
    for got, want in zip(
        trained(1, np.float64, backend="native"), trained(1, np.float64, backend="numpy"), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)


def test_long_sums_keep_their_digits():
    """The gradient of a mean over 3 million pixels in float32, whose terms are all 1."""
    model = Sequential([nn.Conv1D(1, 1)]).build((2_000_000,), seed=0)
    op = model.plan.ops[0]
    numbers = [float(op.settings[each]) for each in op.operation.spec.setting_names]
    x, dz = np.ones((10, 2_000_000), np.float32), np.ones((10, 2_000_000, 1), np.float32)
    for name in ENGINES:
        dw, db = np.empty((1, 1, 1), np.float32), np.empty(1, np.float32)
        identity = nn.ACTIVATIONS["identity"]
        kernels = backends.resolve(name).kernels.ops["conv"]
        kernels.backward(x, np.ones_like(dw), *numbers, identity, x, dz, None, dw, db)
        assert dw[0, 0, 0] == db[0] == 2e7


def test_large_values_stay_right():
    """1e20, whose square float32 does not hold: products with weights, means and maxima of it do."""
    x = np.full((1, 6, 6), 1e20)
    model = Sequential([nn.Conv2D(1, 3, init=1.0, padding=1), nn.AvgPool2D(2), nn.MaxPool2D(3)]).build((6, 6), seed=0)
    assert model.predict(x)[0, 0, 0, 0] == pytest.approx(9e20, rel=1e-6)


def test_a_small_network_learns_where_a_bar_is(tmp_path):
    """Bars across and bars down, anywhere in an image: what a Dense would have to see at every place."""
    rng = np.random.default_rng(0)
    x, y = 0.3 * rng.normal(size=(300, 12, 12)), rng.integers(0, 2, 300)
    for image, down in zip(x, y, strict=True):
        i, j = rng.integers(0, 9, 2)
        image[(slice(i, i + 4), j) if down else (i, slice(j, j + 4))] += 1.5
    layers = [nn.Conv2D(8, 4, activation="relu"), nn.GlobalMaxPool(), nn.Dense(2)]
    model = Sequential(layers)
    Trainer(model, "cross_entropy", fastnn.optim.Adam(0.02), seed=0).fit(x[:200], y[:200], epochs=15, verbose=False)
    assert (model.predict_class(x[200:]) == y[200:]).mean() > 0.9
    model.save(tmp_path / "bars")
    np.testing.assert_array_equal(load(tmp_path / "bars").predict(x), model.predict(x))
