"""The command `fastnn`: train, predict, report, export and others. Parses and prints; the work is done elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastnn import _plot, backends, datasets, exporting, tabular
from fastnn._version import __version__
from fastnn.bench import demo, ladder
from fastnn.bench import train as race
from fastnn.bench.runners import OURS
from fastnn.config import show_config
from fastnn.errors import FallbackWarning, PrecisionWarning, TableWarning
from fastnn.loading import load as load_any
from fastnn.nn.reading import load
from fastnn.serving.onnx_graph import OPSETS


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
    if target.is_socket():
        raise ValueError(f"{option} is {path!r}, a socket, expected the name of a file")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ValueError(f"{option} is {path!r}, which cannot be written")


def _writable_png(option: str, path: str) -> None:
    if Path(path).suffix.lower() != ".png" or not Path(path).parent.is_dir():
        raise ValueError(f"{option} is {path!r}, expected the name of a .png file in a directory that exists")
    _writable(option, path)
    _plot.require()


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
        class_weight=options.class_weight,
    )
    result = tabular.train(
        options.data,
        options.target,
        settings,
        task=options.task,
        ignore=options.ignore,
        **_dialect(options),
        encode=options.encode,
        fill=options.fill,
        drop_missing=options.drop_missing,
        weight=options.weight,
    )
    result.model.save(options.out)
    if picture is not None:
        tabular.draw(result, picture)
    _report(result)
    print(f"model: {options.out}" + ("" if picture is None else f", curves: {picture}"))


def _report(result: tabular.Result) -> None:
    about, history = result.description, result.history
    classes = "" if about.classes is None else f" into {len(about.classes)} classes"
    guess = " (guessed; --task decides)" if result.guessed else ""
    inputs, columns = result.model.plan.inputs, len(about.features)
    encoded = f" (of {columns} columns)" if inputs != columns else ""
    print(f"{about.task}{classes} of {about.target!r} by {inputs} feature{'s' * (inputs != 1)}{encoded}{guess}")
    print(result.model.summary())
    parts = ", ".join(f"{count:,} for {part}" for part, count in result.rows.items())
    print(f"rows: {parts}" + (f"; {result.left_out:,} with missing values left out" if result.left_out else ""))
    end = "stopped early, " if result.stopped else ""
    seconds = sum(history["seconds"])
    print(f"{len(history)} epochs in {seconds:.3g} s on {result.backend}, {end}best: epoch {result.best_epoch}")
    if not result.stopped and result.best_epoch is not None and result.best_epoch > 0.9 * len(history):
        print(f"the best epoch is among the last: more may help, as with --epochs {2 * len(history)}")
    for part, scores in result.scores.items():
        print(f"{part}: " + ", ".join(_score(name, value) for name, value in scores.items()))


def _score(name: str, value: float) -> str:
    """Shares with their four decimals, errors in the target's unit with four digits."""
    return f"{name} {value:.4f}" if name in ("accuracy", "largest class", "r2") else f"{name} {value:.4g}"


def _dialect(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("separator", "decimal", "encoding")}


def _predict(options: argparse.Namespace) -> None:
    if options.out is not None:
        _writable("--out", options.out, options.data, options.model)
        try:
            tabular.check_writable(options.out)
        except ValueError as error:
            raise ValueError(f"--out: {error}") from None
    if options.model == options.data == tabular.STANDARD_INPUT:
        raise ValueError("model and data are both '-', expected one of them to be a file")
    frame, extra = tabular.predict(load(options.model), options.data, proba=options.proba, **_dialect(options))
    if extra:
        print(f"fastnn: ignored columns: {', '.join(extra)}", file=sys.stderr)
    if options.out is None:
        frame.to_csv(sys.stdout, index=False)
    else:
        tabular.write(frame, options.out)


def _page(options: argparse.Namespace) -> None:
    _writable("--out", options.out, options.data, options.model)
    if options.model == options.data == tabular.STANDARD_INPUT:
        raise ValueError("model and data are both '-', expected one of them to be a file")
    extra = tabular.report(
        load_any(options.model),
        options.data,
        options.out,
        target=options.target,
        importance=not options.no_importance,
        weight=options.weight,
        **_dialect(options),
    )
    if extra:
        print(f"fastnn: ignored columns: {', '.join(extra)}", file=sys.stderr)
    print(f"report: {options.out}")


