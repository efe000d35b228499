"""What a model says of the table it learned from: in its metadata, under "table", for whoever predicts with it."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

from fastnn import _validate
from fastnn.errors import ModelFormatError
from fastnn.nn.model import Sequential
from fastnn.nn.target_scale import TargetScale
from fastnn.tabular.encoding import Encoding
from fastnn.tabular.targets import Scalar


@dataclass(frozen=True)
class Description:
    """What a model's metadata say of the table it learned from. features: its columns; see `Encoding` for what
    becomes of those in categories and fill."""

    task: str
    target: str
    features: list[str]
    classes: list[Scalar] | None = None
    mean: float = 0.0  # of the target: prediction = mean + scale * output
    scale: float = 1.0
    categories: dict[str, list[str | None]] = field(default_factory=dict)
    fill: dict[str, float] = field(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        return Encoding(self.categories, self.fill)

    def in_own_unit(self, model: Sequential) -> Sequential:
        """A copy of the model with predictions and scores in the target's own unit; of classes the model itself."""
        if self.classes is not None:
            return model
        made = copy.copy(model)
        made.target_scale = TargetScale((float(self.mean),), float(self.scale))
        return made

    def encoded_columns(self) -> list[str]:
        """What becomes of columns before the network sees them, a sentence each: for who has the network alone."""
        said = [
            f"{column!r} is {len(values)} inputs, 1 for its value and 0 for the others: {', '.join(map(_said, values))}"
            for column, values in self.categories.items()
        ]
        return said + [f"{column!r}: {value:g} where it is missing" for column, value in self.fill.items()]

    def kept(self) -> dict[str, Any]:
        """What goes into the metadata: of an encoding only what there is."""
        return {name: value for name, value in asdict(self).items() if name not in ("categories", "fill") or value}

    @classmethod
    def of(cls, model: Sequential) -> Description:
        """That of a loaded model. ValueError where it has none, ModelFormatError where it does not fit the model."""
        kept = model.metadata.get("table")
        if kept is None:
            raise ValueError("the model has no description of a table, expected one that `fastnn train` made")
        try:
            made = cls(**kept)
        except TypeError as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None
        made._check(model)
        return made

    def _check(self, model: Sequential) -> None:
        outputs = 1 if self.classes is None else len(self.classes) if isinstance(self.classes, list) else -1
        named = isinstance(self.features, list) and all(isinstance(name, str) for name in self.features)
        if not named or not isinstance(self.target, str) or not model.built:
            raise ModelFormatError("metadata['table'] has features or a target that are not the model's")
        self._check_encoding()
        if len(self.encoding.inputs(self.features)) != model.plan.inputs:
            raise ModelFormatError("metadata['table'] has features or a target that are not the model's")
        if outputs != model.plan.outputs or (self.task == "classification") != (self.classes is not None):
            raise ModelFormatError("metadata['table'] has a task or classes that are not the model's")
        try:
            _validate.number("mean", self.mean)
            _validate.number("scale", self.scale, low=0.0, open_low=True)
        except (TypeError, ValueError) as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None

    def _check_encoding(self) -> None:
        for name, kept in (("categories", self.categories), ("fill", self.fill)):
            if not isinstance(kept, dict) or not set(kept) <= set(self.features):
                raise ModelFormatError(f"metadata['table'] has {name} that are not of its features")
        for values in self.categories.values():
            texts = isinstance(values, list) and all(value is None or isinstance(value, str) for value in values)
            if not texts or len(set(values)) < len(values):
                raise ModelFormatError("metadata['table'] has categories that are not different texts")
        try:
            for column, value in self.fill.items():
                _validate.number(f"fill of {column!r}", value)
        except (TypeError, ValueError) as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None


def _said(category: str | None) -> str:
    return "missing" if category is None else category
