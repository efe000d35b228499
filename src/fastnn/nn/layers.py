"""The layers: what each learns, its settings, and the operations it becomes. No arithmetic.

A layer is a declaration until a model is built from it; then `layer.weight` and its like are live numpy views
of the model's parameters: what an optimizer changes is seen there at once, and writing into them changes the
model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from fastnn import _validate
from fastnn.formulas import activations, initializers, moments
from fastnn.formulas.initializers import Initializer
from fastnn.plan import FREE, Op, Penalty, Tensor

Array = np.ndarray

_HE_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "prelu", "rrelu", "maxout")


class Layer:
    """Base of all layers. `index` is the layer's place in its model; its views appear when that is built."""

    KEPT: ClassVar[tuple[str, ...]] = ()  # attributes that a fit sets, beside the tensors: a model file has them too
    index: int | None = None

    def __init__(self) -> None:
        self._views: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": {}}  # a copy gets views of its own model's buffers, or none

    def ops(self, inputs: int) -> list[Op]:
        """The operations of this layer for rows of `inputs` values."""
        raise NotImplementedError

    def parts(self) -> list[Layer]:
        """The layer, and the one that is its activation."""
        follow = getattr(self, "activation", None)
        return [self, follow] if isinstance(follow, Layer) else [self]

    def settings(self) -> str:
        """The layer's arguments as they are written, for its repr: those that say most, and what differs from the
        defaults. Nothing is rounded, and `eval` makes the same layer of it with the names of `fastnn.nn`."""
        return self._written(**self.arguments())

    def _written(self, *first: str, **named: Any) -> str:
        """The arguments written in first, and those named here that differ from the default."""
        known = inspect.signature(type(self)).parameters
        changed = (name for name, value in named.items() if value != known[name].default)
        return ", ".join([*first, *(f"{name}={named[name]!r}" for name in changed)])

    def arguments(self) -> dict[str, Any]:
        """What to call the class with to get such a layer: the attributes that are called like the arguments.

        >>> RReLU(0.1, 0.3).arguments()
        {'lower': 0.1, 'upper': 0.3}
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _tensor(
        self,
        role: str,
        shape: tuple[int, ...],
        initial: Callable[[np.random.Generator], Array | float],
        *,
        trainable: bool = True,
        scaling: bool = False,
        penalty: Penalty = FREE,
    ) -> Tensor:
        assert self.index is not None
        return Tensor(f"{self.index}.{role}", shape, initial, trainable, scaling, penalty)

    def _view(self, role: str) -> Array:
        if role not in self._views:
            raise AttributeError(f"this {type(self).__name__} has no {role} yet: fit its model, or call model.build")
        return self._views[role]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings()})"


class Dense(Layer):
    """a = f(x w + b): x (B, I), w (I, O), b (O,), a (B, O).

    `activation`: a name of `fastnn.nn.ACTIVATIONS`, an `activations.Activation` (with its parameter), or
    "softmax", "maxout", "prelu", "rrelu" or such a layer. `init`: a name of `INITIALIZERS`, an initialiser or a
    number; None takes He's for the relu family, LeCun's for selu and Glorot's uniform otherwise. Biases start
    at 0. `l1`, `l2` and `decay` (all >= 0) penalise the weights of this layer; None: as the optimizer says.

    ValueError or TypeError where an argument is out of range.

    >>> Dense(10, activation="relu", init="he_normal")
    Dense(10, 'relu', init='he_normal')
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | Layer | None = None,
        *,
        init: str | Initializer | float | None = None,
        bias: bool = True,
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self.units = _validate.integer("units", units)
        self.activation: activations.Activation | Layer = _resolve(activation)
        self.init = None if init is None else initializers.get(init)
        self.bias_used = _validate.flag("bias", bias)
        given = (("l1", l1), ("l2", l2), ("decay", decay))
        self.penalty = Penalty(
            *(None if value is None else _validate.number(name, value, low=0.0) for name, value in given)
        )

    @property
    def weight(self) -> Array:
        """(I, O), live."""
        return self._view("weight")

    @property
    def bias(self) -> Array:
        """(O,), live; zeros that no optimizer touches where the layer was made with bias=False."""
        return self._view("bias")

    def ops(self, inputs: int) -> list[Op]:
        follow = self.activation if isinstance(self.activation, Layer) else None
        pieces = follow.pieces if isinstance(follow, Maxout) else 1
        outputs = self.units * pieces
        draw = self._initializer().draw
        tensors = {
            "weight": self._tensor(
                "weight",
                (inputs, outputs),
                lambda rng: draw(rng, (inputs, outputs), inputs, self.units),
                penalty=self.penalty,
            ),
            "bias": self._tensor("bias", (outputs,), lambda rng: 0.0, trainable=self.bias_used),
        }
        if follow is None:
            assert isinstance(self.activation, activations.Activation)
            return [Op("dense", inputs, outputs, tensors, self.activation)]
        follow._views = self._views  # its tensors are this layer's
        return [Op("dense", inputs, outputs, tensors), *follow.ops(outputs)]

    def _initializer(self) -> Initializer:
        if self.init is not None:
            return self.init
        name = (
            self.activation.name if not isinstance(self.activation, Layer) else type(self.activation).__name__.lower()
        )
        family = "he_normal" if name in _HE_FAMILY else "lecun_normal" if name == "selu" else "glorot_uniform"
        return initializers.INITIALIZERS[family]

    def settings(self) -> str:
        given = self.arguments()
        activation, units = given.pop("activation"), given.pop("units")
        follow = [] if activation == activations.identity else [_expression(activation)]
        known = (name for name, init in initializers.INITIALIZERS.items() if init == self.init)
        return self._written(repr(units), *follow, **given | {"init": next(known, self.init)})

    def arguments(self) -> dict[str, Any]:
        own = {"units": self.units, "activation": self.activation, "init": self.init, "bias": self.bias_used}
        return own | {"l1": self.penalty.l1, "l2": self.penalty.l2, "decay": self.penalty.decay}


