"""Lines 44 to 47 of what is survived: packaging. Most is tried by stages of .ci/run; here is what a test can see."""

from __future__ import annotations

import numpy as np
import pytest
from common import run_python

from fastnn import backends

PURE = """
    import sys, warnings
    for name in ("native", "cython_loops"):
        sys.modules["fastnn.backends." + name] = None
    sys.modules["numba"] = None
    warnings.simplefilter("ignore")
    import numpy as np, fastnn
    from fastnn import Sequential, Trainer, nn
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    trainer = Trainer(Sequential([nn.Dense(16, "tanh"), nn.Dense(2)]), "cross_entropy", "adam", seed=0)
    trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=20, verbose=False)
    print(trainer.backend.name, *map(repr, trainer.history["loss"][-1:]))
"""


def test_45_without_compiled_modules_a_fit_is_the_same_but_for_rounding():
    done = run_python(PURE)
    assert done.returncode == 0, done.stderr
    name, loss = done.stdout.split()
    assert name == "numpy"
    if "native" not in backends.available():
        pytest.skip("nothing to compare with")
    compiled = run_python(PURE.replace('for name in ("native", "cython_loops"):', "for name in ():"))
    assert compiled.stdout.split()[0] == "native"
    np.testing.assert_allclose(float(compiled.stdout.split()[1]), float(loss), rtol=1e-3)
