"""What a model says of the table it learned from: in its metadata, under "table", for whoever predicts with it."""

from __future__ import annotations

from dataclasses import dataclass

from fastnn import _validate
from fastnn.errors import ModelFormatError
from fastnn.nn.model import Sequential
from fastnn.tabular.targets import Scalar


@dataclass(frozen=True)
class Description:
    """What a model's metadata say of the table it learned from."""

    task: str
    target: str
    features: list[str]
    classes: list[Scalar] | None = None
    mean: float = 0.0  # of the target: prediction = mean + scale * output
    scale: float = 1.0

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
        if not named or not isinstance(self.target, str) or not model.built or len(self.features) != model.plan.inputs:
            raise ModelFormatError("metadata['table'] has features or a target that are not the model's")
        if outputs != model.plan.outputs or (self.task == "classification") != (self.classes is not None):
            raise ModelFormatError("metadata['table'] has a task or classes that are not the model's")
        try:
            _validate.number("mean", self.mean)
            _validate.number("scale", self.scale, low=0.0, open_low=True)
        except (TypeError, ValueError) as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None
