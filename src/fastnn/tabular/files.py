"""Tables <-> files: CSV and Parquet as a DataFrame of pandas, columns by their names. Interprets no column."""

from __future__ import annotations

import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastnn.errors import missing_extra

PARQUET = (".parquet", ".pq")
NAMED = 20  # columns that an error names
_INDEX = ": if it is the row index of a DataFrame, write the file with df.to_csv(..., index=False)"


def pandas_module() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise missing_extra("pandas", "reading a table", "table") from error
    return pandas


def read(path: str | os.PathLike[str], *, text: Sequence[str] = (), separator: str | None = None) -> Any:
    """The table in a CSV or Parquet file as a pandas DataFrame whose columns have names, each once.

    What ends in .parquet or .pq is Parquet, else CSV with a line of names: in UTF-8, perhaps compressed (.gz, .zip),
    with `separator` (one character of ASCII; backslash and t, as one types it in a shell, are a tab), or tabs in .tsv
    and commas otherwise. Blanks around values and names are left out. Columns named in `text` stay as they are written.

    ValueError naming the file where it is not that, OSError where it cannot be read, ImportError naming the extra
    [table] where pandas (for Parquet: pyarrow) is missing.
    """
    pandas = pandas_module()
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


def write(frame: Any, path: str | os.PathLike[str]) -> None:
    """The table into a file: Parquet where it ends in .parquet or .pq, else CSV."""
    if os.fspath(path).lower().endswith(PARQUET):
        frame.to_parquet(path, index=False, engine="pyarrow")
    else:
        frame.to_csv(path, index=False)


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


def _check_names(name: str, names: Sequence[str]) -> None:
    for number, column in enumerate(names, start=1):
        if not column.strip():
            raise ValueError(
                f"{name}: column {number} has no name, expected one for each{_INDEX if number == 1 else ''}"
            )
    twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if twice:
        raise ValueError(f"{name} has several columns of the name {listed(twice)}, expected each once")


def known(wanted: str, names: Sequence[str], name: str) -> str:
    """The column of this name, or, as names in a CSV have no blanks around them, of the name without them."""
    found = wanted if wanted in names else wanted.strip()
    if found not in names:
        raise ValueError(f"{name} has no column {found!r}, expected one of: {listed(names)}")
    return found


def listed(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
