"""The command `fastnn`: demo, bench, info. Parses and prints; the work is done elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn import backends, datasets, demo, ladder
from fastnn._version import __version__
from fastnn.bench import train
from fastnn.bench.runners import OURS
from fastnn.config import show_config


def _demo(options: argparse.Namespace) -> None:
    _writable_png(options.out)
    images = datasets.find(options.data)
    print(f"{images.name}: {len(images.x):,} images to learn from, {len(images.x_test):,} to test with")
    result = demo.run(
        images, backend=options.backend, epochs=options.epochs, seed=options.seed, verbose=not options.quiet
    )
    print(result.model.summary())
    print(f"test accuracy {result.accuracy:.4f}")
    print(f"{result.rows_per_second:,.0f} rows per second on the {result.backend} backend")
    demo.draw(result, images, options.out)
    print(f"curves and predictions: {options.out}")


def _writable_png(path: str) -> None:
    """ValueError before hours of work, not after them."""
    target = Path(path)
    if target.suffix.lower() != ".png" or not target.parent.is_dir() or target.is_dir():
        raise ValueError(f"--out is {path!r}, expected the name of a .png file in a directory that exists")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ValueError(f"--out is {path!r}, which cannot be written")


def _ladder(options: argparse.Namespace) -> None:
    _writable_png(options.out)
    results = {}
    for problem in ladder.PROBLEMS:
        results[problem.name] = ladder.climb(problem)
        print(ladder.table(problem, results[problem.name]), end="\n\n")
    missing = [name for name in ladder.COMPILED if name not in backends.available()]
    if missing:
        print(f"left out, not installed here: {', '.join(missing)}")
    ladder.draw(results, options.out)
    print(f"picture: {options.out}")


def _train(options: argparse.Namespace) -> None:
    train.run(options, OURS)


def _info(options: argparse.Namespace) -> None:
    show_config()


def parser() -> argparse.ArgumentParser:
    """The command line. Every command's function takes the parsed options."""
    root = argparse.ArgumentParser(prog="fastnn", description="Neural networks on the CPU, at the speed of it.")
    root.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = root.add_subparsers(required=True, metavar="command")

    learn = commands.add_parser("demo", help="train a classifier on real images and draw the result")
    learn.add_argument("--data", metavar="DIR", help="a directory of idx files (as MNIST's), or 'digits'")
    learn.add_argument("--backend", default="auto", choices=["auto", *backends.BACKENDS], help="who computes")
    learn.add_argument("--epochs", type=int, help="passes over the data")
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument("--out", default="demo.png", metavar="PNG", help="where the picture goes")
    learn.add_argument("--quiet", action="store_true", help="no progress bar")
    learn.set_defaults(run=_demo)

    bench = commands.add_parser("bench", help="measure this machine").add_subparsers(required=True, metavar="what")
    rungs = bench.add_parser("ladder", help="explicit loops, vectorised, compiled: the same steps, timed")
    rungs.add_argument("--out", default="ladder.png", metavar="PNG", help="where the picture goes")
    rungs.set_defaults(run=_ladder)
    race = bench.add_parser("train", help="training steps of eight networks on each backend, and NumPy's by hand")
    train.add_options(race, OURS)
    race.set_defaults(run=_train)

    info = commands.add_parser("info", help="backend, instruction set, threads, versions")
    info.set_defaults(run=_info)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 with one line on stderr for what the user can mend."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError, RuntimeError) as error:  # RuntimeError: FASTNN_ISA, a diverging loss
        print(f"fastnn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
