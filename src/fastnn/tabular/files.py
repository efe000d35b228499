"""Tables <-> files: CSV and Parquet as a DataFrame of pandas, columns by their names. Interprets no column."""

from __future__ import annotations

import codecs
import csv
import io
import lzma
import os
import re
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnn import _text
from fastnn.errors import missing_extra
from fastnn.files import naming

PARQUET = (".parquet", ".pq")
STANDARD_INPUT = "-"
NAMED = 20  # columns that an error names
_COMMA_NUMBER = re.compile(r"[-+]?(\d+,?\d*|,\d+)([eE][-+]?\d+)?")
NO_VALUE = (  # what a CSV has where a value is missing, as pandas has it by default
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
_INDEX = ": if it is the row index of a DataFrame, write the file with df.to_csv(..., index=False)"
_SEPARATORS = ";\t|,"
_COMPRESSED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar")
_WRITTEN = ("", ".csv", ".tsv", ".txt", *PARQUET)
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def pandas_module() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise missing_extra("pandas", "reading a table", "table") from error
    return pandas


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written: what stands between its values, before their decimals, and how its bytes are text.

    separator: one character of ASCII; a backslash and t, as one types it in a shell, are a tab; None: a tab in .tsv,
    else a comma. encoding: any that Python knows; a byte order mark before UTF-8 does not count.
    """

    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"

    def checked(self, name: str) -> Dialect:
        """With the separator of this file. ValueError where a setting cannot be."""
        given = self.separator
        if given is None:
            separator = "\t" if ".tsv" in Path(name).suffixes else ","
        else:
            separator = "\t" if given == "\\t" else given
        if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':  # others pandas takes for patterns
            raise ValueError(f"separator is {given!r}, expected one character of ASCII such as ';', or \\t for a tab")
        _text.choice("decimal", self.decimal, (".", ","), "'.' or ','")
        if self.decimal == separator:
            raise ValueError(f"decimal is {self.decimal!r}, as the separator is: set another one, such as ';'")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding is {self.encoding!r}, expected one that Python knows, such as utf-8, latin-1 or utf-16"
            ) from None
        return Dialect(separator, self.decimal, self.encoding)


def read(
    path: str | os.PathLike[str],
    *,
    text: Sequence[str] = (),
    categories: Sequence[str] = (),
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    blank_lines: bool = False,
) -> Any:
    """The table in a CSV or Parquet file as a pandas DataFrame whose columns have names, each once.

    What ends in .parquet or .pq is Parquet, else CSV with a line of names, perhaps compressed (.gz, .zip); "-" is the
    standard input, a CSV, and a pipe is read as one. Blanks around values and names are left out. Columns named in
    `text` stay as they are written, also where that says that a value is missing; those in `categories` but there.
    separator, decimal, encoding: see `Dialect`. Blank lines at the end do not count. One among the rows of several
    columns is an error that says where, or, with blank_lines, left out; of one column it is a row without its value.

    ValueError naming the file where it is not that, OSError where it cannot be read, ImportError naming the extra
    [table] where pandas (for Parquet: pyarrow) is missing.
    """
    pandas = pandas_module()
    name = os.fspath(path)
    chosen = Dialect(separator, decimal, encoding).checked(name)
    if name.lower().endswith(_SPREADSHEETS):
        raise ValueError(f"{name} is a spreadsheet, expected CSV or Parquet: save it as CSV")
    try:
        if name.lower().endswith(PARQUET):
            frame = _parquet(pandas, name)
        else:
            frame = _Csv(pandas, name, chosen).read(text, categories, blank_lines)
        frame.columns = [str(column) for column in frame.columns]
        _check_names(list(frame.columns))
        if len(frame) == 0:
            raise _Reason(" has no rows")
    except FileNotFoundError:
        raise FileNotFoundError(f"{name} is not there") from None
    except UnicodeError as error:
        raise ValueError(_not_text(name, chosen, error)) from None
    except _Reason as error:
        raise ValueError(f"{shown(name)}{error}") from None
    except (
        ValueError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
        lzma.LZMAError,
        tarfile.TarError,
        pandas.errors.ParserWarning,
    ) as error:
        raise ValueError(f"{shown(name)} cannot be read: {_line(error)}") from None
    except ImportError as error:  # what a compressed file needs
        raise ImportError(f"{shown(name)} cannot be read: {_line(error)}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(f"{shown(name)} cannot be read: {_line(error)}") from None  # a .gz that is none
    return frame


def check_writable(path: str | os.PathLike[str]) -> None:
    """ValueError where the name of a file to write says that it is something else than CSV or Parquet."""
    name = os.fspath(path)
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    device = Path(name).exists() and not Path(name).is_file()
    if suffixes and suffixes[-1] not in _WRITTEN and not device:
        raise ValueError(f"{name} ends in {suffixes[-1]}, expected .csv or .tsv (perhaps with .gz), or .parquet")
    if suffixes and suffixes[-1] in _SPREADSHEETS:
        raise ValueError(f"{name} is a spreadsheet, expected the name of a .csv or .parquet file")


def write(frame: Any, path: str | os.PathLike[str]) -> None:
    """The table into a file: Parquet where it ends in .parquet or .pq, else CSV, with tabs in .tsv."""
    name = os.fspath(path)
    with naming(path):
        if name.lower().endswith(PARQUET):
            frame.to_parquet(path, index=False, engine="pyarrow")
        else:
            frame.to_csv(path, index=False, sep="\t" if ".tsv" in Path(name).suffixes else ",")


def shown(name: str) -> str:
    """What messages call a table."""
    return "standard input" if name == STANDARD_INPUT else name


class _Reason(Exception):
    """What is wrong with a file: what follows its name."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _not_text(name: str, dialect: Dialect, error: UnicodeError) -> str:
    where = f" ({error.reason} at byte {error.start})" if isinstance(error, UnicodeDecodeError) else f" ({error})"
    return (
        f"{shown(name)} is not text in {dialect.encoding.upper()}{where}: name its encoding, as in --encoding latin-1"
    )


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


def _with_points(written: Any) -> Any:
    """A column of numbers with decimal commas as it is written with points; any other as it is."""
    words = written.str.strip()
    there = words[~words.isin(NO_VALUE)]
    return words.str.replace(",", ".", regex=False) if there.str.fullmatch(_COMMA_NUMBER).all() else written


class _Csv:
    """A CSV file as it is read: its settings for pandas, and its content where that can be read once only."""

    def __init__(self, pandas: Any, name: str, dialect: Dialect) -> None:
        self.pandas, self.name, self.dialect = pandas, name, dialect
        self.content: bytes | None = None
        if name == STANDARD_INPUT:
            self.content = sys.stdin.buffer.read()
        elif not Path(name).is_file() and not Path(name).is_dir():  # a pipe, /dev/stdin, what a shell has for <(...)
            self.content = Path(name).read_bytes()
        self.settings: dict[str, Any] = {
            "sep": dialect.separator,
            "decimal": dialect.decimal,
            "skipinitialspace": True,
            "skip_blank_lines": False,  # as they may be rows of one column, or stand among the rows of several
            "encoding": "utf-8-sig" if codecs.lookup(dialect.encoding).name == "utf-8" else dialect.encoding,
            "low_memory": False,
            "keep_default_na": False,
        }

    def _frame(self, **settings: Any) -> Any:
        source = self.name if self.content is None else io.BytesIO(self.content)
        return self.pandas.read_csv(source, **self.settings | settings)

    def read(self, text: Sequence[str], categories: Sequence[str], blank_lines: bool) -> Any:
        """In one pass, and a second one where there seem to be blank lines: see `read` of this module."""
        try:
            names = self._frame(header=None, nrows=1, dtype=str).iloc[0].tolist()
        except self.pandas.errors.EmptyDataError:
            raise _Reason(
                " cannot be read: it is empty or begins with a blank line, expected a line of column names"
            ) from None
        names = [column.strip() for column in names]  # behind them too: skipinitialspace is for those before
        _check_names(names)  # before pandas renames what is there twice
        as_written = {column.strip() for column in text} & set(names)
        # index_col: where rows are longer pandas would take their first value for a name of the row
        self.settings |= {
            "header": 0,
            "names": names,
            "index_col": False,
            "dtype": dict.fromkeys(as_written | {column.strip() for column in categories} & set(names), str),
            "na_values": {column: NO_VALUE for column in names if column not in as_written},
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", self.pandas.errors.ParserWarning)  # longer rows than the first line
                frame = self._frame()
                blank = self._rows_without_values(frame, as_written)
                if len(names) == 1 and blank[-1:].any():
                    frame = self._without_end(frame)
                elif len(names) > 1 and blank.any():
                    frame = self._without_blank_lines(frame, blank, as_written, blank_lines)
        except (self.pandas.errors.ParserWarning, self.pandas.errors.ParserError) as error:
            raise _Reason(f" cannot be read: {self._longer(names) or _line(error)}") from None
        if self.dialect.decimal != ".":
            for column in as_written:
                frame[column] = _with_points(frame[column])
        return frame

    def _rows_without_values(self, frame: Any, as_written: set[str]) -> Any:
        """Which rows (n,) have nothing in any column: those of blank lines, and those of separators alone."""
        blank = self.pandas.Series(True, index=frame.index)
        for column in frame.columns:
            if not blank.any():
                break
            blank &= frame[column].isna() | (frame[column] == "") if column in as_written else frame[column].isna()
        return blank.to_numpy()

    def _without_end(self, frame: Any) -> Any:
        """Of one column, whose last value is missing: without that row where a blank line makes it. Others may be rows,
        too."""
        if len(self._frame(skip_blank_lines=True)) == len(frame):
            return frame
        return self._frame(nrows=len(frame) - 1)  # anew: what is missing there has made floats of whole numbers

    def _without_blank_lines(self, frame: Any, blank: Any, as_written: set[str], allowed: bool) -> Any:
        """Read anew without them; `_Reason` where one is not at the end and that is not allowed."""
        made = self._frame(skip_blank_lines=True)
        left = self._rows_without_values(made, as_written)
        among = len(frame) - len(made) - (_at_end(blank) - _at_end(left))
        if among > 0 and not allowed:
            line = self._place(lambda values: len(values) < 2 and not "".join(values).strip())
            where = "a blank line among its rows" if line is None else f"a blank line among its rows, line {line[0]}"
            raise _Reason(f" has {where}: take it out, or train with --drop-missing")
        return made

    def _longer(self, names: list[str]) -> str | None:
        """The first row with more values than the first line has names, in words; None where none is found."""
        place = self._place(lambda values: len(values) > len(names))
        if place is None:
            return None
        hint = _separator_hint(names) or (
            ": does it begin with a comment, or has it decimal commas (--decimal) or another --separator?"
        )
        return f"line {place[0]} has {place[1]} values, but the first line has {len(names)} names{hint}"

    def _place(self, wanted: Callable[[list[str]], bool]) -> tuple[int, int] | None:
        """Number and length of the first line whose values are as wanted; None where there is none, or compressed."""
        try:
            content = Path(self.name).read_bytes() if self.content is None else self.content
            text = io.StringIO(content.decode(self.settings["encoding"]), newline="")
            lines = csv.reader(text, delimiter=self.settings["sep"], skipinitialspace=True)
            return next(((lines.line_num, len(values)) for values in lines if wanted(values)), None)
        except (OSError, UnicodeError, csv.Error):
            return None


def _at_end(rows: Any) -> int:
    """How many of the last rows (n,) are such ones."""
    return len(rows) if rows.all() else int((~rows[::-1]).argmax())


def _separator_hint(names: Sequence[str], wanted: str = "") -> str:
    """Where all names seem to be in one, or the wanted one within another's, as of "weight, kg;age;y": what stands
    between them."""
    one = names[0] if len(names) == 1 else next((name for name in names if _marks_around(wanted, name)), "")
    found = [mark for mark in _SEPARATORS if mark in one] if len(names) == 1 else _marks_around(wanted, one)
    if not found:
        return ""
    mark = max(found, key=one.count)
    written = '"\\t"' if mark == "\t" else f'"{mark}"'
    which = "one column" if len(names) == 1 else "column"
    return f": its {which} {one[:60]!r} has separators in its name, say --separator {written}"


def _marks_around(wanted: str, name: str) -> list[str]:
    """What separates the wanted name from others within this one. No comma: quoted names have some."""
    return [
        mark for mark in _SEPARATORS.replace(",", "") if wanted in map(str.strip, name.split(mark)) and mark in name
    ]


def _check_names(names: Sequence[str]) -> None:
    for number, column in enumerate(names, start=1):
        if not column.strip():
            raise _Reason(f": column {number} has no name, expected one for each{_INDEX if number == 1 else ''}")
    twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if twice:
        raise _Reason(f" has several columns of the name {listed(twice)}, expected each once")


def known(wanted: str, names: Sequence[str], name: str) -> str:
    """The column of this name, or, as names in a CSV have no blanks around them, of the name without them."""
    found = wanted if wanted in names else wanted.strip()
    if found not in names:
        hint = _separator_hint(names, found) or f", expected one of: {listed(names)}"
        raise ValueError(f"{shown(name)} has no column {found!r}{hint}")
    return found


def listed(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
