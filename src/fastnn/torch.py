"""PyTorch's modules, losses and optimizers to fastnn's and back. Exact or refused by name; computes nothing itself.

Importing this module imports PyTorch, which `import fastnn` does not. ImportError names the extra [torch] where it is
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastnn import optim
from fastnn.errors import missing_extra
from fastnn.formulas import activations, losses
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metric
from fastnn.nn import layers
from fastnn.nn.layers import Layer
from fastnn.nn.model import Sequential
from fastnn.optim.optimizers import Optimizer
from fastnn.optim.schedules import Schedule
from fastnn.plan import Penalty, Plan
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

try:
    import torch
    from torch import nn as tnn
except ImportError as error:
    raise missing_extra("PyTorch", "fastnn.torch", "torch") from error

Array = np.ndarray


class Normalize(tnn.Module):
    """What `to_torch` makes of `fastnn.nn.Normalize`: (x - shift) scale in float64, rounded to `dtype`. Not learned.

    `.double()`, `.float()` and `.to(...)` change what is rounded to, as they change the layers behind; shift and scale
    stay float64 whatever they say, for the digits that a time stamp needs.
    """

    def __init__(self, shift: Any, scale: Any, dtype: Any) -> None:
        super().__init__()
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64).clone())
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    @property
    def dtype(self) -> Any:
        """What the rows are rounded to."""
        return self.like.dtype

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        exact = {name: getattr(self, name) for name in ("shift", "scale")}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = getattr(self, name)
            if after.dtype != torch.float64:
                setattr(self, name, before.to(after.device))
        return self

    def forward(self, x: Any) -> Any:
        return ((x.double() - self.shift) * self.scale).to(self.dtype)


# One layer from one module ---------------------------------------------------------------------------------

_NAMED = {
    tnn.ReLU: "relu",
    tnn.SELU: "selu",
    tnn.SiLU: "silu",
    tnn.Mish: "mish",
    tnn.Sigmoid: "sigmoid",
    tnn.Tanh: "tanh",
    tnn.Softsign: "softsign",
    tnn.Hardsigmoid: "hard_sigmoid",
}
_LOWEST_THRESHOLD = 20.0  # PyTorch's Softplus is z above it: log(1 + exp(-20)) = 2e-9 away
# role of a layer's tensor -> attribute of the module; weights are (I, O) here and (O, I) there
_NORM = {"gamma": "weight", "beta": "bias"}
_TENSORS: dict[type, dict[str, str]] = {
    tnn.Linear: {"weight": "weight", "bias": "bias"},
    tnn.PReLU: {"slope": "weight"},
    tnn.LayerNorm: _NORM,
    tnn.BatchNorm1d: _NORM | {"running_mean": "running_mean", "running_var": "running_var"},
    Normalize: {"shift": "shift", "scale": "scale"},
}


def _expect(module: Any, option: str, value: Any) -> None:
    got = getattr(module, option)
    if got != value:
        raise ValueError(f"{option} is {got!r}, expected {value!r}")


def _elementwise(name: str, alpha: float | None = None) -> Layer:
    found = activations.ACTIVATIONS[name]
    return layers.Activation(found if alpha is None else found.with_alpha(alpha))


def _named(name: str, module: Any) -> Layer:
    return _elementwise(name)


def _linear(module: Any) -> Layer:
    return layers.Dense(module.out_features, bias=module.bias is not None)


def _gelu(module: Any) -> Layer:
    return _elementwise("gelu_tanh" if module.approximate == "tanh" else "gelu")


def _softplus(module: Any) -> Layer:
    _expect(module, "beta", 1.0)
    if module.threshold < _LOWEST_THRESHOLD:
        raise ValueError(f"threshold is {module.threshold!r}, expected at least {_LOWEST_THRESHOLD:g}")
    return _elementwise("softplus")


def _hardtanh(module: Any) -> Layer:
    _expect(module, "min_val", -1.0)
    _expect(module, "max_val", 1.0)
    return _elementwise("hard_tanh")


def _softmax(module: Any) -> Layer:
    if module.dim not in (1, -1):
        raise ValueError(f"dim is {module.dim!r}, expected 1 or -1")
    return layers.Softmax()


def _learned_norm(module: Any) -> None:
    for name in ("weight", "bias"):
        if getattr(module, name) is None:
            raise ValueError(f"it has no {name} (affine, elementwise_affine or bias is False), expected one")


def _batch_norm(module: Any) -> Layer:
    _expect(module, "affine", True)
    _expect(module, "track_running_stats", True)
    _learned_norm(module)
    if module.momentum is None:
        raise ValueError("momentum is None (a cumulative average), expected a number")
    return layers.BatchNorm(momentum=1.0 - module.momentum, epsilon=module.eps)


def _layer_norm(module: Any) -> Layer:
    if len(module.normalized_shape) != 1:
        raise ValueError(f"normalized_shape is {tuple(module.normalized_shape)}, expected one number")
    _learned_norm(module)
    return layers.LayerNorm(epsilon=module.eps)


def _flatten(module: Any) -> Layer:
    _expect(module, "start_dim", 1)
    _expect(module, "end_dim", -1)
    return layers.Flatten()


def _log_softmax(module: Any) -> Layer:
    raise ValueError("it is not needed: leave it out and take the logits with CrossEntropyLoss, which has it inside")


_FROM: dict[type, Callable[[Any], Layer | None]] = {
    tnn.Linear: _linear,
    **{kind: partial(_named, name) for kind, name in _NAMED.items()},
    tnn.LeakyReLU: lambda module: _elementwise("leaky_relu", module.negative_slope),
    tnn.ELU: lambda module: _elementwise("elu", module.alpha),
    tnn.GELU: _gelu,
    tnn.Softplus: _softplus,
    tnn.Hardtanh: _hardtanh,
    tnn.PReLU: lambda module: layers.PReLU(),
    tnn.RReLU: lambda module: layers.RReLU(module.lower, module.upper),
    tnn.Softmax: _softmax,
    tnn.Dropout: lambda module: layers.Dropout(module.p),
    tnn.BatchNorm1d: _batch_norm,
    tnn.LayerNorm: _layer_norm,
    tnn.Flatten: _flatten,
    tnn.Identity: lambda module: None,
    Normalize: lambda module: layers.Normalize(),
    tnn.LogSoftmax: _log_softmax,
}


def _supported() -> str:
    return ", ".join(sorted(kind.__name__ for kind in _FROM if kind is not tnn.LogSoftmax)) + ", nested Sequential"


def _width(module: Any) -> int | None:
    """The number of values a row must have for the module; None where it takes any."""
    if type(module) is tnn.PReLU:
        return None if module.num_parameters == 1 else int(module.num_parameters)
    if type(module) is Normalize:
        return len(module.shift)
    shape = getattr(module, "normalized_shape", None)
    width = getattr(module, "in_features", getattr(module, "num_features", shape and shape[0]))
    return None if width is None else int(width)


# A model from a module -------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A layer and the module it was made from."""

    path: str  # "module[1][0]"
    layer: Layer
    module: Any


