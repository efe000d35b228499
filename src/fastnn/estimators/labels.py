"""Labels: classes to the targets a loss takes, logits back to classes and probabilities. Trains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit, log_expit
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import type_of_target, unique_labels

from fastnn import backends
from fastnn._text import short
from fastnn.estimators.class_weights import class_weights
from fastnn.formulas import losses
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.metrics import link, log_shares, shares

Array = np.ndarray
ONE_OF_TWO, ONE, ANY, SEVERAL = "binary", "multiclass", "multilabel-indicator", "multiclass-multioutput"
LOSS_NAMES = ("log_loss", "cross_entropy", "binary_cross_entropy", "hinge")


def kind_of(y: Any) -> str:
    """scikit-learn's type of target; but columns of two classes are labels where these are 0 and 1 alone."""
    kind: str = type_of_target(y, input_name="y")
    if kind == ANY and not sparse.issparse(y) and not np.isin(np.asarray(y), (0, 1)).all():
        return SEVERAL
    return kind


class Labels:
    """What the classes of a classifier are, learned from a y.

    kind: one of two classes, one of several, any of several (multi-label), or one of several in each of several columns
    (SEVERAL: multi-class multi-output). classes: (K,) the classes, their numbers for ANY; for SEVERAL a list, one array
    a column.

    ValueError, scikit-learn's own, where y has no classes.
    """

    def __init__(self, y: Any) -> None:
        self.kind: str = kind_of(y)
        self.sparse = sparse.issparse(y)
        self.classes: Any
        if self.kind == SEVERAL:
            self.classes = [np.unique(column) for column in np.asarray(y).T]
        elif self.kind in (ONE_OF_TWO, ONE) and np.asarray(y).dtype.kind in "biuUS":
            self.classes = np.unique(y)  # what a LabelBinarizer finds, which asks for the kind twice more: 0.5 ms each
        else:
            binarizer = LabelBinarizer().fit(y)  # for its checks and messages
            self.kind, self.classes = binarizer.y_type_, binarizer.classes_

    @classmethod
    def of_columns(cls, classes: Any) -> Labels:
        """SEVERAL, with the classes of each column."""
        labels = cls.__new__(cls)
        labels.kind, labels.sparse, labels.classes = SEVERAL, False, [np.unique(column) for column in classes]
        return labels

    @property
    def columns(self) -> list[Array]:
        """The classes of each column of y; one column but for SEVERAL."""
        return self.classes if self.kind == SEVERAL else [self.classes]

    def loss(self, wanted: str | Loss, smoothing: float) -> Loss:
        """The loss for these classes. ValueError where it is one for others, or for values."""
        name = wanted.name if isinstance(wanted, Loss) else wanted
        if name == "log_loss":
            name = "cross_entropy" if self.kind == ONE else "binary_cross_entropy"
        if name not in LOSS_NAMES:
            raise ValueError(f"loss is {name}, expected a loss of classes: {', '.join(LOSS_NAMES)}")
        if name in ("cross_entropy", "hinge") and self.kind not in (ONE_OF_TWO, ONE):
            raise ValueError(f"loss is {name}, but y is {self.kind}: expected log_loss or binary_cross_entropy")
        if smoothing == 0.0:
            return wanted if isinstance(wanted, Loss) else LOSSES[name]
        if name == "hinge" or (isinstance(wanted, Loss) and wanted.parameter > 0):
            why = "hinge has none" if name == "hinge" else f"the loss has its own, {wanted.parameter:g}"  # type: ignore[union-attr]
            raise ValueError(f"label_smoothing is {smoothing:g}, but {why}")
        make = losses.CrossEntropy if name == "cross_entropy" else losses.BinaryCrossEntropy
        return make(smoothing)

    def outputs(self, loss: Loss) -> int:
        """How many the network needs."""
        if self.kind == ONE_OF_TWO:
            return 1 if loss.link == "sigmoid" else 2
        if self.kind == SEVERAL:
            return sum(map(_units, self.classes))
        return len(self.classes)

    # y -> targets -----------------------------------------------------------------------------------------

    def unknown(self, y: Any) -> bool:
        """Whether y has classes that are not among these."""
        if self.kind == SEVERAL:
            columns = np.asarray(y).T
            if len(columns) != len(self.classes):
                raise ValueError(f"y has {len(columns)} columns, but this model was fitted with {len(self.classes)}")
            return any(not np.isin(column, known).all() for column, known in zip(columns, self.classes, strict=True))
        return bool(len(np.setdiff1d(unique_labels(y), self.classes, assume_unique=True)))

    def encode(self, y: Any, loss: Loss, dtype: np.dtype) -> Array:
        """y, whose classes are known, as the Trainer takes it: labels (n,) or zeros and ones (n, O)."""
        if self.kind == ANY:
            dense: Array = y.toarray() if sparse.issparse(y) else np.asarray(y)
            if dense.ndim != 2 or dense.shape[1] != len(self.classes):
                raise ValueError(
                    f"y has shape {dense.shape}, but this model was fitted with {len(self.classes)} labels"
                )
            return (dense > 0).astype(dtype)
        columns = np.asarray(y).T if self.kind == SEVERAL else [np.asarray(y)]
        numbers = [np.searchsorted(known, column) for known, column in zip(self.columns, columns, strict=True)]
        if loss.link != "sigmoid":
            chosen: Array = numbers[0].astype(np.int64)
            return chosen
        hot = [_one_hot(column, _units(known), dtype) for column, known in zip(numbers, self.columns, strict=True)]
        return np.concatenate(hot, axis=1)

    def class_weights(self, class_weight: Any, y: Any, sample_weight: Array | None) -> Array:
        """The weights (n, O) of the outputs for ANY and SEVERAL: the classes of each column are weighted by themselves.

        class_weight: "balanced", or a list of dicts, one a column. ValueError otherwise.
        """
        dense = y.toarray() if sparse.issparse(y) else np.asarray(y)
        columns = ((dense > 0).astype(np.int64) if self.kind == ANY else dense).T
        each = [class_weight] * len(columns) if isinstance(class_weight, str) else class_weight
        if not isinstance(each, list) or len(each) != len(columns):
            raise ValueError(
                f"class_weight is {short(class_weight)}, expected 'balanced' or a list of {len(columns)} dicts, "
                f"one for each column of y"
            )
        names = ["class_weight" if isinstance(class_weight, str) else f"class_weight[{k}]" for k in range(len(each))]
        given = zip(each, columns, names, strict=True)
        weights = [class_weights(one, column, sample_weight, name) for one, column, name in given]
        units = [1] * len(columns) if self.kind == ANY else [_units(known) for known in self.classes]
        return np.repeat(np.stack(weights, axis=1), units, axis=1)

    # logits -> predictions --------------------------------------------------------------------------------

    def decide(self, z: Array) -> Any:
        """The classes (n,), (n, k) of 0 and 1 for ANY, a class in each column for SEVERAL."""
        if self.kind == ANY:
            positive = (z > 0).astype(np.int64)
            return sparse.csr_matrix(positive) if self.sparse else positive
        chosen = [known[_largest(part, len(known))] for known, part in zip(self.columns, self._parts(z), strict=True)]
        return np.stack(chosen, axis=1) if self.kind == SEVERAL else chosen[0]

    def probabilities(self, z: Array, loss: Loss) -> Any:
        """(n, K) in float64, whose rows sum to 1 but for ANY; a list of them for SEVERAL. One class has 1."""
        z = z.astype(np.float64)
        if loss.link == "softmax":
            return link(loss, self._of_one(z), backends.resolve().kernels.ops)
        if self.kind == ANY:
            return np.clip(expit(z), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))  # no label is certain
        columns = zip(self._parts(z), self.columns, strict=True)
        parts = [_shares(part) if len(known) > 1 else np.ones((len(z), 1)) for part, known in columns]
        return parts if self.kind == SEVERAL else parts[0]

    def log_probabilities(self, z: Array, loss: Loss) -> Any:
        """The logarithms of `probabilities` from the logits: finite where a probability rounds to 0."""
        z = z.astype(np.float64)
        if loss.link == "softmax":
            return log_shares(self._of_one(z))
        if self.kind == ANY:
            return log_expit(z)
        columns = zip(self._parts(z), self.columns, strict=True)
        parts = [_log_shares(part) if len(known) > 1 else np.zeros((len(z), 1)) for part, known in columns]
        return parts if self.kind == SEVERAL else parts[0]

    def _of_one(self, z: Array) -> Array:
        """The logits of the classes there are: one where all rows were of one, though a softmax learns two."""
        return z[:, :1].copy() if len(self.classes) == 1 else z

    def _parts(self, z: Array) -> list[Array]:
        """The logits of each column."""
        if self.kind != SEVERAL:
            return [z]
        return np.split(z, np.cumsum([_units(known) for known in self.classes])[:-1], axis=1)


