"""Estimators as a header and arrays, and back: what files and pickles hold. Checks every field, executes nothing.

    header = {"format": "fastnn estimator", "version", "written_by", "class", "parameters", "fitted"}
    fitted = None | {"layout", "inputs", "outputs", "dtype", "loss", "labels", "feature_names", "seed", "rate",
                     "numbers", "history", "best", "optimizer"}
    arrays: the tensors of the network by their names; "curve.loss_curve_", ...; "history" (quantities, epochs);
            "best.<tensor>" of the best epoch, where the network is not that; "slot.<i>" of the optimizer in a pickle

The network is not described layer by layer: its layout is what it was made of. `reading.py` has files, this has none.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn._text import short
from fastnn._version import __version__
from fastnn.errors import ModelFormatError
from fastnn.estimators import classes
from fastnn.estimators.labels import Labels
from fastnn.estimators.network import Layout
from fastnn.estimators.plain import decoded, encoded
from fastnn.formulas.losses import Loss
from fastnn.nn.model import Sequential
from fastnn.nn.reading import checked_names, restore_state, state_of
from fastnn.nn.serialize import ESTIMATOR as FORMAT
from fastnn.nn.serialize import MOST_LAYERS, check_count, loss_from_config, loss_to_config, same_keys
from fastnn.plan import BUFFERS, Plan, Snapshot, State, aligned
from fastnn.training.trainer import Trainer

Array = np.ndarray
Header = dict[str, Any]
Arrays = dict[str, Array]
VERSION = 1
FIELDS: dict[str, Any] = {
    "format": str,
    "version": int,
    "written_by": str,
    "class": str,
    "parameters": dict,
    "fitted": (dict, type(None)),
}
FITTED: dict[str, Any] = {
    "layout": dict,
    "inputs": int,
    "outputs": int,
    "dtype": str,
    "loss": dict,
    "labels": (dict, type(None)),
    "feature_names": (list, type(None)),
    "seed": int,
    "rate": (int, float),
    "numbers": dict,
    "history": list,
    "best": (str, type(None)),
    "optimizer": (dict, type(None)),
}
_LAYOUT: dict[str, Any] = {"hidden": list, "activations": list, "dropout": list, "batch_norm": bool}
CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
# Attributes that are a number, and those that may be None; which there are, the kind of the fit says.
COUNTS = ("n_iter_", "t_", "_no_improvement_count")
ALWAYS = ("n_iter_", "t_", "loss_")  # of lbfgs, too; loss_ not where the first step diverged
OF_EPOCHS = ("_no_improvement_count", "best_loss_", "best_validation_score_", "validation_scores_")
NUMBERS = (*ALWAYS, *OF_EPOCHS)
_NONE = ("best_loss_", "best_validation_score_", "validation_scores_")
_DERIVED = ("n_features_in_", "feature_names_in_", "n_outputs_", "n_layers_", "out_activation_", "classes_")
_OWN = ("_trainer", "_fitted_layout", "_labels", "_outputs", "_rate", "_best")
KNOWN = {*CURVES, *NUMBERS, *_DERIVED, *_OWN}
_ENDS = {"softmax": "softmax", "sigmoid": "logistic", "exponential": "exp", None: "identity"}
_MOST_STEPS = 1 << 62
_MOST_SLOTS = 3  # of an optimizer's rule


def attach(estimator: Any, model: Sequential, layout: Layout, seed: int = 0) -> None:
    """Give the estimator a network with its loss, and the attributes that say what it is."""
    assert model.loss is not None
    trainer = Trainer(model, model.loss, seed=seed)
    trainer.advises = False  # of Trainer's settings
    estimator._trainer, estimator._fitted_layout = trainer, layout
    estimator.n_outputs_, estimator.n_layers_ = model.plan.outputs, len(layout.hidden) + 2
    estimator.out_activation_ = _ENDS[model.loss.link]


# Writing ------------------------------------------------------------------------------------------------------


def header_of(kind: str, parameters: Header, fitted: Header | None) -> Header:
    written_by = f"fastnn {__version__}, NumPy {np.__version__}"
    said = {"format": FORMAT, "version": VERSION, "written_by": written_by}
    return {**said, "class": kind, "parameters": parameters, "fitted": fitted}


def fitted_of(estimator: Any, optimizer: bool) -> tuple[Header, Arrays]:
    """What a fit has learned. optimizer: with its moments, too. TypeError for formulas of one's own."""
    own = estimator.__dict__
    trainer, layout = own["_trainer"], own["_fitted_layout"]
    model, labels = trainer.model, own.get("_labels")
    state, names = model.state, own.get("feature_names_in_")
    epochs, begun = trainer.history.epochs, "loss_curve_" in own  # not where lbfgs followed another solver
    best, arrays = _best_of(own["_best"] if begun else None, model.plan, state)
    arrays |= state.views
    arrays |= {f"curve.{name}": np.array(own[name], np.float64) for name in CURVES if own.get(name) is not None}
    if epochs:
        arrays["history"] = np.array(list(epochs.values()), np.float64)
    if optimizer:
        arrays |= {f"slot.{index}": slot for index, slot in enumerate(state.slots)}
    return {
        "layout": _layout_to_config(layout),
        "inputs": model.plan.inputs,
        "outputs": model.plan.outputs,
        "dtype": model.dtype.name,
        "loss": loss_to_config(trainer.loss, "loss"),
        "labels": None if labels is None else classes.to_config(labels),
        "feature_names": None if names is None else [str(name) for name in names],
        "seed": int(trainer.seed),
        "rate": float(own["_rate"]),
        "numbers": {name: _number(own[name], name) for name in _numbers_of(own)},
        "history": list(epochs),
        "best": best,
        "optimizer": {"rule": state.rule, "step": int(state.step)} if optimizer else None,
    }, arrays


