"""Runs random cases in processes of their own, and tells what came of them. No cases.

A kind of cases is a class: `Case(seed, number)` makes one, `run()` says in a word how it ended, `seen` what it has
tried, for whoever asks that nothing was left out. Whatever `run` raises is a fault, and so is a process that ends, or
does not.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol


class Case(Protocol):
    def __init__(self, seed: int, number: int) -> None: ...

    @property
    def seen(self) -> Iterable[Any]: ...

    def run(self) -> str: ...


class Result(NamedTuple):
    outcomes: collections.Counter[str]
    seen: collections.Counter[Any]  # of the cases that were "run"
    faults: list[str]


MOST_FAULTS = 20
STUCK = 120  # seconds that no case takes, even under a sanitizer


def work(kind: type[Case], seed: int, numbers: range, current: Any, results: Any) -> None:
    """Cases of those numbers in a process of its own; `current` is the one it is at."""
    result = Result(collections.Counter(), collections.Counter(), [])
    for number in numbers:
        current.value = number
        try:
            case = kind(seed, number)
            outcome = case.run()
            if outcome == "run":
                result.seen.update(case.seen)
        except Exception as error:  # whatever it is, it is the fault that is looked for
            outcome = "fault"
            result.faults.append(f"case {number}: {error!r} {error.__cause__ or ''}")
        result.outcomes[outcome] += 1
        if len(result.faults) > MOST_FAULTS:
            break
    results.send(result)


class Worker:
    """A process for every so-manieth case, begun anew after a case that ends it."""

    def __init__(self, kind: type[Case], seed: int, numbers: range) -> None:
        self.kind, self.seed = kind, seed
        self.start(numbers)

    def start(self, numbers: range) -> None:
        context = multiprocessing.get_context("spawn")
        self.numbers = numbers
        self.current = context.Value("q", numbers.start, lock=False)
        self.results, sending = context.Pipe(duplex=False)
        arguments = (self.kind, self.seed, numbers, self.current, sending)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        sending.close()
        self.seen, self.since = -1, time.monotonic()

    def finished(self) -> Result | None:
        """What it found, once it is done."""
        if self.results.poll(0.2):
            try:
                return self.results.recv()
            except EOFError:  # it ended before it could send
                self.process.join()
                return self.ended(f"ended the process with {self.process.exitcode}")
        if self.current.value != self.seen:
            self.seen, self.since = self.current.value, time.monotonic()
        elif time.monotonic() - self.since > STUCK:
            self.process.kill()
            return self.ended(f"takes more than {STUCK} seconds")
        return None

    def ended(self, how: str) -> Result:
        number = self.current.value
        rest = self.numbers[self.numbers.index(number) + 1 :]
        if rest:
            self.start(rest)
        return Result(collections.Counter(fault=1), collections.Counter(), [f"case {number}: {how}"])


def fuzz(kind: type[Case], seed: int, cases: int, jobs: int = 1) -> Result:
    """Runs cases 0 .. cases - 1, in processes of their own: one that ends its process is a fault like others."""
    total = Result(collections.Counter(), collections.Counter(), [])
    workers = [Worker(kind, seed, range(job, cases, jobs)) for job in range(jobs)]
    while workers and len(total.faults) <= MOST_FAULTS:
        for worker in list(workers):
            process, found = worker.process, worker.finished()
            if found is None:
                continue
            total.outcomes.update(found.outcomes)
            total.seen.update(found.seen)
            total.faults.extend(found.faults)
            if worker.process is process:  # not begun anew
                workers.remove(worker)
    return total


def main(kind: type[Case], description: str, cases: int = 20_000) -> int:
    """The command line of a kind: the exit status, 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="CASE", help="that case alone, in this process")
    options = parser.parse_args()
    if options.only is not None:
        case = kind(options.seed, options.only)
        print(case, flush=True)
        print(case.run())
        return 0
    start = time.perf_counter()
    result = fuzz(kind, options.seed, options.cases, options.jobs)
    for outcome, count in result.outcomes.most_common():
        print(f"{count:8d}  {outcome}")
    print(*result.faults, sep="\n", end="\n" if result.faults else "")
    took = time.perf_counter() - start
    print(f"{result.outcomes.total()} cases of seed {options.seed}, {len(result.faults)} faults, {took:.0f} s")
    return 1 if result.faults else 0
