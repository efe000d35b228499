"""Matrices of scipy.sparse, which may not be installed: by rows, with nothing in them that points elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_sparse(value: Any) -> bool:
    """Whether it is a matrix or array of scipy.sparse."""
    return hasattr(value, "toarray") and hasattr(value, "nnz")


def by_rows(name: str, X: Any) -> Any:
    """X as CSR whose columns ascend in each row, each place once. ValueError where it is broken."""
    if hasattr(X, "check_format"):  # of CSR, CSC and BSR: what points outside would be read and written there
        try:
            X.check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"{name} is a sparse matrix that is broken: {error}") from None
        if len(X.data) < len(X.indices):
            raise ValueError(f"{name} is a sparse matrix with {len(X.indices)} indices and {len(X.data)} values")
    rows = X.tocsr()
    if not _columns_ascend(rows):  # the entries of one place are added up, in a copy
        rows = rows.copy()
        rows.has_sorted_indices = rows.has_canonical_format = False
        rows.sum_duplicates()
    return rows


def _columns_ascend(rows: Any) -> bool:
    """Whether no row of a CSR matrix has a place twice or before another: looked at, for scipy's has_canonical_format
    stays what it was when somebody changes the indices."""
    used = rows.indices[: rows.indptr[-1]]
    ascends = used[1:] > used[:-1]
    firsts = rows.indptr[1:-1]
    ascends[firsts[(firsts > 0) & (firsts < len(used))] - 1] = True
    return bool(ascends.all())


def parts(x: Any) -> Any:
    """Rows as the extension reads them: an array, or data, indices, indptr and columns of a CSR matrix."""
    return x if isinstance(x, np.ndarray) else (x.data, x.indices, x.indptr, x.shape[1])
