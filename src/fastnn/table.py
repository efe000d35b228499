"""Networks for tables: reads CSV and Parquet, checks, splits, scales, trains, predicts. Prints nothing; see `cli.py`.

A model made here has what it was trained on in its metadata, under "table": names of the features and of the target,
the task, the classes or the scaling of the target. With these `predict` needs nothing but the file.
"""

from __future__ import annotations

import lzma
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastnn import _random, _validate, nn, optim
from fastnn.errors import ModelFormatError, missing_extra
from fastnn.metrics import mae, r2, rmse
from fastnn.nn.model import Sequential
from fastnn.training.callbacks import EarlyStopping
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

Array = np.ndarray
Task = Literal["auto", "classification", "regression"]
Scalar = str | int | float | bool
PARQUET = (".parquet", ".pq")
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")  # in a target; "None" may well be a class
FEW_CLASSES = 20  # whole numbers with more values than these are taken for quantities
_SPLIT_STREAM = (1 << 64) - 2  # an epoch of this number would be shuffled alike: no run gets there
_NAMED = 20  # columns that an error names


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise missing_extra("pandas", "reading a table", "table") from error
    return pandas


# Reading ---------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], *, text: Sequence[str] = (), separator: str | None = None) -> Any:
    """The table in a CSV or Parquet file as a pandas DataFrame whose columns have names, each once.

    What ends in .parquet or .pq is Parquet, else CSV with a line of names: in UTF-8, perhaps compressed (.gz, .zip),
    with `separator` (one character of ASCII; backslash and t, as one types it in a shell, are a tab), or tabs in .tsv
    and commas otherwise. Blanks around values and names are left out. Columns named in `text` stay as they are written.

    ValueError naming the file where it is not that, OSError where it cannot be read, ImportError naming the extra
    [table] where pandas (for Parquet: pyarrow) is missing.
    """
    pandas = _pandas()
    name = os.fspath(path)
    chosen = _separator(separator, name)
    if not Path(path).exists():
        raise FileNotFoundError(f"{name} is not there")
    try:
        frame = _parquet(pandas, name) if name.lower().endswith(PARQUET) else _csv(pandas, name, text, chosen)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text in UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, pandas.errors.ParserWarning) as error:
        raise ValueError(f"{name} cannot be read: {_line(error)}") from None
    _check_names(name, [str(column) for column in frame.columns])
    if len(frame) == 0:
        raise ValueError(f"{name} has no rows")
    frame.columns = [str(column) for column in frame.columns]
    return frame


def _separator(given: str | None, name: str) -> str:
    if given is None:
        return "\t" if ".tsv" in Path(name).suffixes else ","
    separator = "\t" if given == "\\t" else given
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':  # others pandas takes for patterns
        raise ValueError(f"separator is {given!r}, expected one character of ASCII such as ';', or \\t for a tab")
    return separator


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parquet(pandas: Any, name: str) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "reading Parquet", "table") from error
    rows = parquet.read_table(name)
    # an index that pandas wrote is a column if it has a name, and nobody's data if it has none: after a shuffle
    # df.to_parquet keeps the numbers of the rows as "__index_level_0__", which whoever reads with pandas never sees
    indices = (rows.schema.pandas_metadata or {}).get("index_columns", [])
    hidden = [index for index in indices if index in rows.column_names and str(index).startswith("__index_level_")]
    return rows.drop(hidden).to_pandas(ignore_metadata=True)


def _csv(pandas: Any, name: str, text: Sequence[str], separator: str) -> Any:
    settings = {
        "sep": separator,
        "skipinitialspace": True,
        "skip_blank_lines": False,  # in a table of one column such a line is a row whose value is missing
        "encoding": "utf-8-sig",
        "low_memory": False,
    }
    as_written = {"dtype": str, "keep_default_na": False}
    try:
        names = pandas.read_csv(name, header=None, nrows=1, **settings, **as_written).iloc[0].tolist()
    except pandas.errors.EmptyDataError:
        raise ValueError("it is empty or begins with a blank line, expected a line of column names") from None
    names = [column.strip() for column in names]  # behind them too: skipinitialspace is for those before
    text = [column.strip() for column in text]
    _check_names(name, names)  # before pandas renames what is there twice
    settings |= {"header": 0, "names": names}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # longer rows than the first line
        # index_col: where rows are longer pandas would take their first value for a name of the row
        frame = pandas.read_csv(name, index_col=False, **settings)
        end = _blank_end(pandas, name, frame, settings)
        if end:  # read anew: what is missing there has made floats of whole numbers
            settings["nrows"] = len(frame) - end
            frame = pandas.read_csv(name, index_col=False, **settings)
        columns = [column for column in text if column in names]
        if columns:
            kept = pandas.read_csv(name, index_col=False, **settings, **as_written)
            frame[columns] = kept[columns]
    return frame


