"""What the training benchmark found, as Markdown tables, as JSON, as a picture. No measuring."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastnn._cpus import usable
from fastnn._plot import new_figure
from fastnn.bench.results import Report, Result, Timing
from fastnn.bench.runners import FASTNN
from fastnn.bench.workloads import TARGETS

BUSY = 0.5  # load above which others are at work
TITLES = {
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "jax": "JAX scan",
    "jax.host": "JAX scan, NumPy's shuffle",
    "sklearn": "scikit-learn",
    "by-hand": "NumPy by hand",
}


def number(value: float | None, suffix: str = "") -> str:
    """Three digits, as far as they say something.

    >>> number(0.1234), number(12.34, "x"), number(1234.5), number(None)
    ('0.12', '12.3x', '1,234', 'n/a')
    """
    if value is None:
        return "n/a"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}{suffix}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words, the others numbers.

    >>> print(markdown(["name", "µs"], [["tiny", "3.1"]]))
    | name | µs |
    | --- | ---: |
    | tiny | 3.1 |
    """
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _peers(report: Report) -> list[str]:
    """The names of all that is not fastnn, in the order of the runners."""
    names = dict.fromkeys(timing.name for result in report.results for timing in result.timings)
    return [name for name in names if name not in FASTNN]


def steps_table(report: Report) -> str:
    """Every runner on every workload."""
    header = ["workload", "runner", "µs a step", "best", "rows/s", "GFLOP/s", "% of peak", "ratio"]
    rows = []
    for result in report.results:
        ours = result.ours
        for timing in sorted(result.timings, key=lambda t: t.median):
            rows.append(
                [
                    result.workload.name,
                    timing.label,
                    number(1e6 * timing.median),
                    number(1e6 * timing.best),
                    f"{result.workload.batch / timing.median:,.0f}",
                    number(result.gflops(timing)),
                    number(result.percent_of_peak(timing)),
                    number(None if ours is None else timing.median / ours.median),
                ]
            )
    return markdown(header, rows, words=2)


def ratios_table(report: Report) -> str:
    """fastnn on every workload, and how many times longer each peer takes."""
    peers = _peers(report)
    header = ["workload", "µs a step", "rows/s", "GFLOP/s", "% of peak", *(TITLES.get(name, name) for name in peers)]
    rows = []
    for result in report.results:
        ours = result.ours
        if ours is None:
            continue
        rows.append(
            [
                f"{result.workload.name} ({ours.name})",
                number(1e6 * ours.median),
                f"{result.workload.batch / ours.median:,.0f}",
                number(result.gflops(ours)),
                number(result.percent_of_peak(ours)),
                *(number(result.ratio(name), "x") for name in peers),
            ]
        )
    return markdown(header, rows)


def verdicts(result: Result) -> dict[str, tuple[float, float | None]]:
    """(target, measured) of each thing aimed at on this workload; measured None: the peer did not run."""
    target, ours = result.target, result.ours
    if target is None:
        return {}
    found: dict[str, tuple[float, float | None]] = {
        name: (aim, result.ratio(name)) for name, aim in target.ratios.items()
    }
    if target.peak is not None:
        found["peak"] = (target.peak, None if ours is None else result.percent_of_peak(ours))
    return found


def targets_table(report: Report) -> str:
    """Each target, what was measured, and whether that reaches it."""
    header = ["workload", *(TITLES[name] for name in ("torch", "jax", "sklearn")), "% of peak", "all reached"]
    rows = []
    for result in report.results:
        judged = verdicts(result)
        if not judged:
            continue
        cells = [_verdict(*judged[name]) if name in judged else "-" for name in ("torch", "jax", "sklearn", "peak")]
        answers = [got is not None and got >= aim for aim, got in judged.values()]
        unknown = any(got is None for _, got in judged.values())
        rows.append([result.workload.name, *cells, "yes" if all(answers) else "n/a" if unknown else "no"])
    return markdown(header, rows)


def _verdict(aim: float, measured: float | None) -> str:
    if measured is None:
        return f"n/a of {aim:g}"
    return f"{number(measured)} of {aim:g}: {'yes' if measured >= aim else 'no'}"