def _leaves(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The modules within nested Sequentials, in order, each with its position."""
    if isinstance(module, tnn.Sequential) and type(module).forward is tnn.Sequential.forward:
        _no_hooks(module, path)
        for index, child in enumerate(module):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, module


def _no_hooks(module: Any, path: str) -> None:
    """TypeError where calling the module does more than its class says: spectral_norm, for one, is such a hook."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    if any(getattr(module, kind, None) for kind in kinds):
        raise TypeError(f"{path} is {type(module).__name__} with hooks, expected one without")


def _pairs(module: Any) -> list[Pair]:
    if not isinstance(module, tnn.Module):
        raise TypeError(f"module is {type(module).__name__}, expected a torch.nn.Sequential")
    pairs: list[Pair] = []
    for path, leaf in _leaves(module, "module"):
        make = _FROM.get(type(leaf))
        if make is None:
            raise TypeError(f"{path} is {type(leaf).__name__}, expected one of: {_supported()}")
        _no_hooks(leaf, path)
        if any(leaf is other.module for other in pairs) and list(leaf.parameters()):
            raise ValueError(f"{path} is {type(leaf).__name__}, which is in use already, expected one of its own")
        try:
            layer = make(leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is {type(leaf).__name__}: {error}") from None
        if layer is not None:
            pairs.append(Pair(path, layer, leaf))
    return _flatten_first(pairs)


def _flatten_first(pairs: list[Pair]) -> list[Pair]:
    """Flatten where fastnn has it: first. It moves past what acts on single values; on vectors it does nothing."""
    free = (layers.Activation, layers.Dropout, layers.RReLU)
    kept: list[Pair] = []
    for pair in pairs:
        if not isinstance(pair.layer, layers.Flatten):
            kept.append(pair)
        elif all(isinstance(before.layer, free) for before in kept):
            kept.insert(0, pair)
    return kept


def _dtype(module: Any) -> np.dtype:
    """The one dtype of the module's floating-point tensors. ValueError where they are elsewhere, or have several."""
    found: dict[Any, str] = {}
    for path, leaf in _leaves(module, "module"):
        for name, tensor in (*leaf.named_parameters(), *leaf.named_buffers()):
            if tensor.device.type != "cpu":
                raise ValueError(f"{path}.{name} is on {tensor.device}, expected cpu: call module.cpu()")
            if tensor.is_floating_point() and (name == "like" or not isinstance(leaf, Normalize)):
                found.setdefault(tensor.dtype, f"{path}.{name}")
    if len(found) > 1:
        has = ", ".join(f"{name} {dtype}" for dtype, name in found.items())
        raise ValueError(f"module has several dtypes ({has}), expected one")
    dtype = next(iter(found), torch.get_default_dtype())
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{found.get(dtype, 'module')} has dtype {dtype}, expected torch.float32 or torch.float64")
    return np.dtype(np.float32 if dtype == torch.float32 else np.float64)


def _convert(module: Any) -> tuple[Sequential, list[Pair]]:
    """The model, with the module's values in it where its number of inputs is known."""
    pairs = _pairs(module)
    dtype = _dtype(module)
    model = Sequential([pair.layer for pair in pairs] or [layers.Activation("identity")], dtype=dtype)
    width = inputs = None
    for pair in pairs:
        needed = _width(pair.module)
        if width is not None and needed is not None and needed != width:
            raise ValueError(
                f"{pair.path} is {type(pair.module).__name__} of {needed} values, but {width} come out before it"
            )
        if inputs is None:
            inputs = needed
        width = needed if width is None else width
        width = getattr(pair.module, "out_features", width)
    if inputs is not None:
        model.build(inputs, seed=0)
        for pair in pairs:
            for view, tensor in _tensors(pair):
                view[...] = tensor.detach().numpy()  # one slope of PReLU: for all columns
            if isinstance(pair.layer, layers.Normalize):
                pair.layer.adapted = True
    elif any(isinstance(pair.layer, layers.PReLU) for pair in pairs):
        raise ValueError("module does not say how many values its rows have, expected a Linear or a norm in it")
    return model, pairs


def _tensors(pair: Pair) -> Iterator[tuple[Array, Any]]:
    """Each live view of the layer with the module's tensor of the same values; both change in place."""
    for role, tensor in _roles(pair.module):
        view = pair.layer._view(role)
        yield view.T if role == "weight" else view, tensor


def _roles(module: Any) -> Iterator[tuple[str, Any]]:
    for role, attribute in _TENSORS.get(type(module), {}).items():
        tensor = getattr(module, attribute)
        if tensor is not None:
            yield role, tensor


def _write_back(pairs: Sequence[Pair]) -> None:
    with torch.no_grad():
        for pair in pairs:
            for view, tensor in _tensors(pair):
                tensor.copy_(torch.from_numpy(view))


def from_torch(module: Any) -> Sequential:
    """The fastnn model that computes what `module`, a torch.nn.Sequential, does in evaluation: a copy of its values.

    Supported: Linear, the activations of `docs/torch.md`, Dropout, BatchNorm1d, LayerNorm, Flatten, Softmax, Identity
    and Sequentials of them, in float32 or float64 on the CPU. The model is built where a module says how many values a
    row has.

    TypeError names position and class of a module that has no equal here; ValueError an option that has none.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> from_torch(net)
    Sequential([Dense(8), Activation('relu'), Dense(2)], dtype='float32')
    >>> x = torch.ones(1, 4)
    >>> np.allclose(from_torch(net).predict(x.numpy()), net(x).detach().numpy(), atol=1e-5)
    True
    """
    return _convert(module)[0]


# A module from a model -------------------------------------------------------------------------------------


def _plain(kind: type, activation: activations.Activation) -> Any:
    return kind()


_SETTINGS: dict[str, Callable[[activations.Activation], Any]] = {
    "identity": lambda activation: tnn.Identity(),
    "leaky_relu": lambda activation: tnn.LeakyReLU(activation.alpha),
    "elu": lambda activation: tnn.ELU(activation.alpha),
    "gelu": lambda activation: tnn.GELU(),
    "gelu_tanh": lambda activation: tnn.GELU("tanh"),
    "softplus": lambda activation: tnn.Softplus(),
    "hard_tanh": lambda activation: tnn.Hardtanh(),
    **{name: partial(_plain, kind) for kind, name in _NAMED.items()},
}


def _parts(layer: Layer, inputs: int, outputs: int, options: dict[str, Any]) -> Iterator[tuple[Layer, Any]]:
    """The modules of one layer, each with the layer that has its tensors. TypeError where PyTorch has none."""
    if isinstance(layer, (layers.Dense, layers.Activation)):
        if isinstance(layer, layers.Dense):
            yield layer, tnn.Linear(inputs, outputs, bias=layer.bias_used, **options)
            inputs = outputs
        follow = layer.activation
        if isinstance(follow, Layer):
            yield from _parts(follow, inputs, outputs, options)
        elif follow.name not in _SETTINGS:
            raise TypeError(f"activation is {follow}, which torch.nn has not")
        elif follow.name != "identity" or isinstance(layer, layers.Activation):
            yield layer, _SETTINGS[follow.name](follow)
    elif isinstance(layer, layers.PReLU):
        yield layer, tnn.PReLU(inputs, **options)
    elif isinstance(layer, layers.RReLU):
        yield layer, tnn.RReLU(layer.lower, layer.upper)
    elif isinstance(layer, layers.Softmax):
        yield layer, tnn.Softmax(dim=-1)
    elif isinstance(layer, layers.Dropout):
        yield layer, tnn.Dropout(layer.rate)
    elif isinstance(layer, layers.BatchNorm):
        yield layer, tnn.BatchNorm1d(inputs, layer.epsilon, 1.0 - layer.momentum, **options)
    elif isinstance(layer, layers.LayerNorm):
        yield layer, tnn.LayerNorm(inputs, layer.epsilon, **options)
    elif isinstance(layer, layers.Flatten):
        yield layer, tnn.Flatten()
    elif isinstance(layer, layers.Normalize):
        yield layer, Normalize(layer.shift, layer.scale, options["dtype"])
    else:
        raise TypeError("torch.nn has no such module")


def to_torch(model: Sequential) -> Any:
    """The torch.nn.Sequential that computes what `model` predicts: a copy of its values, in evaluation mode.

    `Normalize` becomes a `fastnn.torch.Normalize`. The model's loss is not in it: outputs are those of `predict`.

    NotFittedError before the model is built; TypeError names a layer that PyTorch has no module for (Maxout, and the
    activations binary_step and exponential).

    >>> model = fastnn.Sequential([nn.Dense(2, activation="tanh")]).build(3, seed=0)
    >>> to_torch(model)
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): Tanh()
    )
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model is {model!r}, expected a fastnn.Sequential")
    options = {"dtype": torch.float32 if model.plan.dtype == np.float32 else torch.float64}
    pairs: list[Pair] = []
    for index, (layer, (inputs, outputs)) in enumerate(zip(model.layers, model._spans, strict=True)):
        try:
            made = list(_parts(layer, inputs, outputs, options))
        except TypeError as error:
            raise TypeError(f"layers[{index}] is {layer!r}: {error}") from None
        pairs += [Pair(f"layers[{index}]", part, module) for part, module in made]
    _write_back(pairs)
    return tnn.Sequential(*(pair.module for pair in pairs)).eval()


# Losses ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LossOf:
    """How a torch loss is made here: `make` of the module, whose options must be `needs`."""

    make: Callable[[Any], Loss]
    needs: Mapping[str, Any]


_LOSSES: dict[type, _LossOf] = {
    tnn.CrossEntropyLoss: _LossOf(
        lambda loss: losses.CrossEntropy(loss.label_smoothing), {"weight": None, "ignore_index": -100}
    ),
    tnn.BCEWithLogitsLoss: _LossOf(
        lambda loss: losses.LOSSES["binary_cross_entropy"], {"weight": None, "pos_weight": None}
    ),
    tnn.MSELoss: _LossOf(lambda loss: losses.LOSSES["mse"], {}),
    tnn.L1Loss: _LossOf(lambda loss: losses.LOSSES["mae"], {}),
    tnn.HuberLoss: _LossOf(lambda loss: losses.Huber(loss.delta), {}),
    tnn.PoissonNLLLoss: _LossOf(lambda loss: losses.LOSSES["poisson"], {"log_input": True, "full": False}),
}


def _loss(loss: Any, plan: Plan) -> str | Loss:
    """The loss, if it is a module of PyTorch, as fastnn's."""
    if not isinstance(loss, tnn.Module):
        return loss
    name, mapping = type(loss).__name__, _LOSSES.get(type(loss))
    if mapping is None:
        known = ", ".join(kind.__name__ for kind in _LOSSES)
        raise TypeError(f"loss is {name}, expected one of: {known}, or a loss of fastnn")
    for option, expected in {"reduction": "mean", **mapping.needs}.items():
        got = getattr(loss, option)
        if got is not expected and (isinstance(got, torch.Tensor) or got != expected):
            raise ValueError(f"loss is {name} with {option}={got!r}, expected {option}={expected!r}")
    made = mapping.make(loss)
    if plan.training_ops(made) != plan.ops:
        raise ValueError(
            f"loss is {name}, which takes logits, but the module ends with their {made.link}: leave it out"
        )
    return made


# Optimizers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _OptimizerOf:
    """How a torch optimizer is made here: fields from options, and the options that must be as here."""

    make: Callable[..., Optimizer]
    fields: Mapping[str, str]  # field here -> option there
    needs: Mapping[str, Any]
    decoupled: str | None = None  # the option that says whether weight_decay is


_ADAM = {"epsilon": "eps"}
_OPTIMIZERS: dict[type, _OptimizerOf] = {
    torch.optim.Adam: _OptimizerOf(optim.Adam, _ADAM | {"amsgrad": "amsgrad"}, {}, "decoupled_weight_decay"),
    torch.optim.NAdam: _OptimizerOf(
        optim.NAdam, _ADAM | {"momentum_decay": "momentum_decay"}, {}, "decoupled_weight_decay"
    ),
    torch.optim.SGD: _OptimizerOf(optim.SGD, {}, {"dampening": 0}),
    torch.optim.RMSprop: _OptimizerOf(
        optim.RMSprop, {"rho": "alpha", "epsilon": "eps"}, {"momentum": 0, "centered": False}
    ),
    torch.optim.Adagrad: _OptimizerOf(
        optim.AdaGrad, {"epsilon": "eps"}, {"lr_decay": 0, "initial_accumulator_value": 0}
    ),
    torch.optim.Adadelta: _OptimizerOf(optim.AdaDelta, {"rho": "rho", "epsilon": "eps"}, {}),
}
_OPTIMIZERS[torch.optim.AdamW] = _OPTIMIZERS[torch.optim.Adam]  # sets decoupled_weight_decay, or is so by its class
# lr and weight_decay have lines of their own below; the others say how PyTorch computes, not what
_OTHER = {
    "params",
    "param_names",
    "lr",
    "initial_lr",
    "weight_decay",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
}


def _optimizer(optimizer: Any, pairs: Sequence[Pair]) -> tuple[str | Optimizer, dict[str, Penalty]]:
    """The optimizer, if it is one of PyTorch, as fastnn's, and what it takes from every tensor by weight decay."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer, {}
    name, mapping = type(optimizer).__name__, _OPTIMIZERS.get(type(optimizer))
    if mapping is None:
        known = ", ".join(kind.__name__ for kind in _OPTIMIZERS)
        raise TypeError(f"optimizer is {name}, expected one of: {known}, or an optimizer of fastnn")
    if any(_moved(state) for state in optimizer.state.values()):
        raise ValueError(
            f"optimizer is {name}, which has taken steps, expected a new one: its moments are not taken over"
        )
    groups = optimizer.param_groups
    options = {key: value for key, value in groups[0].items() if key != "maximize" or value}
    for index, group in enumerate(groups[1:], start=1):
        for key in sorted(set(group) - {"params", "param_names", "weight_decay"}):
            if group[key] != groups[0].get(key):
                raise ValueError(
                    f"optimizer is {name} with {key}={groups[0].get(key)!r} and, in group {index}, {group[key]!r}, "
                    f"expected one for all"
                )
    made, used = _make(name, mapping, options, type(optimizer))
    for key, value in options.items():
        if key not in used | _OTHER and value != mapping.needs.get(key, _ABSENT):
            expected = (
                f", expected {key}={mapping.needs[key]!r}" if key in mapping.needs else ", which has no equal here"
            )
            raise ValueError(f"optimizer is {name} with {key}={value!r}{expected}")
    decoupled = type(optimizer) is torch.optim.AdamW or bool(mapping.decoupled and options.get(mapping.decoupled))
    return made, _decays(optimizer, pairs, decoupled)


_ABSENT = object()


def _moved(state: Mapping[str, Any]) -> bool:
    return float(state.get("step", 0.0)) > 0 or state.get("momentum_buffer") is not None


def _make(name: str, mapping: _OptimizerOf, options: Mapping[str, Any], kind: type) -> tuple[Optimizer, set[str]]:
    """The optimizer and the options that are in it."""
    make, values = mapping.make, {field: options[option] for field, option in mapping.fields.items()}
    used = set(mapping.fields.values()) | {mapping.decoupled or "lr"}
    if "betas" in options:
        values["beta1"], values["beta2"] = (float(beta) for beta in options["betas"])
        used.add("betas")
    if kind is torch.optim.SGD:
        used |= {"momentum", "nesterov"}
        if options["momentum"]:
            make = optim.Nesterov if options["nesterov"] else optim.Momentum
            values["beta"] = options["momentum"]
    try:
        return make(float(options["lr"]), **values), used
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer is {name}: {error}") from None


def _decays(optimizer: Any, pairs: Sequence[Pair], decoupled: bool) -> dict[str, Penalty]:
    """The weight decay of every tensor that learns. PyTorch takes it from biases and norms as well."""
    decay = {id(tensor): float(group["weight_decay"]) for group in optimizer.param_groups for tensor in group["params"]}
    penalties = {}
    for pair in pairs:
        for role, tensor in _roles(pair.module):
            if not isinstance(tensor, tnn.Parameter):
                continue
            if id(tensor) not in decay:
                raise ValueError(f"optimizer has not the {role} of {pair.path}, expected all parameters of the module")
            value = decay[id(tensor)]
            penalty = Penalty(0.0, 0.0, value) if decoupled else Penalty(0.0, value, 0.0)
            penalties[f"{pair.layer.index}.{role}"] = penalty
    return penalties


# Fitting ---------------------------------------------------------------------------------------------------


def _array(value: Any) -> Any:
    """A tensor as the array of its values; anything else as it is, pairs and triples of them too."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return tuple(map(_array, value)) if isinstance(value, tuple) else value


def _all_learn(pairs: Sequence[Pair]) -> None:
    """ValueError where fastnn would train what PyTorch would not, or in another way, or could not write it back."""
    for pair in pairs:
        for name, tensor in (*pair.module.named_parameters(), *pair.module.named_buffers()):
            if tensor.is_inference() and not torch.is_inference_mode_enabled():
                raise ValueError(
                    f"{pair.path}.{name} was made in torch.inference_mode, outside of which it cannot be changed: "
                    f"make the module outside of it, or call fit within"
                )
        for role, tensor in _roles(pair.module):
            if isinstance(tensor, tnn.Parameter) and not tensor.requires_grad:
                raise ValueError(
                    f"the {role} of {pair.path} does not require a gradient, expected parameters that learn"
                )
        if isinstance(pair.layer, layers.PReLU) and pair.module.num_parameters != len(pair.layer.slope):
            raise ValueError(
                f"{pair.path} is PReLU with num_parameters={pair.module.num_parameters}, expected "
                f"{len(pair.layer.slope)} to train it: one slope a column"
            )
    parameters = [tensor for pair in pairs for _, tensor in _roles(pair.module) if isinstance(tensor, tnn.Parameter)]
    if len({id(tensor) for tensor in parameters}) < len(parameters):
        raise ValueError("module has a parameter in two places, expected each in one")


def fit(
    module: Any,
    X: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    schedule: str | Schedule | None = None,
    metrics: Sequence[Metric] = (),
    seed: int | None = None,
    backend: str = "auto",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    threads: int | None = None,
    **arguments: Any,
) -> History:
    """Train `module`, a torch.nn.Sequential that `from_torch` takes, and put what it learned into its tensors.

    loss, optimizer: fastnn's, or PyTorch's: CrossEntropyLoss, BCEWithLogitsLoss, MSELoss, L1Loss, HuberLoss,
    PoissonNLLLoss; Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, NAdam over the module's parameters, whose weight decay
    may differ between them. Names and optimizers of fastnn decay weights alone; PyTorch's all that they were given.
    X, y and what goes with them may be tensors. schedule .. threads: see `Trainer`; arguments (epochs, batch_size,
    validation, shuffle, callbacks, ...): see `Trainer.fit`.

    The parameters stay the same objects, gradients and the mode (train or eval) what they were; Dropout and BatchNorm
    work as in training in any mode. An optimizer of PyTorch gives its settings only: its state is neither read nor
    changed. When the fit ends with an error, Ctrl-C included, the module has what `Trainer.fit` leaves its model.

    TypeError and ValueError, before anything is changed, name what has no equal here.

    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = fit(net, x, x**2, loss=torch.nn.MSELoss(), optimizer=torch.optim.Adam(net.parameters(), lr=0.02),
    ...               epochs=200, batch_size=16, seed=0)
    >>> history["loss"][-1] < 0.01
    True
    """
    model, pairs = _convert(module)
    if not model.built:
        raise ValueError("module has nothing to learn, expected a Linear, a norm or a PReLU in it")
    _all_learn(pairs)
    chosen, penalties = _optimizer(optimizer, pairs)
    trainer = Trainer(
        model,
        _loss(loss, model.plan),
        chosen,
        schedule=schedule,
        metrics=metrics,
        seed=seed,
        backend=backend,
        clip_norm=clip_norm,
        clip_value=clip_value,
        threads=threads,
    )
    plan = model.plan.with_penalties(penalties)
    model._plan = model.state.plan = plan
    try:
        return trainer.fit(_array(X), _array(y), **{name: _array(value) for name, value in arguments.items()})
    finally:
        _write_back(pairs)
        for pair in pairs:
            if isinstance(pair.module, tnn.BatchNorm1d):
                pair.module.num_batches_tracked += model.state.step
