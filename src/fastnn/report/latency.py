"""How long a prediction takes here and now: of one row, of a batch. Measures; judges nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fastnn import _sparse
from fastnn.report import page
from fastnn.report.subject import Subject
from fastnn.serving.predictor import predictor

Array = np.ndarray
BATCH = 1024
SECONDS = 0.2  # for each
CALLS = 2000  # at most


def latency(subject: Subject) -> str:
    """The section: medians and 99th percentiles of calls of a predictor."""
    call = predictor(subject.frozen)
    rows = _rows(subject)
    one, many = _times(lambda: call(rows[0])), _times(lambda: call(rows))
    lines = [
        ["one row", f"{_micro(one, 50)} µs", f"{_micro(one, 99)} µs", f"{1 / np.median(one):,.0f}"],
        [
            f"{len(rows):,} rows",
            f"{_micro(many, 50)} µs",
            f"{_micro(many, 99)} µs",
            f"{len(rows) / np.median(many):,.0f}",
        ],
    ]
    sentence = "Calls of model.predictor() on this machine, as busy as it was. The rest of a service comes on top."
    head = ["a call of", "median", "99th percentile", "rows a second"]
    return page.section("Latency", page.paragraph(sentence), page.table(head, lines))


def _rows(subject: Subject) -> Array:
    """Up to a batch of the rows, as a service has them: in the network's dtype, or as Normalize reads them."""
    x = subject.data.x[:BATCH]
    dense = x.toarray() if _sparse.is_sparse(x) else x
    plan = subject.frozen.plan
    dtype = dense.dtype if subject.frozen.normalizes else plan.dtype
    return np.ascontiguousarray(dense, dtype=dtype).reshape(len(dense), *plan.input_shape)


def _times(call: Callable[[], object]) -> Array:
    """Seconds of each call, after one that is not counted."""
    call()
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < CALLS and (len(found) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        found.append(max(time.perf_counter() - start, 1e-9))
    return np.array(found)


def _micro(seconds: Array, percent: int) -> str:
    return page.number(1e6 * float(np.percentile(seconds, percent)))