def _export(options: argparse.Namespace) -> None:
    out = exporting.place(options.model, options.to, options.out)
    _writable("--out", out, options.model)
    for sentence in exporting.export(options.model, options.to, out, opset=options.opset, input=options.input):
        print(f"fastnn: {sentence}", file=sys.stderr)
    print(f"{options.to}: {out}")


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


def _add_dialect(command: Any) -> None:
    command.add_argument(
        "--separator", metavar="CHAR", help="between values of a CSV, \\t for a tab (default: a comma; a tab in .tsv)"
    )
    command.add_argument(
        "--decimal", default=".", metavar="CHAR", help="before the decimals of numbers, . or , (default: %(default)s)"
    )
    command.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="of a CSV, such as latin-1 or utf-16 (default: %(default)s)"
    )


def _add_train(commands: Any) -> None:
    usual = tabular.Settings()
    fit = commands.add_parser("train", help="train a network on a table (CSV or Parquet) to predict one of its columns")
    fit.add_argument("data", help="a file with a line of column names, or - for standard input; the target may be text")
    fit.add_argument("--target", required=True, metavar="COL", help="the column to predict")
    fit.add_argument(
        "--task",
        default="auto",
        choices=["auto", "classification", "regression"],
        help="classes or numbers (default: guessed)",
    )

    table = fit.add_argument_group("what is in the table")
    table.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="COL,...",
        help="columns not to learn from; may be repeated; a name with a comma in it in quotes, '\"a, b\",c', or alone",
    )
    table.add_argument(
        "--encode", action="store_true", help="columns of text become columns of 0 and 1, one for each value"
    )
    table.add_argument(
        "--fill",
        choices=list(tabular.FILLS),
        help="what missing numbers become, of the rows to learn from; rows without a target are left out "
        "(default: missing values are an error)",
    )
    table.add_argument("--drop-missing", action="store_true", help="leave out rows with missing values")
    table.add_argument("--weight", metavar="COL", help="the column with the weights of the rows (default: all alike)")
    table.add_argument("--class-weight", choices=["balanced"], help="give every class the same weight in all")
    _add_dialect(table)

    how = fit.add_argument_group("how it learns")
    how.add_argument(
        "--hidden",
        type=_sizes,
        default=usual.hidden,
        metavar="N,...",
        help=f"units of hidden layers, or none (default: {','.join(map(str, usual.hidden))})",
    )
    how.add_argument(
        "--epochs",
        type=int,
        default=usual.epochs,
        metavar="N",
        help="passes over the data, at most (default: %(default)s)",
    )
    how.add_argument(
        "--batch-size", type=int, default=usual.batch_size, metavar="N", help="rows a step (default: %(default)s)"
    )
    how.add_argument("--lr", type=float, default=usual.lr, help="learning rate of Adam (default: %(default)s)")
    how.add_argument(
        "--patience",
        type=int,
        default=usual.patience,
        metavar="N",
        help="stop after so many epochs without a better validation loss (default: %(default)s)",
    )
    how.add_argument(
        "--validation",
        type=float,
        default=usual.validation,
        metavar="PART",
        help="part of the rows to choose the epoch by (default: %(default)s)",
    )
    how.add_argument(
        "--test",
        type=float,
        default=usual.test,
        metavar="PART",
        help="part of the rows to measure by alone (default: none)",
    )
    how.add_argument(
        "--seed",
        type=int,
        default=usual.seed,
        metavar="N",
        help="of the initial weights, the split and the order of rows (default: %(default)s)",
    )
    _add_backend(how)

    out = fit.add_argument_group("where it goes")
    out.add_argument("--out", default="model.fastnn", metavar="FILE", help="the model (default: %(default)s)")
    out.add_argument(
        "--plot", metavar="PNG", help="the curves (default: beside the model, where matplotlib is installed)"
    )
    out.add_argument("--no-plot", action="store_true", help="draw no curves")
    out.add_argument("--quiet", action="store_true", help="show no progress bar")
    fit.set_defaults(run=_train)


def _add_backend(command: Any) -> None:
    command.add_argument(
        "--backend",
        default="auto",
        choices=["auto", *backends.BACKENDS],
        help="what computes (default: the fastest that is installed)",
    )


def _add_data(command: Any) -> None:
    command.add_argument("data", help="CSV or Parquet, or - for standard input; columns are found by their names")