def _units(classes: Array) -> int:
    """Sigmoids that tell these classes apart: one for two."""
    return len(classes) if len(classes) > 2 else 1


def _one_hot(numbers: Array, units: int, dtype: np.dtype) -> Array:
    if units == 1:
        return numbers.reshape(-1, 1).astype(dtype)
    hot = np.zeros((len(numbers), units), dtype)
    hot[np.arange(len(numbers)), numbers] = 1.0
    return hot


def _largest(z: Array, classes: int) -> Array:
    """The number of the class of each row."""
    if classes == 1:  # all rows were of it, of a loss of two
        return np.zeros(len(z), np.intp)
    largest: Array = z.argmax(axis=1) if z.shape[1] > 1 else (z[:, 0] > 0).astype(np.intp)
    return largest


def _shares(z: Array) -> Array:
    """Sigmoids as probabilities of one class each: those of -z and z, or each one's share of their sum."""
    if z.shape[1] == 1:
        both: Array = expit(np.concatenate([-z, z], axis=1))  # 1 - p would have no digit left from z = 37 on
        return both
    return shares(log_expit(z))  # from logarithms: the sum of the sigmoids may underflow


def _log_shares(z: Array) -> Array:
    """The logarithms of `_shares`."""
    if z.shape[1] == 1:
        both: Array = log_expit(np.concatenate([-z, z], axis=1))
        return both
    return log_shares(log_expit(z))