def _blank_end(pandas: Any, name: str, frame: Any, settings: dict[str, Any]) -> int:
    """How many blank lines end the file. Of one column: 1 at most, for others may be rows whose value is missing.

    A row of separators alone is not blank, but missing here alike. Rows and blank lines are told apart by their number:
    where a blank line elsewhere makes up for such a row at the end, that line stays and is an error by itself.
    """
    end = 0
    while end < len(frame) and frame.iloc[len(frame) - 1 - end].isna().all():
        end += 1
    if end == 0:
        return 0
    rows = len(pandas.read_csv(name, index_col=False, **settings | {"skip_blank_lines": True}))
    return min(end, len(frame) - rows, 1 if frame.shape[1] == 1 else end)


_INDEX = ": if it is the row index of a DataFrame, write the file with df.to_csv(..., index=False)"


def _check_names(name: str, names: Sequence[str]) -> None:
    for number, column in enumerate(names, start=1):
        if not column.strip():
            raise ValueError(
                f"{name}: column {number} has no name, expected one for each{_INDEX if number == 1 else ''}"
            )
    twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if twice:
        raise ValueError(f"{name} has several columns of the name {_list(twice)}, expected each once")


def _list(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def numbers(frame: Any, columns: Sequence[str], name: str, *, hint: str = "") -> Array:
    """These columns as numbers (rows, columns), float64; True is 1.

    ValueError naming all columns with missing values, text or infinity in them, each with how many and an example.
    """
    values = np.empty((len(frame), len(columns)))
    wrong: dict[str, list[str]] = {"missing values": [], "what is no number": [], "infinity": []}
    for index, column in enumerate(columns):
        values[:, index], problems = _column(frame[column])
        for what, (count, example) in problems.items():
            wrong[what].append(f"{column!r} ({count:,} of {len(frame):,} rows{example})")
    found = [f"{what} in {_places(places)}" for what, places in wrong.items() if places]
    if found:
        raise ValueError(f"{name} has {'; '.join(found)}: fill or encode them{hint}")
    return values


def _places(places: list[str]) -> str:
    return ", ".join(places[:_NAMED]) + (f" and {len(places) - _NAMED} more columns" if len(places) > _NAMED else "")


def _column(series: Any) -> tuple[Array, dict[str, tuple[int, str]]]:
    """One column as float64, and how many of its values are not numbers, with an example."""
    pandas = _pandas()
    types = pandas.api.types
    missing = series.isna().to_numpy()
    if types.is_bool_dtype(series.dtype) or (
        types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series)
    ):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        other = np.zeros(len(series), bool)
    else:
        plain = series.astype(object)
        if types.is_datetime64_any_dtype(series.dtype) or types.is_timedelta64_dtype(series.dtype):
            values = np.full(len(series), np.nan)
        else:
            values = pandas.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        other = np.isnan(values) & ~missing
    problems = {}
    if missing.any():
        problems["missing values"] = (int(missing.sum()), "")
    if other.any():
        example = str(series[other].iloc[0])
        problems["what is no number"] = (int(other.sum()), f", such as {example[:30]!r}")
    if np.isinf(values).any():
        problems["infinity"] = (int(np.isinf(values).sum()), "")
    return values, problems


# The target ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What is to be predicted: classes and the labels (n,) of the rows, or numbers (n,)."""

    name: str
    values: Array  # int64 labels, or float64
    classes: list[Scalar] | None  # None: numbers
    guessed: bool = False

    @property
    def task(self) -> str:
        return "regression" if self.classes is None else "classification"


