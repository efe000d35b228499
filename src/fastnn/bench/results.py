"""What the training benchmark measures: times of each runner on each workload, and what follows from them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from fastnn.bench.runners import FASTNN
from fastnn.bench.workloads import TARGETS, Target, Workload


@dataclass
class Timing:
    """Seconds a step of one runner with one number of threads, round by round."""

    name: str
    threads: int | None
    version: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def label(self) -> str:
        return self.name if self.threads is None else f"{self.name}, {self.threads} thr."


@dataclass
class Result:
    """What a workload's rounds measured, and what the machine could do meanwhile."""

    workload: Workload
    timings: list[Timing]
    peaks: list[tuple[float, float]]  # GFLOP/s of one core and of all, of each round; empty: no native extension

    @property
    def ours(self) -> Timing | None:
        """fastnn's best backend here, in the order in which it chooses by itself."""
        return next((timing for name in FASTNN if (timing := self.fastest(name))), None)

    def fastest(self, name: str) -> Timing | None:
        """The runner's timing with the number of threads that suits it better."""
        return min((t for t in self.timings if t.name == name), key=lambda t: t.median, default=None)

    def ratio(self, name: str) -> float | None:
        """How many times longer than ours the runner takes: the median over the rounds, since speed drifts."""
        ours, theirs = self.ours, self.fastest(name)
        if ours is None or theirs is None:
            return None
        return statistics.median(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))

    def gflops(self, timing: Timing) -> float:
        return self.workload.flops / timing.median / 1e9

    def percent_of_peak(self, timing: Timing) -> float | None:
        """Of what all cores did at once in the same rounds."""
        if not self.peaks:
            return None
        shares = [self.workload.flops / t / 1e9 / peak for t, (_, peak) in zip(timing.seconds, self.peaks, strict=True)]
        return 100 * statistics.median(shares)

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.workload.name)


@dataclass
class Report:
    """Everything a run found."""

    results: list[Result]
    bandwidth: dict[str, tuple[float, float]]
    left_out: list[str]
    quick: bool
    load: float | None = None  # processes that ran or waited in the minute before, where the system counts them
