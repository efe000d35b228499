"""The training benchmark: its arithmetic, that unequal work is found out, its workers, tables and commands."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import AUTOMATIC, BACKENDS

from fastnn import backends, cli
from fastnn.bench import report, runners, train, worker, workloads
from fastnn.bench.results import Report, Result, Timing
from fastnn.bench.train import Evidence
from fastnn.bench.worker import Worker, WorkerError
from fastnn.bench.workloads import TARGETS, WORKLOADS, Workload

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = {
    "softmax": Workload("softmax", (5, 7, 6, 3), "relu", "cross_entropy", 8, 32),
    "binary": Workload("binary", (5, 2), "identity", "cross_entropy", 8, 32),
    "mse": Workload("mse", (4, 6, 1), "tanh", "mse", 8, 32),
}
small = pytest.mark.parametrize("workload", SMALL.values(), ids=list(SMALL))


def session(spec: runners.Spec, workload: Workload) -> runners.Session:
    return runners.Session(vars(spec), vars(workload), None)


def evidence(session: runners.Session) -> Evidence:
    losses = session.losses(train.CHECK_BATCHES * train.CHECK_PASSES)
    return Evidence(tuple(losses), session.trained(train.CHECK_EPOCHS))


def spec(name: str) -> runners.Spec:
    return next(spec for spec in runners.OURS if spec.name == name)


# Workloads


def test_flops_by_hand():
    """tiny: 10-32-1 in batches of 32. Forward and dw of both layers, dx of the second."""
    first, second = 2 * 32 * 10 * 32, 2 * 32 * 32 * 1
    assert WORKLOADS["tiny"].flops == (first + second) + (first + second) + second == 47_104


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))
def test_workloads_have_whole_batches_and_a_target(workload):
    assert workload.rows % workload.batch == 0
    assert workload.steps * workload.batch == workload.rows
    assert workload.rows >= train.CHECK_BATCHES * workload.batch
    assert set(TARGETS[workload.name].ratios) == {"torch", "jax", "sklearn"}


@small
def test_data_are_drawn_once(workload):
    x, y = workload.data()
    assert x.shape == (32, workload.sizes[0]) and x.dtype == np.float32
    assert y.shape == ((32,) if workload.loss == "cross_entropy" else (32, workload.sizes[-1]))
    fewer = dataclasses.replace(workload, rows=16)
    for again, first, part in zip(workload.data(), (x, y), fewer.data(), strict=True):
        np.testing.assert_array_equal(again, first)
        np.testing.assert_allclose(part, first[:16], rtol=1e-5)
    if workload.loss == "cross_entropy":
        assert set(y[: workload.batch]) == set(range(workload.sizes[-1]))


def test_a_workload_survives_json():
    assert workloads.from_dict(json.loads(json.dumps(vars(SMALL["mse"])))) == SMALL["mse"]


# Equal work


@small
@pytest.mark.parametrize("name", [*BACKENDS, "by-hand"])
def test_runners_do_the_same(name, workload):
    exact = evidence(session(runners.EXACT, workload))
    assert all(fall > 0 for fall in exact.falls)
    assert train.differences(evidence(session(spec(name), workload)), exact) is None


class Slow(runners.NumPy):
    """Another learning rate, in effect: half of each step is taken back."""

    def _adam(self):
        before = self.flat.copy()
        super()._adam()
        self.flat[...] = (self.flat + before) / 2


class OtherBatches(runners.NumPy):
    def step(self, rows):
        return super().step(slice(rows.start + 1, rows.stop + 1))


class NoCorrection(runners.NumPy):
    """Adam without the correction of its moments."""

    def _adam(self):
        self.t = 10**6
        super()._adam()


class Fragile(runners.NumPy):
    """Ends its process in the second round, as a library that crashes does."""

    def train(self, epochs):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 4:  # one epoch's check, two to prepare, the first round
            os._exit(3)
        super().train(epochs)


class Lazy(runners.NumPy):
    """Skips every other epoch: right steps, too few of them."""

    def train(self, epochs):
        super().train(epochs // 2)


@small
@pytest.mark.parametrize("wrong", [Slow, OtherBatches, NoCorrection, Lazy])
def test_other_work_is_found_out(wrong, workload):
    exact = evidence(session(runners.EXACT, workload))
    cheat = runners.Spec("cheat", f"{__name__}:{wrong.__name__}")
    assert train.differences(evidence(session(cheat, workload)), exact) is not None


def test_what_comes_close_need_not_agree_but_has_to_learn():
    exact = Evidence((1.0, 2.0, 0.9, 1.9, 0.8, 1.8), 0.5)
    half = Evidence((1.0, 2.0, 0.95, 1.95, 0.9, 1.9), 0.75)
    assert "losses differ" in train.differences(half, exact)
    assert train.differences(half, exact, close=True) is None
    still = Evidence((1.0, 2.0) * 3, 1.0)
    assert "fall by 0 and 0" in train.differences(still, exact, close=True)
    elsewhere = Evidence((1.1, *half.losses[1:]), 0.75)
    assert "losses differ" in train.differences(elsewhere, exact, close=True)


@pytest.mark.parametrize("name", ["by-hand", AUTOMATIC])
def test_an_epoch_has_every_step(name):
    made = session(spec(name), SMALL["mse"])
    made.prepare()
    seconds, steps = made.round(0.0)
    assert steps == SMALL["mse"].steps
    assert seconds > 0


def test_every_epoch_is_shuffled_anew(monkeypatch):
    seen: list[np.ndarray] = []
    runner = runners.NumPy(SMALL["mse"], None)
    runner.x[:, 0] = np.arange(len(runner.x))
    monkeypatch.setattr(runner, "_step", lambda x, y: seen.append(x[:, 0].copy()))
    runner.train(2)
    first, second = np.concatenate(seen[:4]), np.concatenate(seen[4:])
    assert sorted(first) == sorted(second) == list(range(32))
    assert not np.array_equal(first, second)


# Peers: only in a checkout, and where they are installed


@pytest.fixture
def peers(monkeypatch):
    if not (ROOT / "bench" / "__init__.py").is_file():
        pytest.skip("not in a checkout")
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import peers

    return {spec.name: spec for spec in peers.PEERS}


@pytest.mark.parametrize(
    "name",
    [
        "sklearn",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("torch.compile", marks=pytest.mark.slow),
        pytest.param("jax", marks=pytest.mark.slow),
        pytest.param("jax.host", marks=pytest.mark.slow),
    ],
)
def test_peers_do_the_same(peers, name):
    """In a worker, which says why where it cannot (torch.compile without a compiler)."""
    chosen = peers[name]
    if not chosen.present:
        pytest.skip(f"no {chosen.package}")
    with Worker(1) as process:
        for workload in SMALL.values():
            exact = evidence(session(runners.EXACT, workload))
            try:
                runners.start(process, chosen, workload)
                shown = Evidence.of(process)
            except WorkerError as error:
                if name != "torch.compile":
                    raise
                pytest.skip(str(error))
            close = name == "sklearn" and workload.name == "binary"
            assert train.differences(shown, exact, close) is None


# Workers


def test_a_worker_answers_and_says_what_is_wrong():
    with Worker() as process:
        process.make("fastnn.bench.machine:Core")
        copied, summed = process.call("bandwidth", megabytes=1)
        assert copied > 0 and summed > 0
        with pytest.raises(WorkerError, match="AttributeError"):
            process.call("fly")
        with pytest.raises(WorkerError, match="No module named"):
            process.make("fastnn.abacus:Abacus")
        assert process.process.poll() is None
    assert process.process.wait(timeout=10) == 0


def test_a_worker_that_is_gone_is_an_error():
    with Worker() as process:
        process.process.kill()
        process.process.wait()
        with pytest.raises(WorkerError, match="process"):
            process.call("anything")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_sleeps_when_it_is_not_its_turn():
    with Worker() as process:
        process.make("fastnn.bench.machine:Core")
        os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
        status = Path(f"/proc/{process.process.pid}/stat").read_text()
        assert status.rpartition(")")[2].split()[0] == "T"


def test_a_worker_has_an_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("FASTNN_ISA", "avx2")
    got = worker.environment(None)
    assert "OPENBLAS_CORETYPE" not in got and "OMP_WAIT_POLICY" not in got and "OMP_NUM_THREADS" not in got
    assert got["FASTNN_ISA"] == "avx2"
    assert worker.environment(2)["OMP_NUM_THREADS"] == "2"


# Results and tables


def result(**other) -> Result:
    """Two rounds in which the machine halved its speed: ratios within a round do not see that."""
    timings = [
        Timing("native", None, "fastnn", [10e-6, 20e-6]),
        Timing("torch", 1, "torch", [600e-6, 1200e-6]),
        Timing("torch", 2, "torch", [700e-6, 1500e-6]),
    ]
    return Result(**{"workload": WORKLOADS["tiny"], "timings": timings, "peaks": [(100.0, 200.0)] * 2, **other})


def test_ratios_take_the_better_number_of_threads():
    found = result()
    assert found.ours.name == "native"
    assert found.fastest("torch").threads == 1
    assert found.ratio("torch") == pytest.approx(60)
    assert found.ratio("jax") is None
    share = 100 * (47_104 / 10e-6 / 200e9 + 47_104 / 20e-6 / 200e9) / 2
    assert found.percent_of_peak(found.ours) == pytest.approx(share)
    assert result(peaks=[]).percent_of_peak(found.ours) is None


def test_tables():
    shown = report.text(Report([result()], {"one": (10.0, 9.0)}, ["jax: jax is not installed"], False))
    assert "| tiny | torch, 1 thr. | 900 | 600 | 35,556 |" in shown
    assert "| tiny (native) | 15.0 | 2,133,333 | 3.14 | 1.77 | 60.0x |" in shown
    assert "| tiny | 60.0 of 140: no | n/a of 12 | n/a of 80 | - | n/a |" in shown
    assert "Left out: jax: jax is not installed." in shown
    tables = [block for block in shown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.split("\n")}) == 1


def test_reached_targets():
    fast = [
        Timing("native", None, "", [1e-6]),
        *(Timing(name, 1, "", [1e-3]) for name in TARGETS["tiny"].ratios),
    ]
    shown = report.targets_table(Report([result(timings=fast, peaks=[])], {}, [], False))
    assert shown.endswith("| yes |")
    assert "1,000 of 140: yes" in shown


def test_files(tmp_path, capsys):
    found = Report([result()], {"one": (10.0, 9.0)}, [], False)
    report.write(found, tmp_path / "out")
    data = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert data["workloads"][0]["ratios"]["torch"] == pytest.approx(60)
    assert data["workloads"][0]["targets"]["torch"]["reached"] is False
    pytest.importorskip("matplotlib")
    assert (tmp_path / "out.png").read_bytes().startswith(PNG)


# Commands


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(train, "WORKLOADS", {"mse": SMALL["mse"]})
    monkeypatch.setattr(train, "QUICK_BANDWIDTH_MB", 1)


def test_command(tiny, tmp_path, capsys):
    names = [AUTOMATIC, "by-hand"]
    arguments = ["bench", "train", "--quick", "--seconds", "0.001", "--out", str(tmp_path / "out"), "--runners"]
    assert cli.main([*arguments, *names]) == 0
    shown = capsys.readouterr().out
    assert f"| mse | {AUTOMATIC} |" in shown and "| mse | by-hand, 1 thr. |" in shown
    assert ("% of peak" in shown) and ("FMA peak: n/a" in shown) == ("native" not in backends.available())
    assert "Quick" in shown
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["workloads"][0]["name"] == "mse"


def test_a_runner_that_works_otherwise_stops_the_run(tiny):
    cheat = runners.Spec("cheat", f"{__name__}:Slow", each=False)
    with pytest.raises(AssertionError, match="cheat does not train mse as the others do"):
        train.measure([SMALL["mse"]], [cheat], rounds=1, seconds=0.001, quick=True, say=lambda line: None)


def test_what_is_missing_is_left_out(tiny):
    absent = runners.Spec("absent", "nowhere:Nobody", "no_such_package")
    broken = runners.Spec("broken", "no_such_module:Nobody", each=False)
    found = train.measure([SMALL["mse"]], [absent, broken], rounds=1, seconds=0.001, quick=True, say=lambda line: None)
    assert found.left_out[0] == "absent: no_such_package is not installed"
    assert found.left_out[1].startswith("broken (default threads) on mse: ModuleNotFoundError")
    assert found.results[0].timings == []
    assert "n/a" not in report.ratios_table(found)


def test_a_runner_that_crashes_is_left_out(tiny):
    fragile = runners.Spec("fragile", f"{__name__}:Fragile", each=False)
    found = train.measure(
        [SMALL["mse"]], [spec("by-hand"), fragile], rounds=3, seconds=0.001, quick=True, say=lambda line: None
    )
    assert found.left_out == ["fragile (default threads) on mse: its process ended with code 3"]
    assert {timing.name for timing in found.results[0].timings} == {"by-hand"}
    assert all(len(timing.seconds) == 3 for timing in found.results[0].timings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--seconds", "-1"], "--seconds is -1.0, expected a positive number"),
        (["--out", "/no/such/directory/x"], "expected a name in a directory that exists"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys):
    assert cli.main(["bench", "train", "--quick", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def checkout_command(*arguments: str) -> str:
    if not (ROOT / "bench" / "__init__.py").is_file():
        pytest.skip("not in a checkout")
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_growth_command(tmp_path):
    small = ["--max-width", "32", "--max-batch", "2", "--max-rows", "1000", "--rounds", "1", "--seconds", "0.001"]
    chosen = ["--curves", "width", "batch", "rows", "--backend", AUTOMATIC, "--out", str(tmp_path / "g")]
    shown = checkout_command("bench.growth", *small, *chosen)
    assert "| width |" in shown and "cliff" in shown
    assert set(json.loads((tmp_path / "g.json").read_text("utf-8"))["curves"]) == {"width", "batch", "rows"}


@pytest.mark.slow
def test_fashion_command():
    pytest.importorskip("sklearn")
    shown = checkout_command("bench.fashion", "--data", "digits", "--epochs", "1", "--rounds", "1")
    assert "| fastnn " in shown


@pytest.mark.slow
def test_train_command():
    shown = checkout_command(
        "bench.train", "--quick", "--workloads", "tiny", "--runners", AUTOMATIC, "sklearn", "--seconds", "0.001"
    )
    assert f"| tiny | {AUTOMATIC} |" in shown


# The first page


def test_the_first_page_shows_what_was_measured(monkeypatch):
    """README.md's table is that of docs/performance.md, and its pictures are there."""
    if not (ROOT / "bench" / "__init__.py").is_file():
        pytest.skip("not in a checkout")
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import front_page

    page, measured = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/performance.md"))
    assert front_page.table(measured) in page
    by_hand = front_page.rows(measured, ("digits",))[0]  # | digits ... | 36 | ... 14.6, 2.2, 9.7, 6.7, 1.7
    assert by_hand.microseconds == 36.0
    assert by_hand.ratios == {"PyTorch": 14.6, "torch.compile": 6.7, "JAX": 1.7, "scikit-learn": 9.7}
    for theme in front_page.FOREGROUND:
        assert f"docs/beside_{theme}.png" in page
        assert (ROOT / "docs" / f"beside_{theme}.png").read_bytes().startswith(PNG)
