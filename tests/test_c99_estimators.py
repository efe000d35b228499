"""Estimators in C: the test that to_c writes beside the network passes, and classes have their names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from common import features

pytest.importorskip("sklearn")
from sklearn.exceptions import NotFittedError

from fastnn import MLPClassifier, MLPRegressor

X = features(60, 5)
K = np.random.default_rng(0).integers(0, 3, len(X))
MODELS = {
    "text": (MLPClassifier, np.array(["a", "bb", 'c "é"'])[K], {}),
    "bools": (MLPClassifier, K > 0, {}),
    "labels": (MLPClassifier, np.stack([K > 0, K == 1, K == 0], axis=1).astype(int), {}),
    "hinge": (MLPClassifier, K, {"loss": "hinge"}),
    "value": (MLPRegressor, X[:, 0] * X[:, 1], {}),
    "values of poisson": (MLPRegressor, np.exp(X[:, :2]), {"loss": "poisson"}),
    "layers": (MLPClassifier, K, {"batch_norm": True, "activation": "gelu", "dropout": 0.1}),
}


def fitted(kind, y, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = dict(hidden_layer_sizes=(8,), max_iter=20, random_state=0, dtype="float32") | settings
        return kind(**settings).fit(X, y)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize(("kind", "y", "settings"), MODELS.values(), ids=MODELS)
def test_its_own_test_passes(kind, y, settings, tmp_path):
    model = fitted(kind, y, **settings)
    model.to_c(tmp_path / "net.c", name="net", rows=X)
    build = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "net.c", "net_test.c", "-o", "net_test"]
    subprocess.run(build, cwd=tmp_path, check=True, timeout=120)
    assert subprocess.run([tmp_path / "net_test"], check=False, timeout=60).returncode == 0
    expected = model.predict_proba(X) if kind is MLPClassifier and not settings.get("loss") else None
    test = (tmp_path / "net_test.c").read_text(encoding="utf-8")
    assert ("net_chances[" in test) == (expected is not None)


@pytest.mark.parametrize(
    ("name", "names"), [("text", ["a", "bb"]), ("bools", ["False", "True"]), ("hinge", ["0", "2"])]
)
def test_names_of_classes(name, names, tmp_path):
    kind, y, settings = MODELS[name]
    fitted(kind, y, **settings).to_c(tmp_path / "model.c")
    (listed,) = re.findall(r"model_classes\[\d\] = \{(.*?)\};", (tmp_path / "model.c").read_text("utf-8"), re.DOTALL)
    assert all(f'"{each}"' in listed for each in names)


def test_what_is_refused_leaves_no_file(tmp_path):
    for model, error, message in (
        (MLPClassifier(), NotFittedError, "not fitted"),
        (fitted(MLPClassifier, K, dtype="float64"), ValueError, "computes in float64, expected float32"),
        (fitted(MLPClassifier, np.stack([K, K + 1], axis=1)), ValueError, "2 columns of classes"),
    ):
        with pytest.raises(error, match=message):
            model.to_c(tmp_path / "model.c")
    assert os.listdir(tmp_path) == []