def _numbers_of(own: Header) -> list[str]:
    """Names of attributes that are a number or None, not a curve."""
    begun = "loss_curve_" in own
    names = [name for name in (ALWAYS if not begun else NUMBERS) if name in own]
    return [name for name in names if name not in CURVES or own[name] is None]


def _number(value: Any, name: str) -> Any:
    if value is None:
        return None
    return encoded(int(value) if name in COUNTS else float(value), name)


def _layout_to_config(layout: Layout) -> Header:
    return {
        "hidden": list(layout.hidden),
        "activations": [encoded(each, f"activation[{index}]") for index, each in enumerate(layout.activations)],
        "dropout": [float(rate) for rate in layout.dropout],
        "batch_norm": bool(layout.batch_norm),
    }


def _best_of(best: Snapshot | None, plan: Plan, state: State) -> tuple[str | None, Arrays]:
    """How the best epoch's parameters are kept, and in which arrays: a fit that ends with them needs none."""
    if best is None:
        return None, {}
    kept = plan.views(*best.buffers[: len(BUFFERS)])
    if all(view.tobytes() == state.views[name].tobytes() for name, view in kept.items()):
        return "network", {}
    return "arrays", {f"best.{name}": view for name, view in kept.items()}


# Reading ------------------------------------------------------------------------------------------------------