def target(series: Any, name: str, task: Task = "auto") -> Target:
    """The column as a target. "auto": text, truth values, two values or few whole numbers are classes, others numbers.

    Classes are what occurs in the column: text that looks like numbers becomes numbers only if these are written alike,
    so that "007", "07" and "7" are three. Digits after a leading zero are no number to "auto": a code.

    ValueError where values are missing, all are the same, or they do not fit the task.
    """
    if task not in ("auto", "classification", "regression"):
        raise ValueError(f"task is {task!r}, expected 'auto', 'classification' or 'regression'")
    real, labels = _target_values(series, name)
    distinct = list(dict.fromkeys(labels))
    as_numbers = task == "regression" or (task == "auto" and _looks_like_numbers(real, labels))
    if len(distinct) == 1 or (as_numbers and real is not None and np.ptp(real) == 0):
        raise ValueError(
            f"the target {name!r} is {distinct[0]!r} in all {len(labels):,} rows: there is nothing to learn"
        )
    if as_numbers:
        if real is None:
            example = next(label for label in distinct if not _is_number(label))
            raise ValueError(f"the target {name!r} has text such as {example!r}, expected numbers for a regression")
        return Target(name, real, None, task == "auto")
    if len(distinct) * 2 > len(labels):
        raise ValueError(
            f"the target {name!r} has {len(distinct):,} different values in {len(labels):,} rows, expected classes "
            f"that come more than once" + (", or --task regression" if real is not None else "")
        )
    classes = sorted(distinct)
    number = {label: index for index, label in enumerate(classes)}
    return Target(name, np.array([number[label] for label in labels], np.int64), classes, task == "auto")


def _target_values(series: Any, name: str) -> tuple[Array | None, list[Any]]:
    """The column as numbers (None where it has text) and as labels: as they are written, see `target`."""
    pandas = _pandas()
    types = pandas.api.types
    as_text = not (types.is_numeric_dtype(series.dtype) or types.is_bool_dtype(series.dtype))
    missing = series.isna().to_numpy()
    if as_text:
        written = ["" if lost else str(value).strip() for value, lost in zip(series, missing, strict=True)]
        missing = np.array([value in MISSING for value in written])
    if missing.any():
        raise ValueError(
            f"the target {name!r} is missing in {int(missing.sum()):,} of {len(series):,} rows: leave them out"
        )
    if types.is_bool_dtype(series.dtype):
        return None, [bool(value) for value in series]
    try:
        real = np.array([_number(value) for value in written]) if as_text else series.to_numpy(dtype=np.float64)
    except ValueError:
        return None, written
    if np.isinf(real).any():
        raise ValueError(f"the target {name!r} is infinite in {int(np.isinf(real).sum()):,} of {len(series):,} rows")
    if as_text:
        return real, _labels(written)
    return real, series.tolist()


def _labels(written: list[str]) -> list[Any]:
    """As whole numbers or as numbers where all of them are written just as here; else the text."""
    distinct = set(written)
    whole = all(_WHOLE.fullmatch(text) and abs(int(text)) < 2**63 for text in distinct)  # Parquet has 64 bits
    if whole:
        return [int(text) for text in written]
    if all(repr(float(text)) == text for text in distinct):
        return [float(text) for text in written]
    return list(written)


_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_CODE = re.compile(r"0[0-9]+")


def _number(text: str) -> float:
    if "_" in text:  # which Python allows in numbers
        raise ValueError(text)
    return float(text)


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(_number(str(text)))
    except ValueError:
        return False


def _looks_like_numbers(real: Array | None, labels: list[Any]) -> bool:
    """Quantities, not classes."""
    if real is None or any(isinstance(label, str) and _CODE.fullmatch(label) for label in labels):
        return False
    distinct = len(np.unique(real))
    few = distinct <= FEW_CLASSES and 5 * distinct <= len(real)
    return not (distinct == 2 or (few and np.array_equal(real, np.floor(real))))


# Splitting -------------------------------------------------------------------------------------------------


def split(count: int, fractions: dict[str, float], seed: int, labels: Array | None = None) -> dict[str, Array]:
    """Row numbers, ascending, drawn at random: for each name its fraction of the rows, and "training" the others.

    With `labels` every class is divided in these proportions, to within one row: shuffled rows, sorted by class, are
    dealt out at equal distances. ValueError where a part would have no row.

    >>> {name: len(rows) for name, rows in split(10, {"validation": 0.2, "test": 0.3}, seed=0).items()}
    {'validation': 2, 'test': 3, 'training': 5}
    """
    order = _random.permutation(seed, _SPLIT_STREAM, count)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    parts: dict[str, Array] = {}
    taken = 0.0
    for name, fraction in fractions.items():
        share = _validate.number(name, fraction, 0.0, 1.0, open_low=True, open_high=True)
        share = share / (1.0 - taken) if taken + share < 1.0 else 1.0
        taken += fraction
        dealt = np.floor(np.arange(len(order) + 1) * share + 0.5).astype(np.int64)
        chosen = np.diff(dealt) > 0
        parts[name] = np.sort(order[chosen])
        order = order[~chosen]
    parts["training"] = np.sort(order)
    for name, rows in parts.items():
        if len(rows) == 0:
            shares = ", ".join(f"{key} {value:g}" for key, value in fractions.items())
            raise ValueError(f"{shares} of {count:,} rows leave none for {name}, expected one at least")
    return parts