def processor() -> str:
    """What the CPU calls itself, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]}, {platform.machine()}" if named else platform.machine()


def machine_lines(report: Report) -> str:
    """The machine, in words."""
    peaks = [peak for result in report.results for peak in result.peaks]
    one = statistics.median(p[0] for p in peaks) if peaks else None
    all_ = statistics.median(p[1] for p in peaks) if peaks else None
    lines = [
        f"{usable()} CPUs ({processor()}), Python {platform.python_version()}, float32, Adam.",
        f"FMA peak: {number(one)} GFLOP/s on one core, {number(all_)} on all at once (medians of this run).",
    ]
    for cores, (copied, summed) in report.bandwidth.items():
        lines.append(f"Memory, {cores}: copy {number(copied)} GB/s, triad {number(summed)} GB/s.")
    if report.load is not None and report.load > BUSY:
        lines.append(f"Others use this machine (load {report.load:.1f} before the run): the times are not its own.")
    versions = dict.fromkeys(timing.version for result in report.results for timing in result.timings)
    lines.append(f"Runners: {', '.join(versions)}.")
    lines += [f"Left out: {reason}." for reason in report.left_out]
    if report.quick:
        lines.append("Quick: a few batches each, to see that it works. The times say nothing.")
    return "\n".join(lines)


def text(report: Report) -> str:
    """All of it, in Markdown; the targets only where there is a peer to compare with."""
    parts = [machine_lines(report), steps_table(report), ratios_table(report)]
    aims = {name for target in TARGETS.values() for name in target.ratios}
    if aims & set(_peers(report)):
        parts.append(targets_table(report))
    return "\n\n".join(parts)


def as_dict(report: Report) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "machine": {
            "cpus": usable(),
            "processor": processor(),
            "load_before": report.load,
            "python": platform.python_version(),
            "bandwidth_gb_s": {cores: {"copy": c, "triad": t} for cores, (c, t) in report.bandwidth.items()},
        },
        "quick": report.quick,
        "left_out": report.left_out,
        "workloads": [_result(result) for result in report.results],
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        **asdict(result.workload),
        "flops_a_step": result.workload.flops,
        "fma_peak_gflops": [{"one": one, "all": all_} for one, all_ in result.peaks],
        "runners": [_timing(result, timing) for timing in result.timings],
        "ours": result.ours.name if result.ours else None,
        "ratios": {name: result.ratio(name) for name in dict.fromkeys(t.name for t in result.timings)},
        "targets": {
            name: {"target": aim, "measured": got, "reached": None if got is None else got >= aim}
            for name, (aim, got) in verdicts(result).items()
        },
    }


def _timing(result: Result, timing: Timing) -> dict[str, Any]:
    return {
        **asdict(timing),
        "median": timing.median,
        "best": timing.best,
        "rows_per_second": result.workload.batch / timing.median,
        "gflops": result.gflops(timing),
        "percent_of_peak": result.percent_of_peak(timing),
    }


def draw(report: Report, path: Path) -> None:
    """A PNG: how many times longer than fastnn each peer takes, on each workload, with the targets as marks."""
    peers, results = _peers(report), [result for result in report.results if result.ours]
    figure = new_figure((12, 5))
    axes = figure.subplots()
    width = 0.8 / max(1, len(peers))
    for index, name in enumerate(peers):
        at = [i + (index - (len(peers) - 1) / 2) * width for i in range(len(results))]
        ratios = [result.ratio(name) or float("nan") for result in results]
        bars = axes.bar(at, ratios, width, label=TITLES.get(name, name), color=f"C{index}")
        axes.bar_label(bars, [number(r) if r == r else "" for r in ratios], fontsize=7)
        aims = [result.target.ratios.get(name) if result.target else None for result in results]
        marks = [(x, aim) for x, aim in zip(at, aims, strict=True) if aim is not None]
        if marks:
            axes.plot(*zip(*marks, strict=True), "_", markersize=14, color="black")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(results)), [result.workload.name for result in results])
    axes.set_ylabel("time a step / fastnn's (dash: target)")
    axes.legend()
    figure.savefig(path, dpi=110)


def write(report: Report, name: Path) -> None:
    """NAME.json and, where matplotlib is installed, NAME.png."""
    json_path, png_path = Path(f"{name}.json"), Path(f"{name}.png")
    json_path.write_text(json.dumps(as_dict(report), indent=1) + "\n", encoding="utf-8")
    print(f"\nfigures: {json_path}")
    try:
        draw(report, png_path)
    except ImportError as error:
        print(f"no picture: {error}")
    else:
        print(f"picture: {png_path}")