class Activation(Layer):
    """An activation as a layer of its own: fused into the Dense before it where that has none.

    >>> Activation("tanh")
    Activation('tanh')
    """

    def __init__(self, activation: str | activations.Activation | Layer) -> None:
        super().__init__()
        self.activation = _resolve(activation)

    def ops(self, inputs: int) -> list[Op]:
        if isinstance(self.activation, Layer):
            self.activation._views = self._views
            return self.activation.ops(inputs)
        return [Op("activation", inputs, inputs, activation=self.activation)]

    def settings(self) -> str:
        return _expression(self.activation)


class Softmax(Layer):
    """a_j = exp(z_j) / sum_k exp(z_k) over each row. Before cross_entropy it is fused into the loss."""

    def ops(self, inputs: int) -> list[Op]:
        return [Op("softmax", inputs, inputs)]


class Maxout(Layer):
    """a_o = max of the k pieces z_{ko} .. z_{ko + k - 1}: (B, k O) -> (B, O). Goodfellow et al. 2013.

    `Dense(O, activation=Maxout(k))` makes the k O pre-activations itself.

    >>> Dense(16, activation=Maxout(pieces=3))
    Dense(16, Maxout(pieces=3))
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = _validate.integer("pieces", pieces, low=2)

    def ops(self, inputs: int) -> list[Op]:
        if inputs % self.pieces:
            raise ValueError(f"pieces is {self.pieces}, expected a divisor of the {inputs} values that come in")
        return [Op("maxout", inputs, inputs // self.pieces)]

    def settings(self) -> str:
        return f"pieces={self.pieces}"


class PReLU(Layer):
    """a = z where z > 0, else slope z, with one learned slope a column, 0.25 at first: He et al. 2015."""

    def __init__(self, init: float = 0.25) -> None:
        super().__init__()
        self.init = _validate.number("init", init)

    @property
    def slope(self) -> Array:
        """(O,), live."""
        return self._view("slope")

    def ops(self, inputs: int) -> list[Op]:
        slope = self._tensor("slope", (inputs,), lambda rng: self.init)
        return [Op("prelu", inputs, inputs, {"slope": slope})]


class RReLU(Layer):
    """a = z where z > 0, else slope z, the slope drawn for each value from U(lower, upper) in training and their
    mean in inference: Xu et al. 2015."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self.lower = _validate.number("lower", lower, low=0.0)
        self.upper = _validate.number("upper", upper, low=self.lower)

    def ops(self, inputs: int) -> list[Op]:
        return [Op("rrelu", inputs, inputs, settings={"lower": self.lower, "upper": self.upper})]


