"""What data frames and masked arrays say beside their values: names of columns, and that values do not count."""

from __future__ import annotations

import sys
from typing import Any


def unmasked(name: str, value: Any) -> None:
    """ValueError where values are masked: NumPy's functions, and scikit-learn's, take what is below the mask.

    >>> unmasked("y", np.ma.masked_array([1.0, -999.0], mask=[False, True]))
    Traceback (most recent call last):
    ValueError: y is a masked array with 1 masked values, expected none
    """
    ma = sys.modules.get("numpy.ma")  # which made it, if it is masked, and takes 20 ms to import
    if ma is not None and ma.is_masked(value):
        masked = int(ma.getmaskarray(value).sum())
        raise ValueError(f"{name} is a masked array with {masked} masked values, expected none")


def column_names(y: Any) -> list[str] | None:
    """What messages call the columns of a data frame, which may have one name several times; None for what is none."""
    columns = getattr(y, "column_names", getattr(y, "columns", None))  # the former of pyarrow
    return None if columns is None or callable(columns) else [str(name) for name in columns]