# Training --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How a network for a table is made and trained: hidden layers of relu, Adam, early stopping on the validation."""

    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 200
    batch_size: int = 32
    lr: float = 1e-3
    seed: int = 0
    validation: float = 0.2
    test: float = 0.0
    patience: int = 20
    backend: str = "auto"
    verbose: bool | None = None


@dataclass(frozen=True)
class Description:
    """What a model's metadata say of the table it learned from."""

    task: str
    target: str
    features: list[str]
    classes: list[Scalar] | None = None
    mean: float = 0.0  # of the target: prediction = mean + scale * output
    scale: float = 1.0

    @classmethod
    def of(cls, model: Sequential) -> Description:
        """That of a loaded model. ValueError where it has none, ModelFormatError where it does not fit the model."""
        kept = model.metadata.get("table")
        if kept is None:
            raise ValueError("the model has no description of a table, expected one that `fastnn train` made")
        try:
            made = cls(**kept)
        except TypeError as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None
        made._check(model)
        return made

    def _check(self, model: Sequential) -> None:
        outputs = 1 if self.classes is None else len(self.classes) if isinstance(self.classes, list) else -1
        named = isinstance(self.features, list) and all(isinstance(name, str) for name in self.features)
        if not named or not isinstance(self.target, str) or not model.built or len(self.features) != model.plan.inputs:
            raise ModelFormatError("metadata['table'] has features or a target that are not the model's")
        if outputs != model.plan.outputs or (self.task == "classification") != (self.classes is not None):
            raise ModelFormatError("metadata['table'] has a task or classes that are not the model's")
        try:
            _validate.number("mean", self.mean)
            _validate.number("scale", self.scale, low=0.0, open_low=True)
        except (TypeError, ValueError) as error:
            raise ModelFormatError(f"metadata['table']: {error}") from None


@dataclass(frozen=True)
class Result:
    """A trained model, how it came to be, and how well it does: {"validation": {"accuracy": ...}, ...}."""

    model: Sequential
    description: Description
    history: History
    scores: dict[str, dict[str, float]]
    rows: dict[str, int]  # of each part
    guessed: bool  # whether the task was
    best_epoch: int | None
    stopped: bool  # before the last epoch
    backend: str


def train(
    path: str | os.PathLike[str],
    target_name: str,
    settings: Settings | None = None,
    *,
    task: Task = "auto",
    ignore: Sequence[str] = (),
    separator: str | None = None,
) -> Result:
    """Train a network to predict one column of the table in `path` from all others but those to ignore.

    The features are normalised within the model; numbers to predict are scaled to mean 0 and variance 1 and back.
    ValueError, before training, for what the file or the settings have wrong, naming columns; see also `read`.
    """
    chosen = settings or Settings()
    name = os.fspath(path)
    frame = read(path, text=(target_name,), separator=separator)
    names = list(frame.columns)
    target_name, *ignore = (_known(wanted, names, name) for wanted in (target_name, *ignore))
    features = [column for column in names if column != target_name and column not in ignore]
    if not features:
        raise ValueError(f"{name} has no column beside the target {target_name!r} to learn from")
    if len(frame) == 1:
        raise ValueError(f"{name} has 1 row, expected rows to learn from and others to validate with")
    aim = target(frame[target_name], target_name, task)
    x = numbers(frame, features, name, hint=", or leave columns out with --ignore")
    fractions = {"validation": chosen.validation} | ({"test": chosen.test} if chosen.test else {})
    parts = split(len(x), fractions, chosen.seed, None if aim.classes is None else aim.values)
    return _fit(x, aim, parts, features, chosen)


def _known(wanted: str, names: Sequence[str], name: str) -> str:
    """The column of this name, or, as names in a CSV have no blanks around them, of the name without them."""
    found = wanted if wanted in names else wanted.strip()
    if found not in names:
        raise ValueError(f"{name} has no column {found!r}, expected one of: {_list(names)}")
    return found


