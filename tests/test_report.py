"""Reports: what is on the page, that text from data is text, and that what cannot be reported is refused by name."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest

import fastnn
from fastnn import Sequential, Trainer, _plot, nn, report
from fastnn.report import classes, importance, network, page
from fastnn.report.subject import Layer

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

SCRIPT = "<script>alert(1)</script>"
HOSTILE = ['a"b', "<b>x</b>", "d&e", "$\\frac$", "x' onload='alert(1)"]
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """A page as a browser reads it: tags with their attributes, headings, text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.said: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == [], "tags that are not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.said)


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def fitted(loss="cross_entropy", outputs=3, *, n=120, inputs=5, layers=(), **options):
    """A model, its rows and targets, and its history."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, inputs))
    score = X[:, 0] + 0.2 * rng.normal(size=n)
    if loss in ("mse", "poisson"):
        y = np.round(np.exp(np.clip(score, -2, 2)) * 3)
    elif loss == "binary_cross_entropy" and outputs > 1:
        y = (X[:, :outputs] > 0).astype(int)
    else:
        y = np.digitize(score, np.linspace(-1, 1, max(outputs, 2) - 1)) % max(outputs, 2)
    model = Sequential([*layers, nn.Dense(8, "relu"), nn.Dense(outputs)])
    history = Trainer(model, loss, seed=0, **options).fit(X, y, epochs=3, validation=0.2, verbose=False)
    return model, X, y, history


# What is on it -----------------------------------------------------------------------------------------------------


def test_a_page_of_classes(tmp_path):
    model, X, y, history = fitted()
    out = tmp_path / "r.html"
    assert model.report(out, X, y, classes=["low", "middle", "high"], history=history) is None
    found = read(out)
    assert found.headings == [
        *("Scores", "Network", "Learning curves", "Confusion", "Calibration", "Importance of features"),
        *("Latency", "Versions"),
    ]
    for word in ("low", "middle", "high", "x[0]", "accuracy", "brier", "Dense(8, 'relu')", "8 · 48 parameters"):
        assert word in found.text
    assert f"{model.evaluate(X, y)['loss']:.4g}" in found.text and fastnn.__version__ in found.text


def test_a_page_of_values_in_their_own_unit(tmp_path):
    model, X, y, history = fitted("mse", 1, scale_targets=True)
    out = tmp_path / "r.html"
    model.report(out, X, 1000 + y, history=history, importance=False)
    found = read(out)
    assert found.headings == ["Scores", "Network", "Learning curves", "Residuals", "Latency", "Versions"]
    assert f"{model.evaluate(X, 1000 + y, metrics=['mae'])['mae']:.4g}" in found.text


@pytest.mark.parametrize(
    ("loss", "outputs"), [("binary_cross_entropy", 1), ("binary_cross_entropy", 3), ("hinge", 2), ("poisson", 1)]
)
def test_pages_of_other_losses(loss, outputs, tmp_path):
    model, X, y, _ = fitted(loss, outputs)
    model.report(tmp_path / "r.html", X, y)
    headings = read(tmp_path / "r.html").headings
    assert ("Calibration" in headings) == (loss == "binary_cross_entropy")
    assert ("Residuals" in headings) == (loss == "poisson")
    assert ("Labels" in headings) == (outputs == 3)


def test_losses_of_several_outputs_for_a_target(tmp_path):
    _, X, y, _ = fitted("mse", 1)
    other = Sequential([nn.Dense(2)])
    Trainer(other, "gaussian", seed=0).fit(X, y, epochs=2, verbose=False)
    other.report(tmp_path / "r.html", X, y)
    assert "has 2 outputs for 1 target value" in read(tmp_path / "r.html").text


def test_rows_of_a_shape(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4, 3)), rng.integers(0, 2, 60)
    model = Sequential([nn.Flatten(), nn.Dense(2)])
    Trainer(model, "cross_entropy", seed=0).fit(X, y, epochs=2, verbose=False)
    model.report(tmp_path / "r.html", X, y)
    assert "x[3, 2]" in read(tmp_path / "r.html").text


def test_sparse_rows(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    model, X, y, _ = fitted()
    model.report(tmp_path / "r.html", sparse.csr_matrix(X), y)
    assert "Importance of features" in read(tmp_path / "r.html").headings


def test_many_classes_and_features(tmp_path):
    """The twenty worst of a hundred classes, the twenty best of many features: a page that can be read."""
    model, X, y, _ = fitted(outputs=100, n=400, inputs=300)
    model.report(tmp_path / "r.html", X, y)
    found = read(tmp_path / "r.html")
    rows = sum(tag == "tr" for tag, _ in found.tags)
    assert "The 20 of 300 features" in found.text and rows < 150
    assert (tmp_path / "r.html").stat().st_size < 200_000


def test_beyond_so_many_features_nothing_is_shuffled(tmp_path, monkeypatch):
    monkeypatch.setattr(importance, "WIDEST", 4)
    model, X, y, _ = fitted()
    model.report(tmp_path / "r.html", X, y)
    assert "5 features: left out" in read(tmp_path / "r.html").text


def test_rows_of_one_class_and_one_row(tmp_path):
    model, X, y, _ = fitted()
    some = y == 1
    model.report(tmp_path / "r.html", X[some], y[some])
    assert "–" in read(tmp_path / "r.html").text  # the recall of classes that have no rows
    model.report(tmp_path / "r.html", X[:1], y[:1])
    model, X, y, _ = fitted("mse", 1)
    model.report(tmp_path / "r.html", X[:1], y[:1])
    assert "Residuals" in read(tmp_path / "r.html").headings


def test_metrics_are_those_of_evaluate(tmp_path):
    model, X, y, _ = fitted()
    model.report(tmp_path / "r.html", X, y, metrics=["balanced_accuracy"], importance=False)
    assert "balanced_accuracy" in read(tmp_path / "r.html").text
    with pytest.raises(ValueError, match="metrics has 'mae', expected a loss of values"):
        model.report(tmp_path / "r.html", X, y, metrics=["mae"])


def test_the_importance_finds_what_the_model_looks_at(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    model = Sequential([nn.Dense(1)]).build(4, seed=0)
    model.layers[0].weight[...] = [[0], [0], [5], [1]]
    model.loss = "mse"
    model.report(tmp_path / "r.html", X, X @ [0, 0, 5, 1])
    cells = re.findall(r"<td>(x\[\d\])</td>", (tmp_path / "r.html").read_text())
    assert cells == ["x[2]", "x[3]", "x[0]", "x[1]"]


def test_classes_of_the_metadata_are_named(tmp_path):
    model, X, y, _ = fitted()
    model.metadata = {"classes": ["low", "middle", "high"]}
    model.report(tmp_path / "r.html", X, y, importance=False)
    assert "middle" in read(tmp_path / "r.html").text
    model.report(tmp_path / "r.html", X, y, importance=False, classes=["a", "b", "other"])
    assert "middle" not in read(tmp_path / "r.html").text


# Curves that a file keeps -------------------------------------------------------------------------------------------


def test_a_file_keeps_the_curves_of_its_fit(tmp_path):
    model, X, y, history = fitted(metrics=["accuracy"])
    made = report.curves.kept(history.items(), 2, "loss")
    model.save(tmp_path / "m", metadata={"curves": made})
    again = fastnn.load(tmp_path / "m")
    found = report.curves.of(again.metadata)
    assert found.epochs == [1, 2, 3] and found.best == 2 and len(found) == 3
    assert set(found.values) == {"loss", "val_loss", "val_accuracy"}
    for name, values in found.values.items():
        np.testing.assert_allclose(values, history[name], rtol=5e-6)
    again.report(tmp_path / "r.html", X, y, importance=False)
    assert "Learning curves" in read(tmp_path / "r.html").headings and "val_accuracy" in read(tmp_path / "r.html").text
    model.report(tmp_path / "r.html", X, y, importance=False)
    assert "Learning curves" not in read(tmp_path / "r.html").headings


def test_of_many_epochs_a_file_keeps_some():
    values = [1 / epoch for epoch in range(1, 20_001)]
    values[-1] = math.inf
    made = report.curves.kept([("loss", values), ("seconds", values)], 12_347, "loss")
    epochs = made["epochs"]
    assert len(epochs) in (500, 501) and epochs[0] == 1 and epochs[-1] == 20_000 and 12_347 in epochs
    assert epochs == sorted(set(epochs)) and max(np.diff(epochs)) <= 41
    assert made["values"]["loss"][-1] is None and "seconds" not in made["values"]
    found = report.curves.of({"curves": json.loads(json.dumps(made))})
    np.testing.assert_allclose(found.values["loss"][:-1], 1 / np.array(epochs[:-1]), rtol=1e-5)
    assert math.isnan(found.values["loss"][-1])


WHOLE = {"epochs": [1, 2], "values": {"loss": [1, None]}, "best": None, "label": "loss"}


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": [1]},
        {"epochs": ["1", "2"]},
        {"epochs": [1, 10**400]},
        {"epochs": [True, False]},
        {"values": [1, 2]},
        {"values": {"loss": [1, "2"]}},
        {"values": {"loss": [1, 10**400]}},
        {"values": {"loss": 3}},
        {"best": 1.5},
        {"label": 3},
        {"other": 1},
    ],
    ids=repr,
)
def test_curves_of_another_form_are_the_users_own(changed, tmp_path):
    assert len(report.curves.of({"curves": WHOLE})) == 2
    model, X, y, _ = fitted()
    model.metadata = {"curves": WHOLE | changed}
    assert report.curves.of(model.metadata) is None
    model.report(tmp_path / "r.html", X, y, importance=False)
    assert "Learning curves" not in read(tmp_path / "r.html").headings


# Weights -----------------------------------------------------------------------------------------------------------


def weights(n: int) -> np.ndarray:
    """Quarters, some of them 0: sums that four digits hold."""
    return np.random.default_rng(7).integers(0, 9, n) / 4


def rows_of(path, title: str) -> list[list[str]]:
    """The texts of the cells of a section's tables."""
    text = path.read_text(encoding="utf-8")
    section = text[text.index(f"<h2>{title}</h2>") :]
    section = section[: section.index("</section>")]
    lines = re.findall(r"<tr>(.*?)</tr>", section)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[dh].*?>.*?</t[dh]>", line)] for line in lines]


