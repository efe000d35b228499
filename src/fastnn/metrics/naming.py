"""What users give as metrics, names, functions or a dict of these, becomes a dict of Metrics. Calls none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastnn._text import short
from fastnn.formulas.losses import Loss
from fastnn.metrics.answers import classifies, has_probabilities
from fastnn.metrics.definition import Metric, Mode, checked, unwrapped
from fastnn.metrics.direction import direction
from fastnn.metrics.names import METRICS, available, is_of_scores, lookup, recognised

One = str | Metric | Callable[..., Any]
Metrics = Sequence[One] | Mapping[str, One]
RESERVED = ("loss", "lr", "seconds")  # keys of a history


def metric(
    function: Callable[..., Any],
    *,
    needs: str | None = None,
    weights: bool | None = None,
    mode: Mode | None = None,
    name: str | None = None,
) -> Metric:
    """A function of (y, prediction) as a metric, with what it needs and which way it is better.

    needs: what its second argument is. "prediction": `predict_class` of a cross-entropy or hinge, else `predict`, in
    float64. "probability": as scikit-learn's scorers have it, the probabilities (n,) of class 1 where there are two
    classes, (n, K) of several classes or labels. "predict_proba": what that returns, (n, 2) for two classes. Its first
    is y as it was passed, of the same shape; floats as float64; a prediction of one value a row has the shape of y.
    Rows of weight 0 are left out. weights: whether it takes the others' as sample_weight (None without any), by that
    name or in third place; None: where it has a parameter of that name. mode: "min" or "max", which way it is better,
    for EarlyStopping and the like; None: what its name says, if it is known. name: its key in the history; None: the
    function's, of a functools.partial with its arguments.

    Functions of sklearn.metrics are known: with needs=None they get what they are for, `roc_auc_score` probabilities.
    Those of decision values or of scores that rank (`hinge_loss`, `ndcg_score`) are refused without it.

    TypeError or ValueError for other settings.

    >>> def hit_rate(y, p):
    ...     return (p[y == 1] > 0.9).mean()
    >>> sure = fastnn.metric(hit_rate, needs="probability", mode="max", name="sure")
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(2)]), "cross_entropy", metrics=["accuracy", sure], seed=0)
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> history = trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=5)
    >>> sorted(history)
    ['accuracy', 'loss', 'lr', 'seconds', 'sure']
    """
    if needs is None and is_of_scores(function):
        raise ValueError(
            f"{unwrapped(function).__name__} of scikit-learn is of scores, not of classes, expected "
            f"needs='probability' or 'predict_proba', which it would get, or a function that makes scores of these"
        )
    known = recognised(function)
    made = checked(function, needs="prediction" if needs is None else needs, weights=weights, mode=mode, name=name)
    if known is not None and (needs is None or needs == known.needs):
        weighted = known.weights if weights is None else weights
        made = replace(known, name=made.name, mode=mode or known.mode, weights=weighted)
    if made.mode is None:
        made = replace(made, mode=direction(str(getattr(unwrapped(function), "__name__", ""))))
    return made


def named_metrics(metrics: Metrics, loss: Loss) -> dict[str, Metric]:
    """The metrics under their keys in a history. ValueError or TypeError for what is none, or none of this loss;
    ImportError for one that needs scikit-learn where that is missing."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        example = metrics if isinstance(metrics, str) else "accuracy"
        raise TypeError(f"metrics is {short(metrics)}, expected a list: [{example!r}]")
    named: dict[str, Metric] = {}
    for name, one in metrics.items() if isinstance(metrics, Mapping) else [(None, each) for each in metrics]:
        made = _for_loss(one, loss)
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"metrics has the name {name!r}, expected text")
            made = replace(made, name=name)
        if made.name in named:
            problem = "is there twice"
        elif made.name in RESERVED or made.name.startswith("val_"):
            problem = "is what a history calls something else"
        else:
            named[made.name] = made
            continue
        raise ValueError(f"metrics has the name {made.name!r}, which {problem}, expected a name of its own for each")
    return named


def _for_loss(one: One, loss: Loss) -> Metric:
    """One of the metrics as a model with this loss can have it."""
    if isinstance(one, str):
        found = lookup(one)
        if found is None:
            raise ValueError(
                f"metrics has {short(one)}, expected one of {', '.join(METRICS)} or a function of (y, prediction)"
            )
        if found.task is not None and (found.task == "classes") != classifies(loss):
            raise ValueError(f"metrics has {short(one)}, expected a loss of {found.task} for it, not {loss}")
        if loss.width > 1:
            raise ValueError(
                f"metrics has {short(one)}, expected a function: {loss} has {loss.width} outputs for a target"
            )
        available(found)
    else:
        if hasattr(one, "_score_func"):
            raise ValueError(
                f"metrics has {short(one)}, a scorer of (estimator, X, y), expected its function or its name"
            )
        if not callable(one):
            raise ValueError(
                f"metrics has {short(one)}, expected one of {', '.join(METRICS)} or a function of (y, prediction)"
            )
        found = one if isinstance(one, Metric) else metric(one)
        if found.task is not None and ((found.task == "classes") != classifies(loss) or loss.width > 1):
            # A function may have a use beyond its own: the AUC of values that rank, the absolute error of classes.
            found = replace(found, task=None, needs="prediction")
    if found.needs != "prediction" and not has_probabilities(loss):
        raise ValueError(f"metrics has {found.name!r}, which needs probabilities, expected a cross-entropy, not {loss}")
    return found
