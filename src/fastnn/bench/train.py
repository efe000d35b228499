"""The training benchmark: every runner proved to do the same work, then timed in rounds, in turns.

`fastnn bench train` runs it with what fastnn has; `python -m bench.train`, from a checkout, with the peers too.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastnn.bench import report, runners
from fastnn.bench.machine import Machine
from fastnn.bench.results import Report, Result, Timing
from fastnn.bench.runners import EXACT, Spec
from fastnn.bench.worker import Worker, WorkerError
from fastnn.bench.workloads import WORKLOADS, Workload

ROUNDS, SECONDS = 5, 0.5
QUICK_ROUNDS, QUICK_SECONDS, QUICK_BATCHES = 1, 0.05, 4
CHECK_BATCHES, CHECK_PASSES, CHECK_EPOCHS = 2, 3, 6
TOLERANCE = 0.02  # of what the loss falls by in the check; measured: 1e-3 on gemm, at most 1e-4 elsewhere
COMES_CLOSE = (0.25, 4.0)  # the fall's share of the exact one; measured: scikit-learn 0.5 on logreg, 1.2 on gemm
BANDWIDTH_MB, QUICK_BANDWIDTH_MB = 256, 32  # an array: several times any L3 of a desktop; quick: only that it works

Say = Callable[[str], None]


# Equal work -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What a runner shows of its work: the losses of steps in order, and the loss after epochs over one batch."""

    losses: tuple[float, ...]
    trained: float

    @staticmethod
    def of(worker: Worker) -> Evidence:
        """From the session in the worker."""
        losses = worker.call("losses", steps=CHECK_BATCHES * CHECK_PASSES)
        return Evidence(tuple(losses), worker.call("trained", epochs=CHECK_EPOCHS))

    @property
    def falls(self) -> tuple[float, float]:
        """By how much the losses of the same batches fall from the first pass to the last, and in the epochs."""
        first, last = self.losses[:CHECK_BATCHES], self.losses[-CHECK_BATCHES:]
        return (sum(first) - sum(last)) / CHECK_BATCHES, self.losses[0] - self.trained


def differences(shown: Evidence, exact: Evidence, close: bool = False) -> str | None:
    """What is wrong with a runner's work, None: nothing. `exact` is the same in float64.

    Each loss has to agree to TOLERANCE of the fall: another learning rate, batch, gradient, bias correction or
    number of steps changes it by about the fall itself. Of a runner that can only come `close` the first loss
    has to agree, and the falls to be within COMES_CLOSE.
    """
    pairs = list(zip(shown.losses, exact.losses, strict=True))
    allowed = [TOLERANCE * abs(fall) for fall in exact.falls]
    worst = max(abs(ours - theirs) for ours, theirs in (pairs[:1] if close else pairs))
    if not worst <= allowed[0]:
        return f"its losses differ by {worst:.2g} from those in float64, {allowed[0]:.2g} allowed"
    after = abs(shown.trained - exact.trained)
    if not close and not after <= allowed[1]:
        return f"its loss after {CHECK_EPOCHS} epochs differs by {after:.2g} from float64's, {allowed[1]:.2g} allowed"
    shares = [ours / theirs for ours, theirs in zip(shown.falls, exact.falls, strict=True)]
    if not all(COMES_CLOSE[0] <= share <= COMES_CLOSE[1] for share in shares):
        return f"its losses fall by {shares[0]:.2g} and {shares[1]:.2g} of what they do in float64"
    return None


def exact(workload: Workload) -> Evidence:
    """What every runner has to show, computed in float64 in a process of its own."""
    with Worker() as worker:
        runners.start(worker, EXACT, workload)
        return Evidence.of(worker)


# The rounds -----------------------------------------------------------------------------------------------


