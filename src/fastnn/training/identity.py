"""What two fits must share for one to go on where the other stopped, and in which words they differ. Reads no files.

An identity is compared: text and digests by name. What it says in words, also by name, is for people alone.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastnn import _sparse
from fastnn.data import Data
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.formulas.own import fingerprint
from fastnn.formulas.rules import Rule
from fastnn.nn.layers import Layer
from fastnn.plan import Op, Plan
from fastnn.training import digests
from fastnn.training.batches import InMemory, Stream
from fastnn.training.run import Run
from fastnn.training.validation import ValidationBatches

Array = np.ndarray
Texts = Mapping[str, str]
_DIGESTS = ("X", "y", "sample_weight", "validation")


# Compared -------------------------------------------------------------------------------------------------------


def identity(run: Run, plan: Plan) -> dict[str, str]:
    """Settings, operations and digests of the data."""
    objective, source = run.objective, run.source
    shared = {
        "loss": repr((objective.loss.name, objective.loss.numbers)) + _own(objective.loss),
        "optimizer": _settings(objective.optimizer) + _own(objective.optimizer.rule),
        "schedule": repr(run.schedule),
        "clip_norm": repr(objective.clip_norm),
        "clip_value": repr(objective.clip_value),
        "metrics": ", ".join(run.trainer.named),
        "dtype": str(plan.dtype),
        "inputs": str(plan.inputs),
        "layers": str(len(plan.ops)),
        **{f"layer {index}": _operation(op) for index, op in enumerate(plan.ops)},
    }
    if isinstance(source, Stream):
        return shared
    data, digest = source.data, partial(digests.digest, threads=run.trainer.threads)
    shared |= {"batch_size": str(source.batch), "shuffle": str(source.shuffle)}
    shared |= {"X": digest(data.x), "y": digest(data.y), "sample_weight": digest(data.weight)}
    shared["validation"] = digest(source.among)
    if run.held_out is not None:
        shared["validation"] += _measured_on(run.held_out, digest)
    if run.validation_freq > 1:
        shared["validation"] += f" every {run.validation_freq}"
    return shared


def _measured_on(held_out: Data | ValidationBatches, digest: Callable[[Any], str]) -> str:
    """Digests of the rows; of batches nothing is known before they come."""
    if isinstance(held_out, ValidationBatches):
        return "batches"
    return digest(held_out.x) + digest(held_out.y) + digest(held_out.weight)


def _settings(optimizer: Any) -> str:
    """All of them, defaults too: these may be others in another version."""
    named = (f"{item.name}={getattr(optimizer, item.name)!r}" for item in dataclasses.fields(optimizer) if item.repr)
    return f"{type(optimizer).__qualname__}({', '.join(named)})"


def _own(formula: Loss | Rule) -> str:
    """A digest of a loss or a rule that is not the built-in one of its name."""
    if formula.built_in:
        return ""
    digest = fingerprint(formula.formula) if isinstance(formula, Rule) else formula.fingerprint
    return f" with formula {digest} of its own"


def _operation(op: Op) -> str:
    tensors = [(each.name.rpartition(".")[2], each.shape, each.penalty) for each in op.tensors.values()]
    outputs = op.outputs[0] if len(op.outputs) == 1 else op.outputs
    fixed = [each.name for each in op.operation.spec.param_fields if not op.tensors[each.name].trainable]
    said = f"{op.kind} {outputs} {op.activation} {dict(op.settings)} {tensors}"
    return f"{said} without {', '.join(fixed)}" if fixed else said


def differs(here: Texts, there: Texts) -> str | None:
    """What two identities differ in first, by name; whether X is in memory comes before what that has settings for."""
    if ("X" in here) != ("X" in there):
        return "X"
    return next((name for name in dict.fromkeys([*here, *there]) if here.get(name) != there.get(name)), None)


# In words -------------------------------------------------------------------------------------------------------


def described(run: Run) -> dict[str, str]:
    """What an identity has as digests, or longer than needed; and each layer by the path to it."""
    objective = run.objective
    words = {"loss": _loss(objective.loss), "metrics": f"[{', '.join(run.trainer.named)}]"}
    optimizer = _changed(objective.optimizer, "lr") + _own(objective.optimizer.rule)
    words |= {"optimizer": optimizer, "schedule": _changed(run.schedule)}
    for name in ("clip_norm", "clip_value"):
        bound = getattr(objective, name)
        words[name] = repr(bound) if np.isfinite(bound) else "None"
    words |= _data(run.source, run.held_out)
    if run.validation_freq > 1 and "validation" in words:
        words["validation"] += f" every {run.validation_freq} epochs"
    for layer in run.model.layers:
        words |= {path: _layer(part) for path, part in layer.parts(f"layers[{layer.index}]")}
    return words


def _loss(loss: Loss) -> str:
    known = LOSSES.get(loss.name)
    usual = known is not None and known.numbers == loss.numbers
    return (loss.name if usual else f"{loss.name}({loss.numbers!r})") + _own(loss)


def _changed(settings: Any, *always: str) -> str:
    """A dataclass's repr without what is as the defaults have it."""
    if not dataclasses.is_dataclass(settings):
        return repr(settings)
    items = [item for item in dataclasses.fields(settings) if item.repr]
    values = {item.name: (getattr(settings, item.name), item.default) for item in items}
    shown = {name: value for name, (value, default) in values.items() if name in always or value != default}
    return f"{type(settings).__name__}({', '.join(f'{name}={_changed(value)}' for name, value in shown.items())})"


