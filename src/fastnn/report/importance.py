"""What each feature is worth: scikit-learn's permutation importance by the loss. Changes nothing of the model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _sparse
from fastnn.errors import missing_extra
from fastnn.report import page
from fastnn.report.subject import Subject

ROWS, VALUES = 1000, 200_000  # of the data, drawn: so many rows, of wide ones fewer, so many values in all
MOST = 20  # features in the table
WIDEST = 2_000  # features: of more nothing is said, it would take minutes
REPEATS = 5


def require() -> None:
    """ImportError naming the extra [sklearn] without scikit-learn: before anything is computed."""
    try:
        import sklearn.inspection  # noqa: F401
    except ImportError as error:
        raise missing_extra(
            "scikit-learn", "the importance of features (importance=False leaves it out)", "sklearn"
        ) from error


class _Fitted:
    """What scikit-learn takes for an estimator: it calls the scorer alone."""

    def fit(self) -> None:
        """There for who asks."""


def importance(subject: Subject) -> str:
    """The section of the features without which the loss grows most."""
    from sklearn.inspection import permutation_importance

    names, data, counting = subject.feature_names, subject.data, subject.data.weighing()
    if len(names) > WIDEST:
        why = f"{len(names):,} features: left out, as it is beyond {WIDEST:,}."
        return page.section("Importance of features", page.paragraph(why))
    data = data if counting is None else data.part(counting)
    rows = min(len(data), ROWS, VALUES // len(names))
    if rows < len(data):
        data = data.part(np.sort(np.random.default_rng(0).choice(len(data), rows, replace=False)))
    x = data.x.toarray() if _sparse.is_sparse(data.x) else data.x

    def scorer(estimator: object, X: Any, y: object) -> float:
        return -subject.score(replace(data, x=np.ascontiguousarray(X)), {})["loss"]

    found = permutation_importance(_Fitted(), x, data.y, scoring=scorer, n_repeats=REPEATS, random_state=0)
    mean, spread = found.importances_mean, found.importances_std
    order = np.argsort(-np.where(np.isfinite(mean), mean, -math.inf), kind="stable")[:MOST]
    top = max(float(mean[order[0]]), 0.0)
    lines = [
        [
            page.cell(page.name(names[feature]), role=""),
            page.bar(max(float(mean[feature]), 0.0) / top if 0.0 < top < math.inf and mean[feature] > 0 else 0.0),
            page.cell(page.number(mean[feature])),
            page.cell(page.number(spread[feature])),
        ]
        for feature in order
    ]
    head = [page.cell("feature", "th", ""), page.cell("", "th", ""), *(page.cell(t, "th") for t in ("mean", "spread"))]
    some = f"The {MOST} of {len(names):,} features that" if len(names) > MOST else "Which features"
    sentence = (
        f"{some} the model needs: how much the loss grows where the values of one are shuffled among {rows:,} "
        f"row{'s' * (rows != 1)}, {REPEATS} times. Features that say the same may each seem to be worth nothing."
    )
    return page.section("Importance of features", page.paragraph(sentence), page.framed(head, lines))
