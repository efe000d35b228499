"""How the time of fastnn's training grows with the width, the batch, the rows and the threads.

    python -m bench.growth [--max-width N] [--max-batch N] [--max-rows N] [--out NAME] ...

Time per FLOP should fall, or stay, as the work grows. Where it jumps from one point to the next by more than
CLIFF, something falls out of a cache or a fast path: such a pair is measured again, in turns, and reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fastnn._cpus import usable
from fastnn._plot import new_figure
from fastnn.bench import runners
from fastnn.bench.report import markdown, number
from fastnn.bench.runners import OURS, Spec
from fastnn.bench.worker import Worker
from fastnn.bench.workloads import WORKLOADS, Workload

CLIFF = 1.5
EPOCH_FLOPS = 2e10  # at most, but four batches at least: 0.1 to 0.2 s on two cores


@dataclass
class Point:
    """One place on a curve: `at` is what grows; `threads` None is fastnn's own choice."""

    at: int
    workload: Workload
    threads: int | None = None
    seconds: float = 0.0  # a step

    @property
    def per_flop(self) -> float:
        """Picoseconds."""
        return 1e12 * self.seconds / self.workload.flops


@dataclass
class Curve:
    """Points in the order of what grows."""

    name: str
    points: list[Point]


def powers(low: int, high: int, factor: int = 2) -> list[int]:
    """low, low * factor, ... up to high."""
    found = [low]
    while found[-1] * factor <= high:
        found.append(found[-1] * factor)
    return found