def test_weights_count_in_the_confusion_and_the_scores(tmp_path):
    """scikit-learn's figures of the same predictions."""
    from sklearn import metrics as sklearn_metrics

    model, X, y, _ = fitted()
    weight, predicted = weights(len(y)), model.predict_class(X)
    model.report(tmp_path / "r.html", X, y, sample_weight=weight, importance=False)
    table = rows_of(tmp_path / "r.html", "Confusion")[1:]
    wanted = sklearn_metrics.confusion_matrix(y, predicted, sample_weight=weight)
    assert [line[1:4] for line in table[:3]] == [[f"{value:.4g}" for value in line] for line in wanted]
    recall, precision = (
        score(y, predicted, average=None, sample_weight=weight)
        for score in (sklearn_metrics.recall_score, sklearn_metrics.precision_score)
    )
    assert [line[4] for line in table[:3]] == [f"{value:.4g}" for value in recall]
    assert table[3][1:4] == [f"{value:.4g}" for value in precision]
    scores = dict(rows_of(tmp_path / "r.html", "Scores")[1:])
    assert scores["accuracy"] == f"{sklearn_metrics.accuracy_score(y, predicted, sample_weight=weight):.4g}"
    assert scores["loss"] == f"{model.evaluate(X, y, sample_weight=weight)['loss']:.4g}"
    assert f"which have weights, {weight.sum():.4g} in all" in read(tmp_path / "r.html").text