def _data(source: InMemory | Stream, held_out: Data | ValidationBatches | None) -> dict[str, str]:
    if isinstance(source, Stream):
        return {"X": "an iterable of batches"}
    data, own = source.data, source.measured.weight
    by_class = " with class_weight" if data is not source.measured and data.weight is not own else ""
    if isinstance(held_out, ValidationBatches):
        validation = "an iterable of batches"
    elif held_out is None:
        validation = "None"
    elif source.divided:
        validation = f"a fraction of {len(held_out)} rows"
    else:
        validation = f"{_array(held_out.x)} with y {_array(held_out.y)}"
    return {
        "X": _array(data.x),
        "y": _array(data.y),
        "sample_weight": f"{_array(own)}{by_class}",
        "validation": validation,
    }


def _array(array: Any) -> str:
    if array is None:
        return "None"
    return f"{'sparse ' if _sparse.is_sparse(array) else ''}{array.dtype} {array.shape}"


def _layer(layer: Layer) -> str:
    """Its repr without what does not matter to a built model. What is within it has a place of its own."""
    if layer.chains():
        return type(layer).__name__
    plain = copy.copy(layer)
    for name in layer.DISPENSABLE:
        setattr(plain, name, None)
    return repr(plain)


def in_words(name: str, here: tuple[Texts, Texts], there: tuple[Texts, Texts]) -> str:
    """That one fit has something else by this name than the other, both being (identity, described): a sentence which
    ends in "what the other was saved with"."""
    if not there[1]:  # saved before there were words
        here = here[0], {}
    missing = "None"
    if name == "optimizer":
        apart = _apart(here[0].get(name, ""), there[0].get(name, ""))
        if apart is not None:
            return f"optimizer is {apart[0]}, but {apart[1]} is"
    if name.startswith("layer"):
        missing = "no layer"
        paths = [path for path in dict.fromkeys([*here[1], *there[1]]) if path.startswith("layers[")]
        name = next((path for path in paths if here[1].get(path) != there[1].get(path)), name)
    mine, other = (words.get(name, shared.get(name, missing)) for shared, words in (here, there))
    if name in _DIGESTS and not digests.comparable(here[0].get(name, ""), there[0].get(name, "")):
        return f"{name} is over 256 MB: all its rows are compared now, but only some are known of"
    if name in _DIGESTS and (mine == other or not there[1]):
        return f"{name} has other values than"
    return f"{name} is {mine}, but {other} is"


def _apart(here: str, there: str) -> tuple[str, str] | None:
    """Of two texts "Adam(lr=0.1, beta1=0.9)" of one class those settings that differ; None of two classes."""
    parts = [re.fullmatch(r"(\w+)\(([^()]*)\)", text) for text in (here, there)]
    if parts[0] is None or parts[1] is None or parts[0][1] != parts[1][1]:
        return None
    mine, other = (part[2].split(", ") for part in parts if part is not None)
    if len(mine) != len(other):
        return None
    pairs = [pair for pair in zip(mine, other, strict=True) if pair[0] != pair[1]]
    said = [f"{parts[0][1]}({', '.join(side)})" for side in zip(*pairs, strict=True)]
    return said[0], said[1]