def _fit(x: Array, aim: Target, parts: dict[str, Array], features: list[str], settings: Settings) -> Result:
    mean, scale = (0.0, 1.0) if aim.classes is not None else _moments(aim.values[parts["training"]])
    description = Description(aim.task, aim.name, features, aim.classes, mean, scale)
    y = aim.values if aim.classes is not None else (aim.values - mean) / scale
    model = network(settings.hidden, 1 if aim.classes is None else len(aim.classes))
    stopping = EarlyStopping(patience=settings.patience)
    trainer = Trainer(
        model,
        "mse" if aim.classes is None else "cross_entropy",
        optim.Adam(settings.lr),
        metrics=["r2" if aim.classes is None else "accuracy"],
        seed=settings.seed,
        backend=settings.backend,
    )
    learn, held = parts["training"], parts["validation"]
    history = trainer.fit(
        x[learn],
        y[learn],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        validation=(x[held], y[held]),
        callbacks=[stopping],
        verbose=settings.verbose,
    )
    model.feature_names = features
    model.metadata = {"table": asdict(description)}
    scores = {
        part: score(model, description, x[rows], aim.values[rows]) for part, rows in parts.items() if part != "training"
    }
    return Result(
        model=model,
        description=description,
        history=history,
        scores=scores,
        rows={part: len(rows) for part, rows in parts.items()},
        guessed=aim.guessed,
        best_epoch=stopping.best_epoch,
        stopped=stopping.stopped,
        backend=trainer.backend.name,
    )


def _moments(values: Array) -> tuple[float, float]:
    """Mean and standard deviation; 1 where all the values are the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(np.mean(values)), float(np.std(values))
    if not math.isfinite(deviation):
        raise ValueError("the target has numbers that are too large, expected squares below 1.8e308: scale it")
    return mean, deviation or 1.0


def network(hidden: Sequence[int], outputs: int) -> Sequential:
    """Normalize, hidden layers of relu, linear outputs: the logits of classes, or one number."""
    return Sequential([nn.Normalize(), *(nn.Dense(units, activation="relu") for units in hidden), nn.Dense(outputs)])


def score(model: Sequential, description: Description, x: Array, truth: Array) -> dict[str, float]:
    """Accuracy, and what always naming the largest class of these rows would have; or errors in the target's unit."""
    if description.classes is not None:
        right = model.predict_class(x) == truth
        return {"accuracy": float(right.mean()), "largest class": float(np.bincount(truth).max() / len(truth))}
    prediction = answers(model, description, x)
    return {metric.__name__: metric(truth[:, None], prediction[:, None]) for metric in (mae, rmse, r2)}


def answers(model: Sequential, description: Description, x: Array) -> Array:
    """Predicted numbers (n,) in the target's own unit, float64; or labels (n,)."""
    if description.classes is not None:
        return model.predict_class(x)
    scaled: Array = description.mean + description.scale * model.predict(x)[:, 0].astype(np.float64)
    return scaled


# Predicting ------------------------------------------------------------------------------------------------


def predict(
    model: Sequential, path: str | os.PathLike[str], *, proba: bool = False, separator: str | None = None
) -> tuple[Any, list[str]]:
    """What the model says of each row of the table in `path`: a DataFrame, and the columns that were not looked at.

    Its column has the name of the target; with `proba`, which classes alone have, a column "probability of c" for each.
    ValueError where a feature is missing, has something else than numbers, or where two columns would have one name.
    """
    pandas = _pandas()
    description = Description.of(model)
    if proba and description.classes is None:
        raise ValueError(f"this model predicts {description.target!r}, a number, expected one of classes for --proba")
    columns = [f"probability of {label}" for label in description.classes or ()] if proba else []
    if description.target in columns:
        raise ValueError(f"the target is {description.target!r}, as a column of --proba is: predict without it")
    name = os.fspath(path)
    frame = read(path, separator=separator)
    absent = [column for column in description.features if column not in frame.columns]
    if absent:
        raise ValueError(f"{name} has no column {_list(absent)}, which the model was trained with")
    extra = [column for column in frame.columns if column not in description.features]
    x = numbers(frame, description.features, name)
    found = answers(model, description, x)
    if description.classes is not None:
        table: dict[str, Any] = {description.target: [description.classes[label] for label in found]}
        if proba:
            table |= dict(zip(columns, model.predict_proba(x).T, strict=True))
    else:
        table = {description.target: found}
    return pandas.DataFrame(table), extra


def write(frame: Any, path: str | os.PathLike[str]) -> None:
    """The table into a file: Parquet where it ends in .parquet or .pq, else CSV."""
    if os.fspath(path).lower().endswith(PARQUET):
        frame.to_parquet(path, index=False, engine="pyarrow")
    else:
        frame.to_csv(path, index=False)


def draw(result: Result, path: str | os.PathLike[str]) -> None:
    """A PNG of the loss and the metric over the epochs. ImportError naming the extra [plot] without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "drawing", "plot") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    result.history.plot(axes)
    if result.best_epoch is not None:
        axes.axvline(result.best_epoch, color="grey", linewidth=0.8)
    axes.set_title(f"{result.description.target}: kept are the parameters of epoch {result.best_epoch}")
    figure.savefig(path, dpi=110, format="png")