def test_weights_count_for_several_labels(tmp_path):
    from sklearn.metrics import multilabel_confusion_matrix

    model, X, y, _ = fitted("binary_cross_entropy", 3)
    weight = weights(len(y))
    model.report(tmp_path / "r.html", X, y, sample_weight=weight, importance=False)
    wanted = multilabel_confusion_matrix(y, model.predict_class(X), sample_weight=weight)
    for line, ((_, false), (missed, both)) in zip(rows_of(tmp_path / "r.html", "Labels")[1:], wanted, strict=True):
        assert line[1:4] == [f"{value:.4g}" for value in (missed + both, false + both, both)]


def test_weights_count_among_many_classes(tmp_path):
    from sklearn.metrics import confusion_matrix

    model, X, y, _ = fitted(outputs=40, n=400)
    weight = weights(len(y))
    model.report(tmp_path / "r.html", X, y, sample_weight=weight, importance=False)
    table = rows_of(tmp_path / "r.html", "Confusion")
    wanted = confusion_matrix(y, model.predict_class(X), sample_weight=weight, labels=range(40))
    mistaken = table[1 : 1 + classes.MOST]
    assert table[0] == ["actual", "predicted", "weight"] and len(mistaken) == classes.MOST
    for actual, predicted, count in mistaken:
        assert count == f"{wanted[int(actual), int(predicted)]:.4g}"
    off = wanted - np.diag(np.diag(wanted))
    assert mistaken[0][2] == f"{off.max():.4g}"
    for label, rows, recall in table[2 + classes.MOST :]:
        line = wanted[int(label)]
        assert (rows, recall) == (f"{line.sum():.4g}", f"{line[int(label)] / line.sum():.4g}")