class Dropout(Layer):
    """Inverted dropout: each value is 0 with probability rate, else divided by 1 - rate; nothing in inference.

    Srivastava et al. 2014. The bits depend on seed, step, layer and position alone: every backend and any
    number of threads drops the same values.
    """

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = _validate.number("rate", rate, low=0.0, high=1.0, open_high=True)

    def ops(self, inputs: int) -> list[Op]:
        return [Op("dropout", inputs, inputs, settings={"rate": self.rate})] if self.rate else []

    def settings(self) -> str:
        return repr(self.rate)


class _Norm(Layer):
    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = _validate.number("epsilon", epsilon, low=0.0, open_low=True)

    @property
    def gamma(self) -> Array:
        """(O,), live: the learned scale, 1 at first."""
        return self._view("gamma")

    @property
    def beta(self) -> Array:
        """(O,), live: the learned shift, 0 at first."""
        return self._view("beta")

    def _affine(self, inputs: int) -> dict[str, Tensor]:
        return {
            "gamma": self._tensor("gamma", (inputs,), lambda rng: 1.0),
            "beta": self._tensor("beta", (inputs,), lambda rng: 0.0),
        }


class BatchNorm(_Norm):
    """a = gamma (x - mean) / sqrt(var + epsilon) + beta, mean and var of each column.

    Of the batch in training; in inference of the running averages, running <- momentum running + (1 - momentum)
    batch, whose variance is the unbiased one. Ioffe & Szegedy 2015. A batch of one row (what a batch size may leave
    over) has no variance: it comes out as beta, and leaves the running averages alone.
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        self.momentum = _validate.number("momentum", momentum, low=0.0, high=1.0, open_high=True)

    @property
    def running_mean(self) -> Array:
        """(O,), live."""
        return self._view("running_mean")

    @property
    def running_var(self) -> Array:
        """(O,), live."""
        return self._view("running_var")

    def ops(self, inputs: int) -> list[Op]:
        tensors = self._affine(inputs) | {
            "running_mean": self._tensor("running_mean", (inputs,), lambda rng: 0.0, trainable=False),
            "running_var": self._tensor("running_var", (inputs,), lambda rng: 1.0, trainable=False),
        }
        settings = {"momentum": self.momentum, "epsilon": self.epsilon}
        return [Op("batch_norm", inputs, inputs, tensors, settings=settings)]


class LayerNorm(_Norm):
    """a = gamma (x - mean) / sqrt(var + epsilon) + beta, mean and var of each row. Ba et al. 2016."""

    def __init__(self, *, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)

    def ops(self, inputs: int) -> list[Op]:
        return [Op("layer_norm", inputs, inputs, self._affine(inputs), settings={"epsilon": self.epsilon})]


class Flatten(Layer):
    """Rows of any shape (B, d1, d2, ...) read in C order as (B, d1 d2 ...). Only as the first layer.

    The model keeps the shape (d1, d2, ...) it was built with or first fitted on, and refuses rows of another shape with
    as many values, such as channels first instead of last: ValueError. Rows that were flattened before, (B, d1 d2 ...),
    stay welcome.

    >>> model = fastnn.Sequential([nn.Flatten(), nn.Dense(2)]).build((28, 28), seed=0)
    >>> model.predict(np.zeros((5, 28, 28))).shape, model.predict(np.zeros((5, 784))).shape
    ((5, 2), (5, 2))
    >>> model.predict(np.zeros((5, 14, 56)))
    Traceback (most recent call last):
    ValueError: X has rows of shape (14, 56), but this model was built with rows of shape (28, 28)
    """

    def ops(self, inputs: int) -> list[Op]:
        return []


class Normalize(Layer):
    """a = (x - shift) scale, learned from the data at the first fit and saved with the model.

    `mode`: "standard" gives mean 0 and standard deviation 1, "minmax" the range 0 to 1. `per_feature=False` takes one
    shift and scale for all features (pixels of one image). A constant feature has scale 1, and so has one that spreads
    less than 2.2e-308, float64's smallest normal number, or than float64 rounds its mean. Only directly on the data: it
    is computed in float64 as each batch is gathered, and rounded once to the model's dtype, so that a time stamp
    keeps its digits. |error| <= (u + 3e-16) |a|, u = 2^-24 in float32 and 2^-53 in float64, for the shift and scale as
    they stand.
    """

    KEPT = ("adapted",)

    def __init__(self, mode: Literal["standard", "minmax"] = "standard", *, per_feature: bool = True) -> None:
        super().__init__()
        if mode not in ("standard", "minmax"):
            raise ValueError(f"mode is {mode!r}, expected 'standard' or 'minmax'")
        self.mode, self.per_feature = mode, _validate.flag("per_feature", per_feature)
        self.adapted = False
        self._kernel: moments.Kernel | None = None  # the model's

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_kernel": None}

    @property
    def shift(self) -> Array:
        """(I,), live, float64 in every model."""
        return self._view("shift")

    @property
    def scale(self) -> Array:
        """(I,), live, float64 in every model."""
        return self._view("scale")

    def ops(self, inputs: int) -> list[Op]:
        tensors = {
            "shift": self._tensor("shift", (inputs,), lambda rng: 0.0, trainable=False, scaling=True),
            "scale": self._tensor("scale", (inputs,), lambda rng: 1.0, trainable=False, scaling=True),
        }
        return [Op("normalize", inputs, inputs, tensors)]

    def adapt(
        self, x: Any, rows: Array | None = None, weight: Array | None = None, *, kernel: moments.Kernel | None = None
    ) -> None:
        """Learn shift and scale from x (n, I), a scipy.sparse one too, or from these rows (B,) of it, in float64.

        Rows whose weight (n,) is 0 do not count. Other weights do not weigh here, though they do in scikit-learn's
        StandardScaler: they say how much a row's error matters, not in which units its features are. `kernel`: of the
        backend that computes; None takes the one that `predict` would.

        ValueError where there is no row to learn from, TypeError where `rows` are no integers.
        """
        shift, scale = self.shift, self.scale
        if rows is not None:
            rows = _validate.indices("rows", rows)
        if weight is not None and not np.all(weight):
            rows = np.flatnonzero(weight) if rows is None else rows[weight[rows] != 0]
        if (x.shape[0] if rows is None else len(rows)) == 0:
            raise ValueError("x has no row of a weight > 0 to learn from, expected at least one")
        kernel = kernel or self._kernel
        assert kernel is not None
        low, high, mean, std = moments.summary(x, rows, kernel=kernel, per_feature=self.per_feature)
        spread = std if self.mode == "standard" else high - low
        shift[...] = mean if self.mode == "standard" else low
        scale[...] = 1.0 / np.where(spread >= np.finfo(np.float64).tiny, spread, 1.0)
        self.adapted = True

    def settings(self) -> str:
        return self._written(repr(self.mode), per_feature=self.per_feature)


_ROW_LAYERS: dict[str, Callable[[], Layer]] = {"softmax": Softmax, "maxout": Maxout, "prelu": PReLU, "rrelu": RReLU}
assert tuple(_ROW_LAYERS) == activations.ROW_ACTIVATIONS


def _expression(activation: activations.Activation | Layer) -> str:
    """What stands for it in a layer's arguments."""
    if isinstance(activation, Layer):
        return repr(activation)
    if activation == activations.ACTIVATIONS.get(activation.name, activation):
        return repr(activation.name)
    return f"ACTIVATIONS[{activation.name!r}].with_alpha({activation.alpha!r})"


def _resolve(activation: Any) -> activations.Activation | Layer:
    if isinstance(activation, (Softmax, Maxout, PReLU, RReLU)):
        return activation
    if isinstance(activation, str) and activation in _ROW_LAYERS:
        return _ROW_LAYERS[activation]()
    return activations.get(activation)
