"""The command `fastnn`: demo, train, predict, bench, info. Parses and prints; the work is done elsewhere."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastnn import backends, datasets, tabular
from fastnn._version import __version__
from fastnn.bench import demo, ladder
from fastnn.bench import train as race
from fastnn.bench.runners import OURS
from fastnn.config import show_config
from fastnn.nn.reading import load


def _demo(options: argparse.Namespace) -> None:
    _writable_png("--out", options.out)
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


def _writable(option: str, path: str, *inputs: str) -> None:
    """ValueError before hours of work, not after them; also where the path is that of an input."""
    target = Path(path)
    if target.exists() and any(Path(file).exists() and target.samefile(file) for file in inputs):
        raise ValueError(f"{option} is {path!r}, which is read, expected another file")
    if not target.parent.is_dir() or target.is_dir() or not target.name:
        raise ValueError(f"{option} is {path!r}, expected the name of a file in a directory that exists")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ValueError(f"{option} is {path!r}, which cannot be written")


def _writable_png(option: str, path: str) -> None:
    if Path(path).suffix.lower() != ".png" or not Path(path).parent.is_dir():
        raise ValueError(f"{option} is {path!r}, expected the name of a .png file in a directory that exists")
    _writable(option, path)


def _picture(options: argparse.Namespace) -> str | None:
    """Where the curves go: where asked, else beside the model if matplotlib is there to draw them."""
    if options.plot is not None:
        _writable_png("--plot", options.plot)
        return str(options.plot)
    beside_a_device = Path(options.out).exists() and not Path(options.out).is_file()
    if options.no_plot or beside_a_device or importlib.util.find_spec("matplotlib") is None:
        return None
    return f"{options.out}.png"


def _train(options: argparse.Namespace) -> None:
    _writable("--out", options.out, options.data)
    picture = _picture(options)
    settings = tabular.Settings(
        hidden=options.hidden,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
        validation=options.validation,
        test=options.test,
        patience=options.patience,
        backend=options.backend,
        verbose=False if options.quiet else None,
    )
    result = tabular.train(
        options.data,
        options.target,
        settings,
        task=options.task,
        ignore=[name for names in options.ignore for name in names.split(",")],
        separator=options.separator,
    )
    result.model.save(options.out)
    if picture is not None:
        tabular.draw(result, picture)
    _report(result)
    print(f"model: {options.out}" + ("" if picture is None else f", curves: {picture}"))


def _report(result: tabular.Result) -> None:
    about, history = result.description, result.history
    classes = "" if about.classes is None else f" into {len(about.classes)} classes"
    guess = " (a guess: --task says otherwise)" if result.guessed else ""
    print(f"{about.task}{classes} of {about.target!r} by {len(about.features)} features{guess}")
    print(result.model.summary())
    parts = ", ".join(f"{count:,} for {part}" for part, count in result.rows.items())
    print(f"rows: {parts}")
    end = "stopped early, " if result.stopped else ""
    seconds = sum(history["seconds"])
    print(f"{len(history)} epochs in {seconds:.3g} s on {result.backend}, {end}best: epoch {result.best_epoch}")
    for part, scores in result.scores.items():
        print(f"{part}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def _predict(options: argparse.Namespace) -> None:
    if options.out is not None:
        _writable("--out", options.out, options.data, options.model)
    frame, extra = tabular.predict(load(options.model), options.data, proba=options.proba, separator=options.separator)
    if extra:
        print(f"fastnn: not looked at: {', '.join(extra)}", file=sys.stderr)
    if options.out is None:
        frame.to_csv(sys.stdout, index=False)
    else:
        tabular.write(frame, options.out)


def _ladder(options: argparse.Namespace) -> None:
    _writable_png("--out", options.out)
    results = {}
    for problem in ladder.PROBLEMS:
        results[problem.name] = ladder.climb(problem)
        print(ladder.table(problem, results[problem.name]), end="\n\n")
    missing = [name for name in ladder.COMPILED if name not in backends.available()]
    if missing:
        print(f"left out, not installed here: {', '.join(missing)}")
    ladder.draw(results, options.out)
    print(f"picture: {options.out}")


def _race(options: argparse.Namespace) -> None:
    race.run(options, OURS)


def _info(options: argparse.Namespace) -> None:
    show_config()


def _sizes(text: str) -> tuple[int, ...]:
    """ "128,64" as numbers; "none" as no hidden layer."""
    try:
        sizes = () if text == "none" else tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 128,64, and not none")
    return sizes


def _add_train(commands: Any) -> None:
    usual = tabular.Settings()
    fit = commands.add_parser("train", help="train a network on a table (CSV or Parquet) to predict one of its columns")
    fit.add_argument("data", help="a file of numbers with a line of column names; the target may be text")
    fit.add_argument("--target", required=True, metavar="COL", help="the column to predict")
    fit.add_argument(
        "--task", default="auto", choices=["auto", "classification", "regression"], help="classes or numbers"
    )
    fit.add_argument("--ignore", action="append", default=[], metavar="COL,...", help="columns not to learn from")
    fit.add_argument(
        "--separator", metavar="CHAR", help="between values of a CSV, \\t for a tab (default: comma; a tab in .tsv)"
    )
    fit.add_argument("--out", default="model.fastnn", metavar="FILE", help="where the model goes (%(default)s)")
    fit.add_argument(
        "--hidden", type=_sizes, default=usual.hidden, metavar="N,...", help="units of hidden layers (128,64)"
    )
    fit.add_argument("--epochs", type=int, default=usual.epochs, help="passes over the data, at most (%(default)s)")
    fit.add_argument("--batch-size", type=int, default=usual.batch_size, help="rows a step (%(default)s)")
    fit.add_argument("--lr", type=float, default=usual.lr, help="learning rate of Adam (%(default)s)")
    fit.add_argument("--patience", type=int, default=usual.patience, help="epochs without a better loss (%(default)s)")
    fit.add_argument(
        "--validation", type=float, default=usual.validation, help="part of the rows to stop by (%(default)s)"
    )
    fit.add_argument("--test", type=float, default=usual.test, help="part of the rows to measure by alone (none)")
    fit.add_argument("--seed", type=int, default=usual.seed)
    fit.add_argument("--backend", default="auto", choices=["auto", *backends.BACKENDS], help="who computes")
    fit.add_argument("--plot", metavar="PNG", help="where the curves go (beside the model, if matplotlib is installed)")
    fit.add_argument("--no-plot", action="store_true", help="draw no curves")
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_train)


def _add_predict(commands: Any) -> None:
    say = commands.add_parser("predict", help="what a model of `fastnn train` says of the rows of a table")
    say.add_argument("model", help="the file that `fastnn train` wrote")
    say.add_argument("data", help="CSV or Parquet; columns are found by their names")
    say.add_argument("--out", metavar="FILE", help="a .csv or .parquet file (default: CSV to the terminal)")
    say.add_argument("--proba", action="store_true", help="a probability for each class as well")
    say.add_argument(
        "--separator", metavar="CHAR", help="between values of a CSV, \\t for a tab (default: comma; a tab in .tsv)"
    )
    say.set_defaults(run=_predict)


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

    _add_train(commands)
    _add_predict(commands)

    bench = commands.add_parser("bench", help="measure this machine").add_subparsers(required=True, metavar="what")
    rungs = bench.add_parser("ladder", help="explicit loops, vectorised, compiled: the same steps, timed")
    rungs.add_argument("--out", default="ladder.png", metavar="PNG", help="where the picture goes")
    rungs.set_defaults(run=_ladder)
    steps = bench.add_parser("train", help="training steps of eight networks on each backend, and NumPy's by hand")
    race.add_options(steps, OURS)
    steps.set_defaults(run=_race)

    info = commands.add_parser("info", help="backend, instruction set, threads, versions")
    info.set_defaults(run=_info)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 with one line on stderr for what the user can mend."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except BrokenPipeError:  # `fastnn predict ... | head`: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE
    except (ValueError, OSError, ImportError, RuntimeError) as error:  # RuntimeError: FASTNN_ISA, a diverging loss
        print(f"fastnn: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:  # --hidden 999999999999; NumPy's error says how much, others say nothing
        print(f"fastnn: not enough memory{f': {error}' if str(error) else ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
