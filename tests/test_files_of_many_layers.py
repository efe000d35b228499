"""Files with more layers than anybody's network: refused before these are made, in the memory that files have."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import MLPRegressor, Sequential, files, nn
from fastnn.errors import ModelFormatError
from fastnn.nn.serialize import MOST_LAYERS


def refused(path, match):
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match=match):
            fastnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + (16 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [43_000, MOST_LAYERS + 1])
@pytest.mark.parametrize("nested", [False, True], ids=["beside", "within"])
def test_a_model_of_many_layers(count, nested, tmp_path):
    Sequential([nn.Softmax()]).save(tmp_path / "m")
    header, arrays = files.read(tmp_path / "m")
    layers = [{"kind": "Softmax"}] * count
    header["layers"] = [{"kind": "Residual", "layers": layers, "shortcut": None}] if nested else layers
    files.write(tmp_path / "m", header, arrays)
    refused(tmp_path / "m", rf"the model has {count + nested:,} layers, expected at most {MOST_LAYERS:,} in a file$")


def test_as_many_as_a_file_may_have(tmp_path):
    model = Sequential([nn.Softmax() for _ in range(MOST_LAYERS)])
    model.save(tmp_path / "m")
    assert len(fastnn.load(tmp_path / "m").layers) == MOST_LAYERS
    more = Sequential([nn.Softmax() for _ in range(MOST_LAYERS + 1)])
    with pytest.raises(ValueError, match=r"^the model has .* layers, expected at most"):
        more.save(tmp_path / "m")
    assert len(fastnn.load(tmp_path / "m").layers) == MOST_LAYERS


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("where", ["layout", "parameters", "a tuple", "activations"])
def test_an_estimator_of_many_layers(where, tmp_path):
    model = MLPRegressor(hidden_layer_sizes=(1,), activation=[nn.PReLU()], max_iter=1)
    model.fit(np.eye(4), np.arange(4.0)).save(tmp_path / "m")
    header, arrays = files.read(tmp_path / "m")
    parameters, layout = header["parameters"], header["fitted"]["layout"]
    match = r"the estimator has 20,000 hidden layers, expected at most"
    if where == "layout":
        layout |= {"hidden": [1] * 20_000, "dropout": [0.0] * 20_000}
    elif where == "activations":
        layout["activations"] *= 10_000
        match = r"the estimator has 10,001 layers, expected at most"
    else:
        sizes = parameters["hidden_layer_sizes"]
        made = [1] * 20_000
        parameters["hidden_layer_sizes"] = made if where == "parameters" else dict.fromkeys(sizes, made)
    files.write(tmp_path / "m", header, arrays)
    refused(tmp_path / "m", match)


def test_an_estimator_of_many_layers_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=re.escape("the estimator has 2,000 hidden layers, expected at most")):
        MLPRegressor(hidden_layer_sizes=(1,) * 2000).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()
