"""Lines 19 to 30 of what is survived: threads and processes. On the numpy backend and on the one that users get."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import threading

import numpy as np
import pytest
from common import ENGINES, features, run_python

import fastnn
from fastnn import Sequential, Trainer, nn

on_engines = pytest.mark.parametrize("backend", ENGINES)
X, LABELS = features(60, 6), np.arange(60) % 3
needs_fork = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork with GCC's OpenMP")

START = """
    import os, signal, sys, threading, time
    import numpy as np
    from fastnn import Sequential, Trainer, nn
    X = np.random.default_rng(0).normal(size=(400, 20))

    def fit(epochs=2):
        model = Sequential([nn.Dense(64, "tanh"), nn.Dense(3)])
        trainer = Trainer(model, "mse", seed=0, backend=BACKEND)
        trainer.fit(X, X[:, :3], epochs=epochs, verbose=False)
        return model.state.parameters.tobytes()

    def in_child(work):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # one that hangs ends by this
            try:
                os._exit(0 if work() else 1)
            finally:
                os._exit(2)
        return os.waitpid(child, 0)[1]
"""


def script(backend: str, code: str, **environment: str) -> str:
    done = run_python(START.replace("BACKEND", repr(backend)) + code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_fork
@on_engines
def test_19_a_child_forked_after_a_fit_fits(backend):
    code = """
    expected = fit()
    print([in_child(lambda: fit() == expected) for _ in range(3)], fit() == expected)
    """
    assert script(backend, code) == "[0, 0, 0] True"


@needs_fork
@on_engines
def test_20_a_child_forked_while_another_thread_fits(backend):
    """On numpy with one thread of its BLAS: with several a child may hang in it."""
    code = """
    expected = fit()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(fit(400)))
    thread.start()
    time.sleep(0.05)
    status = [in_child(lambda: fit() == expected) for _ in range(3)]
    thread.join()
    print(status, len(ended))
    """
    assert script(backend, code, OPENBLAS_NUM_THREADS="1") == "[0, 0, 0] 1"


@on_engines
def test_21_workers_of_joblib(backend):
    """Each gets its share of the processors, and the same bits."""
    joblib = pytest.importorskip("joblib")
    alone = fit_once(backend)
    many = joblib.Parallel(n_jobs=4)(joblib.delayed(fit_once)(backend) for _ in range(4))
    assert many == [alone] * 4


def fit_once(backend: str) -> bytes:
    model = Sequential([nn.Dense(8, "tanh"), nn.Dense(3)])
    Trainer(model, "cross_entropy", seed=0, backend=backend).fit(X, LABELS, epochs=2, verbose=False)
    return model.state.parameters.tobytes()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_22_one_cpu_means_one_thread():
    pytest.importorskip("fastnn._native", exc_type=ImportError)
    code = """
        import os
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        from fastnn.backends import native
        print(native.threads())
    """
    assert run_python(code, OMP_NUM_THREADS="").stdout.strip() == "1"


@on_engines
def test_23_64_threads_predict_on_one_model(backend):
    model = Sequential([nn.Dense(33, "tanh"), nn.BatchNorm(), nn.Dense(3)]).build(6, seed=0)
    expected = model.predict(X, backend=backend)
    made: list[np.ndarray] = []
    begin = threading.Barrier(64)

    def predict() -> None:
        begin.wait()
        for _ in range(5):
            made.append(model.predict(X, backend=backend))

    threads = [threading.Thread(target=predict) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 320
    assert all(np.array_equal(each, expected) for each in made)


@on_engines
def test_24_two_threads_fit_one_model(backend):
    """The one that comes second is told so; the first ends with the bits that it has alone."""
    trainer = Trainer(Sequential([nn.Dense(8, "tanh"), nn.Dense(3)]), "cross_entropy", seed=0, backend=backend)
    inside, go_on = threading.Event(), threading.Event()

    def pause(run) -> None:
        inside.set()
        go_on.wait(60)

    def first() -> None:
        trainer.fit(X, LABELS, epochs=2, verbose=False, callbacks=[fastnn.Lambda(on_epoch_end=pause)])

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(60)
    with pytest.raises(RuntimeError, match="expected one fit at a time"):
        trainer.fit(X, LABELS, verbose=False)
    go_on.set()
    thread.join()
    assert trainer.model.state.parameters.tobytes() == fit_once(backend)


THERE = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name)]


@pytest.mark.slow
@on_engines
@pytest.mark.parametrize("order", list(itertools.permutations(["fastnn", *THERE])), ids=" ".join)
def test_25_imported_in_any_order(backend, order):
    code = f"""
        {"; ".join(f"import {name}" for name in order)}
        import numpy as np
        from fastnn import Sequential, Trainer, nn
        x = np.eye(6)
        if "torch" in {order!r}:
            torch.ones(300, 300) @ torch.ones(300, 300)
        trainer = Trainer(Sequential([nn.Dense(8), nn.Dense(1)]), "mse", seed=0, backend={backend!r})
        trainer.fit(x, x[:, 0], epochs=2, verbose=False)
        print(trainer.model.state.finite())
    """
    done = run_python(code)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@on_engines
def test_26_ctrl_c(backend):
    code = """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = Sequential([nn.Dense(64, "tanh"), nn.BatchNorm(), nn.Dense(3)])
    trainer = Trainer(model, "mse", seed=0, backend=BACKEND)
    trainer.fit(X, X[:, :3], epochs=1, verbose=False)
    sent = []
    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(0.3, interrupt).start()
    try:
        trainer.fit(X, X[:, :3], epochs=10**7, verbose=False)
    except KeyboardInterrupt:
        print("interrupted", "late" if time.perf_counter() - sent[0] > 5 else "")
    steps = model.state.step
    trainer.fit(X, X[:, :3], epochs=1, verbose=False)
    print(model.state.step - steps, np.isfinite(model.predict(X)).all())
    """
    assert script(backend, code.replace("BACKEND", repr(backend))).split() == ["interrupted", "13", "True"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and RLIMIT_AS")
@on_engines
def test_27_memory_that_the_system_refuses(backend):
    """The model is as it was, and the same call works once there is room."""
    code = """
    import resource
    model = Sequential([nn.Dense(2048, "tanh"), nn.Dense(2)])
    trainer = Trainer(model, "mse", seed=1, backend=BACKEND)
    x = np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)
    trainer.fit(x[:64], x[:64, :2], epochs=1, verbose=False)
    before = model.state.parameters.copy()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, resource.RLIM_INFINITY))
    try:
        trainer.fit(x, x[:, :2], epochs=1, batch_size=4096, verbose=False)
    except MemoryError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(np.array_equal(model.state.parameters, before))
    trainer.fit(x, x[:, :2], epochs=1, batch_size=4096, verbose=False)
    print(model.state.finite())
    """
    code = code.replace("BACKEND", repr(backend))
    assert script(backend, code, OPENBLAS_NUM_THREADS="1").split() == ["refused", "True", "True"]


@on_engines
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end", "on_step"])
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_28_a_callback_that_raises(backend, hook, error):
    class Raises(fastnn.Callback):
        every = 1

    def raises(self, run) -> None:
        raise error

    setattr(Raises, hook, raises)
    running = threading.active_count()
    trainer = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0, backend=backend)
    with pytest.raises(type(error)) as caught:
        trainer.fit(X, LABELS, epochs=3, verbose=False, callbacks=[Raises()])
    assert caught.value is error
    assert threading.active_count() == running and not trainer.model.fitting.locked()
    trainer.fit(X, LABELS, epochs=1, verbose=False)


def test_29_an_instruction_set_that_the_cpu_lacks():
    pytest.importorskip("fastnn._native", exc_type=ImportError)
    done = run_python("import fastnn; fastnn.backends.load('native')", FASTNN_ISA="avx1024")
    assert "RuntimeError: FASTNN_ISA is 'avx1024', but this CPU and this build of fastnn have: " in done.stderr


WARNED = """
    import sys, warnings
    sys.modules["fastnn.backends.native"] = sys.modules["fastnn.backends.numba_jit"] = None
    import numpy as np, fastnn
    from fastnn import Sequential, Trainer, nn
    model = Sequential([nn.Dense(2)]).build(3, seed=0)
    warnings.simplefilter("always")
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(2):
            CALL  # this line
    found = [warning for warning in caught if warning.category is fastnn.FallbackWarning]
    print(len(found), found[0].filename, found[0].lineno)
"""
CALLS = {
    "Trainer": "Trainer(Sequential([nn.Dense(2)]), 'mse')",
    "predict": "model.predict(np.eye(3))",
    "use_backend": "fastnn.use_backend('auto').__enter__()",
    "with": "exec('with fastnn.use_backend(chr(97) + \"uto\"): pass')",
    "MLPRegressor": "fastnn.MLPRegressor(max_iter=300, tol=1.0).fit(np.eye(30), np.arange(30))",
}


@pytest.mark.parametrize("call", CALLS)
def test_30_a_fallback_is_said_once_of_the_users_line(call):
    if call == "MLPRegressor":
        pytest.importorskip("sklearn")
    code = WARNED.replace("CALL", CALLS[call])
    line = next(number for number, text in enumerate(code.splitlines(), 1) if "# this line" in text)
    done = run_python(code)
    expected = ["1", "<string>", "1" if call == "with" else str(line)]
    assert done.stdout.split() == expected, done.stderr