def _add_predict(commands: Any) -> None:
    say = commands.add_parser("predict", help="predict with a model of `fastnn train` for the rows of another table")
    say.add_argument("model", help="the file that `fastnn train` wrote")
    _add_data(say)
    say.add_argument("--out", metavar="FILE", help="a .csv or .parquet file (default: CSV to the terminal)")
    say.add_argument("--proba", action="store_true", help="a probability for each class as well")
    _add_dialect(say)
    say.set_defaults(run=_predict)


def _add_report(commands: Any) -> None:
    page = commands.add_parser("report", help="an HTML page on a model and what it makes of a table")
    page.add_argument("model", help="the file that `fastnn train` wrote, or `save` of an estimator")
    _add_data(page)
    page.add_argument("--target", metavar="COL", help="the column with the answers (default: the model's)")
    page.add_argument("--weight", metavar="COL", help="the column with the weights of the rows (default: all alike)")
    page.add_argument("--out", default="report.html", metavar="FILE", help="the page (default: %(default)s)")
    page.add_argument("--no-importance", action="store_true", help="do not ask which columns the model needs")
    _add_dialect(page)
    page.set_defaults(run=_page)


def _add_export(commands: Any) -> None:
    other = commands.add_parser("export", help="a model as a file of ONNX, C or PyTorch")
    other.add_argument("model", help="the file that `fastnn train` wrote, or `save` of a model or an estimator")
    other.add_argument("--to", required=True, choices=list(exporting.SUFFIXES), help="what it becomes")
    other.add_argument("--out", metavar="FILE", help="where it goes (default: beside the model, .onnx, .c or .pt2)")
    other.add_argument(
        "--input",
        choices=["float32", "float64"],
        help="with --to onnx: what its rows are (default: float32; of an estimator what it computes in)",
    )
    other.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help=f"with --to onnx: the version of its operators, {OPSETS[0]} to {OPSETS[-1]} (default: 17)",
    )
    other.set_defaults(run=_export)


def parser() -> argparse.ArgumentParser:
    """The command line. Every command's function takes the parsed options."""
    root = argparse.ArgumentParser(prog="fastnn", description="Trains neural networks on the CPU.")
    root.add_argument("--version", action="version", version=f"fastnn {__version__}")
    root.set_defaults(run=lambda options: root.print_help())
    commands = root.add_subparsers(metavar="command")

    learn = commands.add_parser("demo", help="train a classifier on real images and draw the result")
    learn.add_argument(
        "--data", metavar="DIR", help="a directory of idx files (as MNIST's), or 'digits' (default: what is installed)"
    )
    _add_backend(learn)
    learn.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help=f"passes over the data (default: {demo.FASHION.epochs}, of the small digits {demo.SMALL.epochs})",
    )
    learn.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random (default: %(default)s)")
    learn.add_argument("--out", default="demo.png", metavar="PNG", help="where the picture goes (default: %(default)s)")
    learn.add_argument("--quiet", action="store_true", help="show no progress bar")
    learn.set_defaults(run=_demo)

    _add_train(commands)
    _add_predict(commands)
    _add_report(commands)
    _add_export(commands)

    bench = commands.add_parser("bench", help="measure this machine")
    bench.set_defaults(run=lambda options: bench.print_help())
    measured = bench.add_subparsers(metavar="what")
    rungs = measured.add_parser("ladder", help="explicit loops, vectorised, compiled: the same steps, timed")
    rungs.add_argument(
        "--out", default="ladder.png", metavar="PNG", help="where the picture goes (default: %(default)s)"
    )
    rungs.set_defaults(run=_ladder)
    steps = measured.add_parser("train", help="training steps of eight networks on each backend, and NumPy's by hand")
    race.add_options(steps, OURS)
    steps.set_defaults(run=_race)

    info = commands.add_parser("info", help="backend, instruction set, threads, versions")
    info.set_defaults(run=_info)
    return root


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """The package's warnings as a line each on stderr, without the line of code that they came from."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if category in (TableWarning, PrecisionWarning, FallbackWarning):
                print(f"fastnn: {message}", file=sys.stderr)
            else:
                show(message, category, *place)

        warnings.showwarning = say  # type: ignore[assignment]
        warnings.simplefilter("always", TableWarning)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 with one line on stderr for what the user can mend."""
    options = parser().parse_args(arguments)
    try:
        with _said():
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