def checked_header(header: Any) -> tuple[Header, Header | None]:
    """Its parameters and what a fit has learned, each an object of fields that are not looked at yet."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = short(header.get("format") if isinstance(header, dict) else header)
        raise ModelFormatError(f"this is not an estimator: format is {found}, expected {FORMAT!r}")
    if header.get("version") != VERSION:
        found, writer = short(header.get("version")), short(header.get("written_by"))
        raise ModelFormatError(f"version is {found}, expected {VERSION}: written by {writer}, this is {__version__}")
    check_fields("the header", header, FIELDS)
    return header["parameters"], header["fitted"]


def check_size(parameters: Any, fitted: Any) -> None:
    """ModelFormatError where a file would make more layers than one may have, four at most of a hidden one."""
    check_count([parameters, fitted], "the estimator")
    layout = fitted.get("layout") if isinstance(fitted, dict) else None
    for hidden in (parameters.get("hidden_layer_sizes"), layout.get("hidden") if isinstance(layout, dict) else None):
        sizes = next(iter(hidden.values()), None) if isinstance(hidden, dict) else hidden  # {"tuple": [...]}
        if isinstance(sizes, list) and 4 * len(sizes) >= MOST_LAYERS:
            most = MOST_LAYERS // 4 - 1
            raise ModelFormatError(
                f"the estimator has {len(sizes):,} hidden layers, expected at most {most:,} in a file"
            )


def parameters_from(said: Header) -> dict[str, Any]:
    """Parameters as a constructor takes them."""
    return {name: decoded(value, name) for name, value in said.items()}


def check_fields(where: str, given: Any, fields: dict[str, Any]) -> None:
    """ModelFormatError where an object has other fields, or one of another type."""
    if not isinstance(given, dict):
        raise ModelFormatError(f"{where} is {short(given)}, expected an object")
    same_keys(where, set(given), set(fields))
    for name, kinds in fields.items():
        if not isinstance(given[name], kinds) or (isinstance(given[name], bool) and kinds is not bool):
            raise ModelFormatError(f"{where}: {name} is {short(given[name])}, of the wrong type")


def restore(estimator: Any, fitted: Header, arrays: Arrays, classifies: bool) -> None:
    """What `fitted_of` has said, into an estimator that has its parameters. ModelFormatError names what cannot be."""
    check_fields("fitted", fitted, FITTED)
    given = dict(arrays)
    curves = {name: _curve(given.pop(f"curve.{name}"), name) for name in CURVES if f"curve.{name}" in given}
    history = _history(fitted["history"], given.pop("history", None))
    best = {name.removeprefix("best."): given.pop(name) for name in list(given) if name.startswith("best.")}
    slots = {name: given.pop(name) for name in list(given) if name.startswith("slot.")}
    layout = _layout_from_config(fitted["layout"])
    numbers = _numbers(fitted["numbers"], curves)
    if not 0.0 < fitted["rate"] <= sys.float_info.max:
        raise ModelFormatError(f"fitted: rate is {short(fitted['rate'])}, expected a finite number > 0")
    model = _network(fitted, layout, given)
    outputs, loss = model.plan.outputs, model.loss
    assert loss is not None
    labels = _labels(fitted["labels"], loss, outputs, classifies)
    kept = _best(fitted["best"], best, model)
    _restore_optimizer(fitted["optimizer"], slots, model.state)
    names = checked_names(fitted["feature_names"], fitted["inputs"])
    try:
        seed = _validate.seed(fitted["seed"])
    except (TypeError, ValueError) as error:
        raise ModelFormatError(str(error)) from None
    attach(estimator, model, layout, seed)
    estimator._trainer.history.epochs.update(history)
    estimator.n_features_in_ = model.plan.inputs
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    if labels is None:
        estimator._outputs = outputs
    else:
        estimator._labels, estimator.classes_ = labels, labels.classes
    estimator._rate = float(fitted["rate"])
    estimator.__dict__.update(numbers | curves)
    if curves:
        estimator._best = kept
    elif kept is not None:
        raise ModelFormatError(f"fitted: best is {short(fitted['best'])}, expected null where there are no epochs")


def _network(fitted: Header, layout: Layout, tensors: Arrays) -> Sequential:
    try:
        outputs = _validate.integer("fitted: outputs", fitted["outputs"])
        layers = layout.layers(outputs)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"layout: {error}") from None
    try:
        model = Sequential(layers, dtype=fitted["dtype"])
        model.loss = loss_from_config(fitted["loss"])
    except ModelFormatError:
        raise
    except (TypeError, ValueError) as error:
        raise ModelFormatError(str(error)) from None
    restore_state(model, fitted["inputs"], tensors)
    return model


def _layout_from_config(config: Any) -> Layout:
    check_fields("layout", config, _LAYOUT)
    activations = decoded(config["activations"], "layout.activations")
    try:
        hidden = [_validate.integer("layout.hidden", units) for units in config["hidden"]]
        layout = Layout.of(hidden, activations, config["dropout"], config["batch_norm"])
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"layout: {error}") from None
    return layout


def _labels(config: Any, loss: Loss, outputs: int, classifies: bool) -> Labels | None:
    if classifies:
        return classes.from_config(config, loss, outputs)
    if config is not None or loss.pointwise is None:
        raise ModelFormatError(f"the loss is {loss}, expected one of values and no labels for a regressor")
    return None


def _curve(values: Array, name: str) -> list[float]:
    if values.ndim != 1 or values.dtype.newbyteorder("=") != np.float64:
        raise ModelFormatError(f"curve.{name} is {values.dtype} {values.shape}, expected float64 of one dimension")
    made: list[float] = values.tolist()
    return made


def _history(names: list[Any], values: Array | None) -> dict[str, list[float]]:
    if not names and values is None:
        return {}
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ModelFormatError(f"history is {short(names)}, expected names of quantities")
    right = values is not None and values.ndim == 2 and values.dtype.newbyteorder("=") == np.float64
    if values is None or not right or len(values) != len(names) or not names:
        raise ModelFormatError(f"history does not have a row of float64 for each of {short(names)}")
    return dict(zip(names, values.tolist(), strict=True))


def _numbers(config: Header, curves: dict[str, list[float]]) -> dict[str, Any]:
    expected = {*ALWAYS, *OF_EPOCHS} - curves.keys() if "loss_curve_" in curves else {*ALWAYS}
    if curves and "loss_curve_" not in curves:
        raise ModelFormatError(f"there is no curve.loss_curve_, expected one beside {', '.join(sorted(curves))}")
    same_keys("numbers", set(config), expected if "loss_" in config else expected - {"loss_"})
    made = {name: decoded(value, f"numbers.{name}") for name, value in config.items()}
    for name, value in made.items():
        if name == "validation_scores_" or (value is None and name in _NONE):
            right = value is None
        elif name in COUNTS:
            right = type(value) is int and 0 <= value < _MOST_STEPS
        else:
            right = type(value) is float
        if not right:
            raise ModelFormatError(f"numbers.{name} is {short(value)}, of the wrong type")
    return made


def _best(said: Any, given: Arrays, model: Sequential) -> Snapshot | None:
    """The best epoch's parameters, as a snapshot of a state of the same plan."""
    if said is None or said == "network":
        same_keys("the best epoch", set(given), set())
        return None if said is None else Snapshot(slots=False).take(model.state)
    if said != "arrays":
        raise ModelFormatError(f"fitted: best is {short(said)}, expected null, 'network' or 'arrays'")
    return Snapshot(slots=False).take(state_of(model.plan, given))


def _restore_optimizer(config: Any, slots: Arrays, state: State) -> None:
    if config is None:
        same_keys("the optimizer", set(slots), set())
        return
    check_fields("optimizer", config, {"rule": (str, type(None)), "step": int})
    same_keys("the optimizer", set(slots), {f"slot.{index}" for index in range(min(len(slots), _MOST_SLOTS))})
    if not 0 <= config["step"] < _MOST_STEPS:
        raise ModelFormatError(f"optimizer: step is {short(config['step'])}, expected 0 or more")
    expected = state.parameters
    made = []
    for index in range(len(slots)):
        slot = slots[f"slot.{index}"]
        if slot.shape != expected.shape or slot.dtype.newbyteorder("=") != expected.dtype:
            raise ModelFormatError(f"slot.{index} is {slot.dtype} {slot.shape}, expected {expected.dtype}")
        made.append(aligned(len(expected), expected.dtype))
        made[-1][...] = slot
    state.slots, state.rule, state.step = tuple(made), config["rule"], config["step"]
