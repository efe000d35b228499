"""Lines 40 to 42 of what is survived: model files from anywhere. 43 is ../test_onnx.py."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
from common import ENGINES, run_python

import fastnn
from fastnn import ModelFormatError, Sequential, files, nn

on_engines = pytest.mark.parametrize("backend", ENGINES)


def saved(path, backend: str) -> Sequential:
    model = Sequential([nn.Dense(40, "tanh"), nn.Dense(2)]).build(30, seed=0)
    model.predict(np.zeros((1, 30)), backend=backend)
    model.save(path)
    return model


@on_engines
@pytest.mark.parametrize("data", [b"", b"fastnn", bytes(1000), b"\xff" * 1000], ids=["empty", "short", "zeros", "ones"])
def test_40_no_model_file(backend, data, tmp_path):
    (tmp_path / "model").write_bytes(data)
    with pytest.raises(ModelFormatError, match="model"):
        fastnn.load(tmp_path / "model")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory in kB")
@pytest.mark.parametrize("what", ["layers", "metadata"])
def test_40_a_large_header_takes_bounded_memory(what, tmp_path):
    """A file of MBs of JSON is refused before that is parsed."""
    model = Sequential([nn.Dense(1)])
    model.save(tmp_path / "model")
    header, arrays = files.read(tmp_path / "model")
    header[what] = [{"kind": "Softmax"}] * 500_000 if what == "layers" else {"a": [[]] * 3_000_000}
    files.write(tmp_path / "model", header, arrays, most_header=1 << 30)
    size = (tmp_path / "model").stat().st_size
    result = run_python(f"""
        import resource, fastnn
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            fastnn.load({str(tmp_path / "model")!r})
        except fastnn.ModelFormatError as error:
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 2 * size + (16 << 20)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@on_engines
@pytest.mark.parametrize("name", ["model", "model.pkl", "model.fastnn", "model.npz"])
def test_41_a_pickle_is_never_executed(backend, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFormatError):
        fastnn.load(name)
    array = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "arrays.npz", w=array, allow_pickle=True)
    (tmp_path / name).write_bytes(files.MAGIC + (tmp_path / "arrays.npz").read_bytes())
    with pytest.raises(ModelFormatError):
        fastnn.load(name)
    assert not (tmp_path / "exploded").exists()


CHANGED = """
    import os, sys, threading
    import numpy as np, fastnn
    from fastnn import nn
    path, other, stop = PATH, PATH + ".other", []
    versions = [fastnn.Sequential([nn.Dense(500), nn.Dense(2)]).build(500, seed=seed) for seed in range(2)]
    for version in versions:
        version.save(path)
    data = open(path, "rb").read()

    def change():
        turn = 0
        while not stop:
            turn += 1
            if HOW == "replaced":
                versions[turn % 2].save(path)
            else:
                with open(path, "r+b") as file:
                    file.truncate(len(data) * (turn % 7) // 7)
                with open(path, "r+b") as file:
                    file.write(data)

    thread = threading.Thread(target=change)
    thread.start()
    whole, refused, known = 0, 0, [version.state.parameters.tobytes() for version in versions]
    for _ in range(200):
        try:
            assert fastnn.load(path).state.parameters.tobytes() in known
            whole += 1
        except fastnn.ModelFormatError:
            refused += 1
    stop.append(True)
    thread.join()
    print(whole + refused, "all whole" if not refused else "")
"""


@pytest.mark.skipif(os.name == "nt", reason="an open file keeps its name there")
@pytest.mark.parametrize("how", ["replaced", "cut"])
def test_42_a_file_that_changes_while_it_is_read(how, tmp_path):
    """In a process of its own: SIGBUS, which a memory map would raise, ends it."""
    done = run_python(CHANGED.replace("PATH", repr(str(tmp_path / "model"))).replace("HOW", repr(how)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "200"
    assert how == "cut" or "all whole" in done.stdout
