"""What is in a file that `save` wrote: a model or an estimator. Knows who reads which; reads neither itself."""

from __future__ import annotations

import os
from typing import Any

from fastnn import files
from fastnn.nn import reading
from fastnn.nn.serialize import ESTIMATOR


def load(path: str | os.PathLike[str]) -> Any:
    """What `save` put into the file `path`: a Sequential, an MLPClassifier, an MLPRegressor, to the bit.

    Nothing in the file is executed. OSError where it cannot be read; ModelFormatError where it is not such a file, is
    damaged, or says what cannot be: an unknown layer, a number out of range, tensors that are not those of the layers.
    ImportError where it has an estimator and scikit-learn is missing.

    >>> import tempfile
    >>> model = fastnn.Sequential([nn.Dense(2, activation="relu")]).build(3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model", metadata={"unit": "m"})
    ...     again = fastnn.load(f"{folder}/model")
    >>> again.metadata, np.array_equal(again.predict(np.eye(3)), model.predict(np.eye(3)))
    ({'unit': 'm'}, True)
    """
    header, arrays = files.read(path, views=True)
    with reading.naming(path):
        if header.get("format") != ESTIMATOR:
            return reading.assembled(header, arrays)
        from fastnn.estimators.reading import assembled  # with scikit-learn, which takes a second

        return assembled(header, arrays)