@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 3), ("mse", 1), ("binary_cross_entropy", 3)])
def test_whole_weights_are_rows_that_come_so_often(loss, outputs, tmp_path, monkeypatch):
    """The same scores, calibration and importance as of the rows repeated, which needs all of them in it."""
    model, X, y, _ = fitted(loss, outputs)
    weight = np.random.default_rng(3).integers(0, 4, len(y))
    often = np.repeat(np.arange(len(y)), weight)
    model.report(tmp_path / "weighted.html", X, y, sample_weight=weight, importance=False)
    model.report(tmp_path / "repeated.html", X[often], y[often], importance=False)
    first, second = (tmp_path / f"{name}.html" for name in ("weighted", "repeated"))
    assert rows_of(first, "Scores") == rows_of(second, "Scores")
    if loss != "mse":
        said = [re.search(r"Mean distance from the line: (\S+)\.<", path.read_text())[1] for path in (first, second)]
        assert said[0] == said[1]
        p = model.predict_proba(X)
        one, other = classes.calibration(y, p, weight), classes.calibration(y[often], p[often])
        for mine, wanted in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-12)


def test_rows_of_weight_0_are_not_there(tmp_path):
    model, X, y, _ = fitted("mse", 1)
    weight = np.ones(len(y))
    weight[::3] = 0
    model.report(tmp_path / "a.html", X, y, sample_weight=weight)
    model.report(tmp_path / "b.html", X[weight > 0], y[weight > 0])
    for title in ("Scores", "Importance of features"):
        assert rows_of(tmp_path / "a.html", title) == rows_of(tmp_path / "b.html", title)
    with pytest.raises(ValueError, match="sample_weight"):
        model.report(tmp_path / "a.html", X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match="sample_weight has 3"):
        model.report(tmp_path / "a.html", X, y, sample_weight=[1, 2, 3])


