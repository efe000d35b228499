"""The main job and the command line, as a user runs them."""

import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import cli, datasets
from fastnn.bench import demo

PNG = b"\x89PNG\r\n\x1a\n"


def _small_images() -> datasets.Images:
    """Two classes a network can tell apart: bright on the left, or on the right."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = rng.integers(0, 60, (240, 6, 6)).astype(np.uint8)
    x[y == 0, :, :3] += 150
    x[y == 1, :, 3:] += 150
    return datasets.Images("halves", x[:200], y[:200], x[200:], y[200:], ("left", "right"))


@pytest.mark.parametrize("backend", fastnn.backends.available())
def test_every_backend_learns(backend):
    result = demo.run(_small_images(), backend=backend, epochs=1 if backend == "python" else 5, verbose=False)
    assert result.backend == backend
    assert result.accuracy > 0.9
    assert result.rows_per_second > 0


def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    images = _small_images()
    demo.draw(demo.run(images, epochs=2, verbose=False), images, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(PNG)


def test_digits_reach_their_accuracy(tmp_path, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    assert cli.main(["demo", "--data", "digits", "--quiet", "--out", str(tmp_path / "d.png")]) == 0
    shown = capsys.readouterr().out
    assert float(shown.split("test accuracy ")[1].split()[0]) >= 0.965
    assert "rows per second on the" in shown
    assert (tmp_path / "d.png").read_bytes().startswith(PNG)


@pytest.mark.slow
@pytest.mark.skipif(not datasets.FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_reaches_its_accuracy():
    result = demo.run(datasets.find(), verbose=False)
    assert len(result.history) == 10
    assert result.accuracy >= 0.875  # scikit-learn and PyTorch: 0.880 to 0.883


def test_module_runs_as_a_command():
    shown = subprocess.run([sys.executable, "-m", "fastnn", "info"], capture_output=True, text=True, check=True).stdout
    assert fastnn.__version__ in shown
    for name in ("backend", "instruction set", "threads", "numpy"):
        assert f"\n{name} " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--data", "/no/such/directory"], "/no/such/directory"),
        (["demo", "--data", "digits", "--epochs", "0"], "epochs is 0, expected an integer >= 1"),
    ],
)
def test_what_the_user_can_mend_is_one_line(arguments, message, capsys):
    pytest.importorskip("sklearn")
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["demo", "--backend", "abacus"], ["fly"]])
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("arguments", [[], ["bench"]])
def test_no_command_shows_the_help(arguments, capsys):
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "usage: fastnn" in said and ("ladder" if arguments else "predict") in said