class Crew:
    """The workers: one for each runner and number of threads, kept from one workload to the next."""

    def __init__(self, specs: Iterable[Spec], say: Say) -> None:
        self.say = say
        self.left_out: list[str] = []
        self.specs: list[Spec] = []
        for spec in specs:
            if spec.present:
                self.specs.append(spec)
            else:
                self.left_out.append(f"{spec.name}: {spec.package} is not installed")
        self.machine = Machine()
        self.workers: dict[tuple[str, int | None], Worker] = {}

    def run(self, workload: Workload, rounds: int, seconds: float) -> Result:
        """Check and time one workload."""
        members = self._prepare(workload)
        peaks: list[tuple[float, float] | None] = []
        for number in range(rounds):
            peaks.append(self.machine.peaks())
            for member in members[:: 1 if number % 2 == 0 else -1]:
                worker, timing = member
                try:
                    spent, steps = worker.call("round", seconds=seconds)
                except WorkerError as error:
                    members.remove(member)
                    self._leave_out(timing.name, timing.threads, workload, error)
                else:
                    timing.seconds.append(spent / steps)
        return Result(workload, [timing for _, timing in members], [peak for peak in peaks if peak])

    def _prepare(self, workload: Workload) -> list[tuple[Worker, Timing]]:
        """Every runner that can run it, proved to do the same work, compiled and calibrated."""
        expected = exact(workload)
        members = []
        for spec in self.specs:
            if spec.workloads is not None and workload.name not in spec.workloads:
                continue
            for threads in spec.thread_counts():
                try:
                    members.append(self._member(spec, workload, threads, expected))
                except WorkerError as error:
                    self._leave_out(spec.name, threads, workload, error)
        return members

    def _member(self, spec: Spec, workload: Workload, threads: int | None, expected: Evidence) -> tuple[Worker, Timing]:
        worker = self.workers.get((spec.name, threads))
        if worker is None:
            worker = self.workers[spec.name, threads] = Worker(threads)
        fewer = min(workload.rows, spec.max_rows or workload.rows)
        runners.start(worker, spec, replace(workload, rows=max(fewer, CHECK_BATCHES * workload.batch)))
        wrong = differences(Evidence.of(worker), expected, workload.name in spec.close)
        if wrong is not None:
            raise AssertionError(f"{spec.name} does not train {workload.name} as the others do: {wrong}")
        worker.call("prepare")
        return worker, Timing(spec.name, threads, worker.call("version"))

    def _leave_out(self, name: str, threads: int | None, workload: Workload, error: WorkerError) -> None:
        """A worker that failed may be in any state: the next workload gets a fresh one."""
        self.left_out.append(f"{name} ({threads or 'default'} threads) on {workload.name}: {error}")
        self.say(f"left out: {self.left_out[-1]}")
        worker = self.workers.pop((name, threads), None)
        if worker is not None:
            worker.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers.values():
            worker.close()
        self.machine.close()


def shrunk(workload: Workload) -> Workload:
    """A few batches of it, to see that everything works."""
    return replace(workload, rows=min(workload.rows, QUICK_BATCHES * workload.batch))


def measure(
    workloads: Sequence[Workload],
    specs: Iterable[Spec],
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    quick: bool = False,
    say: Say = print,
) -> Report:
    """Run the benchmark. AssertionError where a runner does other work than the rest."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with Crew(specs, say) as crew:
        bandwidth = crew.machine.bandwidths(QUICK_BANDWIDTH_MB if quick else BANDWIDTH_MB)
        results = []
        for workload in workloads:
            say(f"{workload.name}: {workload}")
            results.append(crew.run(shrunk(workload) if quick else workload, rounds, seconds))
        return Report(results, bandwidth, crew.left_out, quick, load)


# The command ----------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, specs: Sequence[Spec]) -> None:
    """The options of `fastnn bench train` and of `python -m bench.train`."""
    names = [spec.name for spec in specs]
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=list(WORKLOADS),
        metavar="NAME",
        help=f"of {', '.join(WORKLOADS)} (default: all)",
    )
    parser.add_argument("--runners", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help=f"turns of each runner (default: {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of a turn, at least one epoch (default: {SECONDS})")
    parser.add_argument("--quick", action="store_true", help="a few batches each: does it work? No timing is right")
    parser.add_argument("--out", metavar="NAME", help="write NAME.json, and NAME.png where matplotlib is installed")


def run(options: argparse.Namespace, specs: Sequence[Spec]) -> Report:
    """Measure what the options ask for, print the tables, write the files."""
    rounds = options.rounds if options.rounds is not None else QUICK_ROUNDS if options.quick else ROUNDS
    seconds = options.seconds if options.seconds is not None else QUICK_SECONDS if options.quick else SECONDS
    if rounds < 1:
        raise ValueError(f"--rounds is {rounds}, expected at least 1")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"--seconds is {seconds}, expected a positive number")
    if options.out is not None and not Path(options.out).parent.is_dir():
        raise ValueError(f"--out is {options.out!r}, expected a name in a directory that exists")
    chosen = [spec for spec in specs if options.runners is None or spec.name in options.runners]
    workloads = [WORKLOADS[name] for name in options.workloads or WORKLOADS]
    found = measure(workloads, chosen, rounds=rounds, seconds=seconds, quick=options.quick)
    print("\n" + report.text(found))
    if options.out is not None:
        report.write(found, Path(options.out))
    return found
