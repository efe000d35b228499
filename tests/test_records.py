"""Arrays whose dtype has names are no numbers, also where a record has one field: X, y and weights, by name."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import MLPClassifier, MLPRegressor, Sequential, Trainer, nn

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
GIVEN = {"X": X, "y": Y, "sample_weight": np.ones(ROWS)}


def as_records(array, fields=1):
    dtype = [(f"f{i}", array.dtype) for i in range(fields)]
    records = np.zeros(array.shape, dtype)
    records["f0"] = array
    return records


def trained(**given):
    Trainer(Sequential([nn.Dense(2)]), "cross_entropy", seed=0).fit(**given, epochs=1, verbose=False)


def estimated(make, **given):
    make(max_iter=1).fit(given["X"], given["y"], given["sample_weight"])


FITS = {
    "Trainer": trained,
    "MLPClassifier": lambda **given: estimated(MLPClassifier, **given),
    "MLPRegressor": lambda **given: estimated(MLPRegressor, **given),
}


@pytest.mark.parametrize("fields", [1, 2])
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("fit", FITS)
def test_records_are_refused_by_name(fit, name, fields):
    said = rf"^{name} has records with the fields f0.*, expected numbers: those of \['f0'\]$"
    with pytest.raises(TypeError, match=said):
        FITS[fit](**GIVEN | {name: as_records(GIVEN[name], fields)})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_records_to_predict():
    records = as_records(X)
    model = Sequential([nn.Dense(2)]).build(4, seed=0)
    for predict in (model.predict, model.predictor(), MLPClassifier(max_iter=1).fit(X, Y).predict):
        with pytest.raises(TypeError, match=r"^[Xx] has records with the fields f0, expected numbers"):
            predict(records)
    estimator = MLPClassifier(max_iter=1)
    with pytest.raises(TypeError, match=r"^X has records"):
        estimator.fit(X, Y, eval_X=records, eval_y=Y)
    with pytest.raises(TypeError, match=r"has dtype .*, expected numbers$"):
        model.predict(list(as_records(X[:, 0]).reshape(-1, 1)))
