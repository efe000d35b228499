"""Which way a quantity is better, by its name: as METRICS and scikit-learn have it. Guesses nothing."""

from __future__ import annotations

from fastnn.formulas.losses import LOSSES
from fastnn.metrics.definition import Mode
from fastnn.metrics.names import lookup

_LARGER = (  # what other packages, and scikit-learn beside its metrics of predictions, call such
    *("acc", "auc", "auroc", "aucroc", "rocauc", "auprc", "pr_auc", "prc", "ap", "mean_average_precision", "gini"),
    *("sensitivity", "specificity", "iou", "dice", "ndcg", "ndcg_score", "dcg_score", "fbeta_score", "bleu", "pearson"),
    *("label_ranking_average_precision_score", "cosine_similarity", "c_index", "concordance_index", "r_squared"),
    *("adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "fowlkes_mallows_score", "rand_score"),
    *("homogeneity_score", "mutual_info_score", "normalized_mutual_info_score", "v_measure_score", "silhouette_score"),
    *("calinski_harabasz_score", "positive_likelihood_ratio"),
)
_SMALLER = (
    *("loss", "seconds", "medae", "smape", "nll", "perplexity", "kld", "crps", "bce", "logloss", "ece"),
    *("negative_likelihood_ratio", "davies_bouldin_score", "wer", "cer"),
)
# scikit-learn's convention for names: _error, _loss and _deviance are minimised. Not _score: brier_score is, too.
_SMALLER_ENDINGS = ("_loss", "_error", "_deviance", "_mae", "_mse", "_rmse")
_LARGER_ENDINGS = ("_accuracy", "_acc", "_auc", "_auroc", "_f1", "_r2", "_precision", "_recall")


def direction(name: str) -> Mode | None:
    """Whether a smaller ("min") or a larger ("max") value of the quantity is better; None: its name does not say.

    "val_" before it and capitals change nothing; "neg_" before it turns it round.

    >>> direction("val_loss"), direction("val_AUC"), direction("neg_mean_absolute_error"), direction("anomaly_score")
    ('min', 'max', 'max', None)
    """
    return _direction(name.removeprefix("val_").lower())


def _direction(name: str) -> Mode | None:
    known = lookup(name)
    if known is not None:
        return known.mode
    if name.startswith("neg_"):
        positive = _direction(name.removeprefix("neg_"))
        return None if positive is None else "max" if positive == "min" else "min"
    if name in _LARGER or name.endswith(_LARGER_ENDINGS):
        return "max"
    if name in _SMALLER or name in LOSSES or name.endswith(_SMALLER_ENDINGS):
        return "min"
    return None
