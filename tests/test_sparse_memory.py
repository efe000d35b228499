"""What sparse rows take while something is fitted on them: the peak of a process of its own, in MB."""

from __future__ import annotations

import subprocess
import sys

import pytest
from common import AUTOMATIC

pytest.importorskip("scipy")
pytest.importorskip("resource")

PROGRAM = """
import resource, warnings
import numpy as np, scipy.sparse as sp
import fastnn
from fastnn import MLPClassifier, Sequential, Trainer, nn
warnings.simplefilter("ignore")
r = np.random.default_rng(0)
X = sp.csr_matrix((np.ones(50_000), r.integers(0, 50_000, 50_000), np.arange(0, 50_001, 50)), shape=(1000, 50_000))
y = np.arange(1000) % 2
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
MLPClassifier((2,), solver="lbfgs", max_iter=1).fit(X[:10, :100], y[:10])  # what is imported by then
before = peak()
{}
print(peak() - before)
"""
WAYS = {
    "lbfgs": "MLPClassifier((2,), solver='lbfgs', max_iter=1, max_fun=1).fit(X, y)",
    "find_lr": "Trainer(Sequential([nn.Dense(2)]), 'cross_entropy', seed=0).find_lr(X, y, steps=40)",
    "predict": "Sequential([nn.Dense(2)]).build(50_000, seed=0).predict(X)",
    "evaluate": "Trainer(Sequential([nn.Dense(2)]).build(50_000, seed=0), 'cross_entropy').evaluate(X, y)",
    "fit": "Trainer(Sequential([nn.Dense(2)]), 'cross_entropy', seed=0).fit(X, y, epochs=1, verbose=False)",
    "fit of all rows": "Trainer(Sequential([nn.Dense(1)]), 'mse', seed=0).fit(X, y, epochs=1, batch_size='full')",
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_become_dense_a_slice_at_a_time(way):
    """All 1000 rows would be 381 MB in float64, 191 in float32."""
    if way == "fit of all rows" and AUTOMATIC != "native":
        pytest.skip("makes a step's rows dense")
    program = PROGRAM.format(WAYS[way])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout.split()[-1]) < 128
