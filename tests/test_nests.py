"""Layers within layers: where errors say that something is wrong."""

from __future__ import annotations

import pytest

from fastnn import Sequential, Trainer, nn

# Errors say where --------------------------------------------------------------------------------------------------


def nest(wrong: nn.Layer) -> nn.Residual:
    """The layer two levels down, behind a Dense of 4 units each."""
    return nn.Residual([nn.Scale(), nn.Residual([nn.Dense(4), wrong])])


WRONG = {
    "a layer": (lambda: [nn.Dense(5), nn.Maxout(2)], r"layers\[1\] \(Maxout\): pieces is 2, expected a divisor"),
    "an activation": (lambda: [nn.Activation(nn.Maxout(3))], r"layers\[0\] \(Activation\): pieces is 3"),
    "the tenth": (
        lambda: [*(nn.Scale() for _ in range(10)), nn.Maxout(3)],  # layers[1] begins like it
        r"layers\[10\] \(Maxout\): pieces is 3",
    ),
    "within a Residual": (
        lambda: [nn.Scale(), nn.Residual([nn.Dense(6), nn.Dense(4), nn.Reshape((3, 5))])],
        r"layers\[1\]\.layers\[2\] \(Reshape\): shape is \(3, 5\), expected sizes for the 4 values",
    ),
    "two levels down": (
        lambda: [nn.Scale(), nest(nn.Maxout(3))],
        r"layers\[1\]\.layers\[1\]\.layers\[1\] \(Maxout\): pieces is 3",
    ),
    "in a shortcut": (
        lambda: [nn.Residual([nn.Dense(4)], shortcut=[nn.Dense(4), nn.Maxout(3)])],
        r"layers\[0\]\.shortcut\[1\] \(Maxout\): pieces is 3",
    ),
    "a sum": (
        lambda: [nn.Scale(), nn.Residual([nn.Dense(5)])],
        r"layers\[1\] \(Residual\): layers make rows of shape \(5,\), to which rows of shape \(4,\) are added, "
        r"expected one shape: shortcut=\[Dense\(5\)\] would make it$",
    ),
    "a sum two levels down": (
        lambda: [nest(nn.Residual([nn.Dense(5)], shortcut=[nn.Dense(3)]))],
        r"layers\[0\]\.layers\[1\]\.layers\[1\] \(Residual\): layers make .* \(5,\), .* \(3,\) are added, .*one shape$",
    ),
}


@pytest.mark.parametrize(("layers", "message"), WRONG.values(), ids=WRONG)
def test_rows_that_a_layer_cannot_take(layers, message):
    model = Sequential(layers())
    with pytest.raises(ValueError, match=f"^{message}"):
        model.build(4)
    with pytest.raises(ValueError, match=f"^{message}"):
        Trainer(model, "mse").fit([[0.0] * 4] * 2, [0.0] * 2, verbose=False)
    assert not model.built


IN_USE = {
    "twice": (lambda layer: [nn.Residual([layer], shortcut=[nn.Scale(), layer])], r"layers\[0\]\.shortcut\[1\]"),
    "in an activation": (
        lambda layer: [nn.Dense(4, layer), nn.Residual([nn.Dense(4, layer)])],
        r"layers\[1\]\.layers\[0\]\.activation",
    ),
}


@pytest.mark.parametrize(("layers", "path"), IN_USE.values(), ids=IN_USE)
def test_a_layer_that_is_there_twice(layers, path):
    with pytest.raises(ValueError, match=rf"^{path} is PReLU\(\), which is in use already"):
        Sequential(layers(nn.PReLU()))


def test_a_layer_of_another_model():
    layer = nn.PReLU()
    Sequential([layer])
    with pytest.raises(
        ValueError, match=r"^layers\[0\]\.layers\[1\]\.layers\[1\] is PReLU\(\), which is in use already"
    ):
        Sequential([nest(layer)])


REFUSED = {
    "no list": (lambda: nn.Residual(nn.Dense(2)), TypeError, r"layers of Residual is Dense\(2\), expected a list"),
    "empty": (lambda: nn.Residual([]), ValueError, "layers of Residual is empty"),
    "no layer": (lambda: nn.Residual([nn.Dense(2), "relu"]), TypeError, r"layers\[1\] of Residual is 'relu'"),
    "shortcut": (
        lambda: nn.Residual([nn.Dense(2)], shortcut=[nn.Dense]),
        TypeError,
        r"shortcut\[0\] of Residual is <class",
    ),
    "Normalize": (
        lambda: nn.Residual([nn.Residual([nn.Normalize()])]),
        ValueError,
        r"layers\[0\] of Residual is Normalize\('standard'\), expected it directly on the data",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_residual_does_not_take(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