def around(low: int, high: int) -> list[int]:
    """The powers of 2 and what lies right above and between them: tiles and vectors end there.

    >>> around(16, 32)
    [16, 17, 24, 32]
    """
    found = {n for p in powers(low, high) for n in (p, p + 1, p + p // 2)}
    return sorted(n for n in found if n <= high)


def bounded(workload: Workload) -> Workload:
    """With as many batches as EPOCH_FLOPS allows, up to the rows it has."""
    batches = int(EPOCH_FLOPS // workload.flops)
    rows = min(workload.rows, max(4, batches) * workload.batch)
    return Workload(**{**asdict(workload), "rows": rows})


def curves(max_width: int, max_batch: int, max_rows: int) -> list[Curve]:
    """What is measured. Threads: 1 to all, on networks for which a team never, hardly and surely pays."""
    widths = [
        Point(w, bounded(Workload(f"width {w}", (w, w, w, 10), "relu", "cross_entropy", 64, 4096)))
        for w in around(16, max_width)
    ]
    batches = [
        Point(b, bounded(Workload(f"batch {b}", (64, 128, 64, 10), "relu", "cross_entropy", b, max(4096, 4 * b))))
        for b in around(1, max_batch)
    ]
    rows = [
        Point(n, Workload(f"rows {n}", (10, 32, 1), "tanh", "mse", 50, n)) for n in powers(1000, max_rows, factor=10)
    ]
    teams = [
        Curve(f"threads, {name}", [Point(n, bounded(WORKLOADS[name]), n) for n in range(1, usable() + 1)])
        for name in ("tiny", "digits", "wide")
    ]
    return [Curve("width", widths), Curve("batch", batches), Curve("rows", rows), *teams]


class Ruler:
    """Measures points, in a worker for each number of threads."""

    def __init__(self, spec: Spec, seconds: float) -> None:
        self.spec, self.seconds = spec, seconds
        self.workers: dict[int | None, Worker] = {}

    def turn(self, point: Point, rounds: int) -> float:
        """Seconds a step, the median of the rounds."""
        if point.threads not in self.workers:
            self.workers[point.threads] = Worker(point.threads)
        worker = self.workers[point.threads]
        runners.start(worker, self.spec, point.workload)
        worker.call("prepare")
        spent = [worker.call("round", seconds=self.seconds) for _ in range(rounds)]
        return statistics.median(seconds / steps for seconds, steps in spent)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def jumps(curve: Curve) -> list[tuple[Point, Point]]:
    """The neighbours between which time per FLOP jumps by more than CLIFF."""
    pairs = zip(curve.points, curve.points[1:], strict=False)
    return [(before, after) for before, after in pairs if after.per_flop > CLIFF * before.per_flop]


def confirmed(pair: tuple[Point, Point], turn: Callable[[Point], float]) -> bool:
    """Does the pair still differ when its points are measured again, one after the other, three times?"""
    ratios = []
    for _ in range(3):
        before, after = (turn(point) / point.workload.flops for point in pair)
        ratios.append(after / before)
    return statistics.median(ratios) > CLIFF


def table(curve: Curve) -> str:
    """The curve in Markdown."""
    rows = [
        [
            f"{p.at:,}",
            number(1e6 * p.seconds),
            number(p.per_flop),
            number(1e-9 * p.workload.flops / p.seconds),
            f"{p.workload.batch / p.seconds:,.0f}",
        ]
        for p in curve.points
    ]
    return markdown([curve.name, "µs a step", "ps per FLOP", "GFLOP/s", "rows/s"], rows, words=0)


def draw(found: list[Curve], path: Path) -> None:
    """A PNG: time a step and time per FLOP of every curve."""
    figure = new_figure((4 * len(found), 6))
    for column, curve in zip(figure.subplots(2, len(found), squeeze=False).T, found, strict=True):
        at = [p.at for p in curve.points]
        column[0].loglog(at, [1e6 * p.seconds for p in curve.points], marker="o", markersize=3)
        column[1].loglog(at, [p.per_flop for p in curve.points], marker="o", markersize=3, color="C1")
        column[0].set_title(curve.name)
        column[0].set_ylabel("µs a step")
        column[1].set_ylabel("ps per FLOP")
    figure.savefig(path, dpi=100)


def write(found: list[Curve], cliffs: list[str], name: str) -> None:
    """NAME.json and, where matplotlib is installed, NAME.png."""
    data = {
        "curves": {
            c.name: [{**asdict(p), "flops": p.workload.flops, "ps_per_flop": p.per_flop} for p in c.points]
            for c in found
        },
        "cliffs": cliffs,
    }
    Path(f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    try:
        draw(found, Path(f"{name}.png"))
    except ImportError as error:
        print(f"no picture: {error}")


def main(arguments: list[str] | None = None) -> None:
    present = {spec.name: spec for spec in OURS if spec.backend and spec.present}
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="How training time grows.")
    parser.add_argument("--backend", choices=list(present), default=next(iter(present)))
    parser.add_argument("--curves", nargs="+", choices=["width", "batch", "rows", "threads"], metavar="NAME")
    parser.add_argument("--max-width", type=int, default=4096)
    parser.add_argument("--max-batch", type=int, default=4096)
    parser.add_argument("--max-rows", type=int, default=1_000_000, help="10000000 takes 0.4 GB, minutes on numpy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a round")
    parser.add_argument("--out", metavar="NAME", help="write NAME.json and NAME.png")
    options = parser.parse_args(arguments)

    wanted = curves(options.max_width, options.max_batch, options.max_rows)
    found = [c for c in wanted if options.curves is None or c.name.partition(",")[0] in options.curves]
    ruler = Ruler(present[options.backend], options.seconds)
    cliffs = []
    try:
        for curve in found:
            for point in curve.points:
                point.seconds = ruler.turn(point, options.rounds)
            print(table(curve) + "\n", flush=True)
            for pair in jumps(curve):
                if confirmed(pair, lambda point: ruler.turn(point, 1)):
                    before, after = pair
                    jump = after.per_flop / before.per_flop
                    cliffs.append(f"{curve.name} {before.at} -> {after.at}: {jump:.2f} times the time per FLOP")
    finally:
        ruler.close()
    print("\n".join(f"cliff: {cliff}" for cliff in cliffs) or "no cliffs")
    if options.out is not None:
        write(found, cliffs, options.out)


if __name__ == "__main__":
    main()