def test_an_estimator_weighs_its_rows(tmp_path):
    from sklearn.metrics import confusion_matrix

    X = np.random.default_rng(0).normal(size=(90, 3))
    y, weight = np.where(X[:, 0] > 0, "yes", "no"), weights(90)
    model = fastnn.MLPClassifier((4,), solver="lbfgs", random_state=0, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    model.report(tmp_path / "r.html", X, y, sample_weight=weight, importance=False)
    wanted = confusion_matrix(y, model.predict(X), sample_weight=weight)
    table = rows_of(tmp_path / "r.html", "Confusion")[1:3]
    assert [line[:3] for line in table] == [
        [name, *(f"{value:.4g}" for value in line)] for name, line in zip(["no", "yes"], wanted, strict=True)
    ]
    assert dict(rows_of(tmp_path / "r.html", "Scores")[1:])["accuracy"] == f"{model.score(X, y, weight):.4g}"


# Estimators --------------------------------------------------------------------------------------------------------


def test_an_estimator_with_names_of_all_kinds(tmp_path):
    """Text from data is text wherever it comes."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(90, 5)), columns=HOSTILE)
    y = np.where(frame.iloc[:, 0] > 0, SCRIPT, np.where(frame.iloc[:, 1] > 0, 'b & "c"', "$x^2$"))
    model = fastnn.MLPClassifier((8,), early_stopping=True, max_iter=5, random_state=0)
    with pytest.warns(match="converged"):
        model.fit(frame, y)
    model.report(tmp_path / "r.html", frame, y)
    found = read(tmp_path / "r.html")
    assert "script" not in {tag for tag, _ in found.tags} and "b" not in {tag for tag, _ in found.tags}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    for name in [*HOSTILE, *set(y)]:
        assert name in found.text
    assert "Learning curves" in found.headings and "MLPClassifier" in found.text


def test_names_of_metrics_are_escaped_in_the_pictures(tmp_path):
    name = f"{SCRIPT}$\\frac$"
    model, X, y, history = fitted(metrics={name: "accuracy"})
    model.report(tmp_path / "r.html", X, y, history=history, importance=False)
    found = read(tmp_path / "r.html")
    assert "script" not in {tag for tag, _ in found.tags} and name in found.text


def test_estimators_of_values_and_of_one_class(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    regressor = fastnn.MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=3)
    with pytest.warns(match="failed to converge"):
        regressor.fit(X, X[:, 0])
    regressor.report(tmp_path / "r.html", X, X[:, 0])
    assert "Learning curves" not in read(tmp_path / "r.html").headings
    one = fastnn.MLPClassifier((4,), max_iter=5, random_state=0, solver="lbfgs").fit(X, ["a"] * 50)
    one.report(tmp_path / "r.html", X, ["a"] * 50)
    assert "Confusion" in read(tmp_path / "r.html").headings


def test_what_an_estimator_refuses(tmp_path):
    X, y = np.eye(6), np.array(list("aabbcc"))
    out = tmp_path / "r.html"
    with pytest.raises(AttributeError, match="not fitted"):
        fastnn.MLPClassifier().report(out, X, y)
    model = fastnn.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="classes not in"):
        model.report(out, X, np.array(list("aabbcd")))
    with pytest.raises(ValueError, match="features"):
        model.report(out, np.eye(5), y[:5])
    several = fastnn.MLPClassifier((4,), solver="lbfgs").fit(X, np.stack([y, y[::-1]], axis=1))
    with pytest.raises(ValueError, match="y has 2 columns of classes"):
        several.report(out, X, y)
    assert not out.exists()


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": 3}, TypeError, "path is 3, expected a path"),
        ({"path": "{tmp}/none/r.html"}, FileNotFoundError, "expected a folder that is there"),
        ({"path": "{tmp}"}, ValueError, "which is no regular file"),
        ({"X": np.zeros((3, 4))}, ValueError, "X has 4 features"),
        ({"X": np.zeros((0, 5)), "y": np.zeros(0, int)}, ValueError, "X has 0 rows"),
        ({"X": np.full((3, 5), np.nan)}, ValueError, "X"),
        ({"y": [0, 1, 7]}, ValueError, "y"),
        ({"y": [0, 1]}, ValueError, "y has 2"),
        ({"classes": ["a"]}, ValueError, "classes has 1 names, expected 3"),
        ({"classes": "abc"}, TypeError, "classes is 'abc'"),
        ({"history": 3}, TypeError, "history is 3, expected a History"),
        ({"importance": "no"}, TypeError, "importance is 'no', expected True or False"),
        ({"metrics": "accuracy"}, TypeError, "metrics is 'accuracy', expected a list"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_are_refused_by_name(arguments, error, message, tmp_path):
    model, *_ = fitted()
    given = {"path": tmp_path / "r.html", "X": np.zeros((3, 5)), "y": [0, 1, 2], **arguments}
    if isinstance(given["path"], str):
        given["path"] = given["path"].format(tmp=tmp_path)
    with pytest.raises(error, match=message):
        model.report(given.pop("path"), given.pop("X"), given.pop("y"), **given)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_yet(tmp_path):
    with pytest.raises(fastnn.NotFittedError, match="not built"):
        Sequential([nn.Dense(2)]).report(tmp_path / "r.html", np.eye(2), [0, 1])
    with pytest.raises(fastnn.NotFittedError, match="no loss"):
        Sequential([nn.Dense(2)]).build(2).report(tmp_path / "r.html", np.eye(2), [0, 1])


def test_classes_of_values_are_refused(tmp_path):
    model, X, y, _ = fitted("mse", 1)
    with pytest.raises(ValueError, match="classes is given, but this model was trained with mse"):
        model.report(tmp_path / "r.html", X, y, classes=["a"])


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_predictions_that_are_no_numbers(loss, tmp_path):
    """Nothing is to be said of them: the page of before stays."""
    model, X, y, _ = fitted(loss, 1 if loss == "mse" else 3)
    out = tmp_path / "r.html"
    out.write_text("before")
    model.layers[-1].bias[...] = np.nan
    with pytest.raises(ValueError, match="the loss over X and y is nan"):
        model.report(out, X, y)
    assert out.read_text() == "before" and os.listdir(tmp_path) == ["r.html"]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    model, X, y, _ = fitted()
    monkeypatch.setitem(sys.modules, "sklearn.inspection", None)
    with pytest.raises(ImportError, match=r"importance=False leaves it out\) needs scikit-learn.*\[sklearn\]"):
        model.report(tmp_path / "r.html", X, y)
    model.report(tmp_path / "r.html", X, y, importance=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib.*\[plot\]"):
        model.report(tmp_path / "r.html", X, y, importance=False)


def test_the_model_is_what_it_was(tmp_path):
    model, X, y, _ = fitted()
    before = {name: view.copy() for name, view in model.state.views.items()}
    x = X.copy()
    model.report(tmp_path / "r.html", X, y)
    assert np.array_equal(x, X)
    assert all(np.array_equal(before[name], view) for name, view in model.state.views.items())


# The page's parts --------------------------------------------------------------------------------------------------


def test_a_page_asks_for_nothing(tmp_path):
    model, X, y, history = fitted()
    model.report(tmp_path / "r.html", X, y, history=history)
    found = read(tmp_path / "r.html")
    policies = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    links = [a[name] for _, a in found.tags for name in ("src", "href", "xlink:href") if a.get(name)]
    assert all(link.startswith(("data:", "#")) for link in links)
    targets = {a["id"] for _, a in found.tags if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_names_are_shortened_and_escaped():
    assert page.name("<i>") == "&lt;i&gt;"
    long = 'x"' * 100
    assert page.name(long).startswith('<span title="x&quot;') and page.name(long).count("…") == 1
    assert b"?" in page.document("half \ud800", "", [])


def test_of_many_layers_the_first_and_the_last_are_drawn():
    layers = [Layer(f"layer {number}", 0, (3,), 12) for number in range(1000)]
    drawn = network.picture((3,), layers)
    assert "960 more layers" in drawn and "layer 999" in drawn and "layer 500" not in drawn
    assert drawn.count("<polygon") == network.MOST


def test_calibration_by_hand():
    found = classes.calibration(np.array([0, 1, 1]), np.array([[0.8, 0.2], [0.9, 0.1], [0.25, 0.75]]))
    np.testing.assert_allclose(found.said, [0.75, 0.8, 0.9])
    assert found.found.tolist() == [1, 1, 0] and found.rows.tolist() == [1, 1, 1]
    assert found.error == pytest.approx((0.25 + 0.2 + 0.9) / 3)


def test_pictures_take_the_colour_of_the_page_whatever_style_is_chosen():
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "svg.fonttype": "path"}):
        drawn = _plot.svg(lambda figure: figure.subplots().set_title("<a> & $b$"), (2, 2), "one")
        assert matplotlib.rcParams["text.usetex"]
    assert "currentColor" in drawn and "&lt;a&gt; &amp; $b$" in drawn and "ff0000" not in drawn


# In a browser ------------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURE = """<iframe width="390" height="900" srcdoc="{page}"></iframe><p id="found"></p><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const root = frame.contentDocument.documentElement;
  const boxes = [...root.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const drawn = boxes.every(box => box.width > 100 && box.height > 50 && box.right <= root.clientWidth);
  document.querySelector("#found").textContent = `${{root.scrollWidth}} of ${{root.clientWidth}}, drawn: ${{drawn}}`;
}};
</script>"""


def browsed(path, tmp_path) -> subprocess.CompletedProcess:
    """What a browser makes of a page: its document, and on stderr what its console says."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *options, "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Skips where there is none, or one that may not read the folder of a test, as in a sandbox of its own."""
    if CHROMIUM is None:
        pytest.skip("no chromium")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "a.html").write_text("<title>it reads</title>")
    if "it reads" not in browsed(folder / "a.html", folder).stdout:
        pytest.skip(f"{CHROMIUM} shows no file of {folder}")


@pytest.mark.usefixtures("browser")
def test_a_browser_shows_it_on_a_phone_without_a_word(tmp_path):
    model, X, y, history = fitted(outputs=25, n=400)
    out = tmp_path / "r.html"
    model.report(out, X, y, classes=[f"a class with a long name, {i}{SCRIPT}" for i in range(25)], history=history)
    assert "CONSOLE" not in browsed(out, tmp_path).stderr
    around = tmp_path / "around.html"
    around.write_text(MEASURE.format(page=html.escape(out.read_text(encoding="utf-8"))), encoding="utf-8")
    (found,) = re.findall(r'<p id="found">(\d+) of (\d+), drawn: (\w+)</p>', browsed(around, tmp_path).stdout)
    assert int(found[0]) <= int(found[1]) <= 390 and found[2] == "true"


@pytest.mark.usefixtures("browser")
def test_a_browser_runs_no_script_that_got_onto_the_page(tmp_path):
    """What the policy is for; and that the browser's console is heard."""
    out = tmp_path / "r.html"
    bad = '<script>document.title = "run"</script><img src="https://example.com/a.png">'
    out.write_bytes(page.document("title", "", [bad]))
    done = browsed(out, tmp_path)
    assert "<title>title</title>" in done.stdout and done.stderr.count("Content Security Policy") >= 2
