"""`fastnn train` and `fastnn predict` as a user runs them, on scikit-learn's tables and on tables gone wrong."""

from __future__ import annotations

import gzip
import os
import socket
import sys

import numpy as np
import pytest
from common import run_python

import fastnn
from fastnn import cli, files, table, tabular
from fastnn.training import holdout

pandas = pytest.importorskip("pandas")
datasets = pytest.importorskip("sklearn.datasets")
PNG = b"\x89PNG\r\n\x1a\n"
KINDS = ["csv", "parquet"]


def write(frame, path) -> str:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
    tabular.write(frame, path)
    return str(path)


def named(load, target: str = "species"):
    """A data set with its classes as text."""
    data = load(as_frame=True)
    frame = data.frame.copy()
    frame[target] = [str(data.target_names[label]) for label in frame.pop("target")]
    return frame


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def quick(**options) -> tabular.Settings:
    return tabular.Settings(**{"hidden": (16,), "epochs": 60, "verbose": False, "backend": "auto", **options})


# From a file to predictions --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_text(kind, tmp_path, capsys):
    frame = named(datasets.load_wine).sample(frac=1, random_state=0)
    data, model = write(frame, tmp_path / f"wine.{kind}"), tmp_path / "wine.fastnn"
    run("train", data, "--target", "species", "--out", model, "--test", 0.25, "--quiet", "--no-plot", "--hidden", 32)
    said = capsys.readouterr().out
    assert "classification into 3 classes of 'species' by 13 features" in said
    assert "rows: 36 for validation, 44 for test, 98 for training" in said
    out = tmp_path / f"answers.{kind}"
    run("predict", model, data, "--out", out, "--proba")
    assert "ignored columns: species" in capsys.readouterr().err
    answers = tabular.read(out)
    assert list(answers) == ["species", *(f"probability of class_{i}" for i in range(3))]
    assert (answers["species"].to_numpy() == frame["species"].to_numpy()).mean() > 0.95
    p = answers.iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert [f"class_{i}" for i in p.argmax(axis=1)] == answers["species"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_scaled_and_scaled_back(kind, tmp_path, capsys):
    """Targets around 25000 with a deviation of 770: an unscaled net would still be far away after these epochs."""
    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    frame["target"] = 25_000 + 10 * frame["target"]
    data, model = write(frame, tmp_path / f"diabetes.{kind}"), tmp_path / "m"
    run("train", data, "--target", "target", "--out", model, "--quiet", "--no-plot", "--hidden", "16", "--seed", 1)
    said = capsys.readouterr().out
    assert "regression of 'target' by 10 features (guessed; --task decides)" in said and "r2 0." in said
    run("predict", model, data)
    captured = capsys.readouterr()
    predicted = np.array([float(line) for line in captured.out.split()[1:]])
    assert captured.out.split()[0] == "target"
    truth = frame["target"].to_numpy()
    assert 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum() > 0.4
    about = fastnn.load(model).metadata["table"]
    assert about["mean"] == pytest.approx(truth.mean(), rel=0.01) and about["scale"] == pytest.approx(
        truth.std(), rel=0.1
    )


def test_csv_and_parquet_give_the_same_model(tmp_path):
    pytest.importorskip("pyarrow")
    frame = named(datasets.load_breast_cancer)
    models = [tabular.train(write(frame, tmp_path / f"a.{kind}"), "species", quick(epochs=5)).model for kind in KINDS]
    assert models[0].state.parameters.tobytes() == models[1].state.parameters.tobytes()
    assert models[0].metadata == models[1].metadata


def test_same_seed_same_file(tmp_path):
    data = write(named(datasets.load_iris), tmp_path / "iris.csv")
    for name in ("a", "b"):
        run("train", data, "--target", "species", "--out", tmp_path / name, "--quiet", "--no-plot", "--epochs", 3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    run(
        "train",
        data,
        "--target",
        "species",
        "--out",
        tmp_path / "c",
        "--quiet",
        "--no-plot",
        "--epochs",
        3,
        "--seed",
        1,
    )
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_columns_are_found_by_their_names(tmp_path, capsys):
    """In any order, with others between them; a missing one is an error that names it."""
    frame = named(datasets.load_iris)
    data, model = write(frame, tmp_path / "iris.csv"), tmp_path / "m"
    run("train", data, "--target", "species", "--out", model, "--quiet", "--no-plot", "--epochs", 20)
    capsys.readouterr()
    run("predict", model, data)
    expected = capsys.readouterr().out
    assert expected.startswith("species\n") and expected.count("\n") == 151
    mixed = frame[list(frame)[::-1]].assign(note="text", empty=np.nan)
    run("predict", model, write(mixed, tmp_path / "mixed.csv"))
    captured = capsys.readouterr()
    assert captured.out == expected
    assert captured.err == "fastnn: ignored columns: species, note, empty\n"
    less = write(frame.drop(columns=["petal width (cm)", "sepal width (cm)"]), tmp_path / "less.csv")
    assert cli.main(["predict", str(model), less]) == 1
    assert "less.csv has no column 'sepal width (cm)', 'petal width (cm)', which" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [True, False])
def test_curves(asked, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    data = write(named(datasets.load_iris), tmp_path / "iris.csv")
    picture = tmp_path / ("asked.png" if asked else "m.png")
    options = ["--plot", picture] if asked else []
    run("train", data, "--target", "species", "--out", tmp_path / "m", "--quiet", "--epochs", 3, *options)
    assert picture.read_bytes().startswith(PNG) and str(picture) in capsys.readouterr().out


def test_without_matplotlib_no_curves_unless_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data = write(named(datasets.load_iris), tmp_path / "iris.csv")
    arguments = ["train", data, "--target", "species", "--out", str(tmp_path / "m"), "--quiet", "--epochs", "1"]
    assert cli.main(arguments) == 0 and sorted(os.listdir(tmp_path)) == ["iris.csv", "m"]
    assert cli.main([*arguments, "--plot", str(tmp_path / "p.png")]) == 1
    assert "extra [plot]" in capsys.readouterr().err


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    data = write(datasets.load_diabetes(as_frame=True).frame, tmp_path / "a.csv")
    result = tabular.train(data, "target", quick(epochs=300, patience=5, hidden=(64, 64), lr=0.01))
    losses = result.history["val_loss"]
    assert result.stopped and len(losses) == result.best_epoch + 5 and min(losses) == losses[result.best_epoch - 1]
    frame = tabular.read(data)
    parts = holdout.split(len(frame), {"validation": 0.2}, 0, np.zeros(len(frame)))
    held = frame.iloc[parts["validation"]]
    about = result.description
    truth = (held["target"].to_numpy() - about.mean) / about.scale
    measured = result.model.evaluate(held[about.features], truth)["loss"]
    assert measured == pytest.approx(min(losses), rel=1e-5)


# Tasks and targets -----------------------------------------------------------------------------------------

TARGETS = {
    "text": (["a", "b", "a"] * 20, "classification", ["a", "b"]),
    "text with None": (["None", "b", "None"] * 20, "classification", ["None", "b"]),
    "0 and 1": ([0, 1] * 30, "classification", [0, 1]),
    "-1 and 1 as floats": ([-1.0, 1.0] * 30, "classification", [-1, 1]),
    "few whole numbers": ([3, 7, 5] * 20, "classification", [3, 5, 7]),
    "truth": ([True, False] * 30, "classification", [False, True]),
    "two halves": ([0.5, 1.5] * 30, "classification", [0.5, 1.5]),
    "fractions": (list(np.linspace(0, 1, 60)), "regression", None),
    "few fractions": ([0.1, 0.2, 0.4] * 20, "regression", None),
    "many whole numbers": (list(range(60)), "regression", None),
}


AS_WRITTEN = {
    "leading zeros": (["01234", "98765", "00501"], ["00501", "01234", "98765"]),
    "agents": (["007", "7", "07"], ["007", "07", "7"]),
    "signs": (["+1", "-1", "0"], ["+1", "-1", "0"]),
    "fixed decimals": (["0.10", "0.25", "0.10"], ["0.10", "0.25"]),
    "versions": (["1.0", "1", "2"], ["1", "1.0", "2"]),
    "floats": (["0.0", "1.0", "1.0"], [0.0, 1.0]),
    "whole numbers": (["10", "9", "-1"], [-1, 9, 10]),
    "more than float64 has": (["9007199254740993", "9007199254740992", "1"], [1, 2**53, 2**53 + 1]),
    "more than 64 bits": (["9223372036854775808", "1", "2"], ["1", "2", "9223372036854775808"]),
    "exponents": (["1e3", "1e4", "1e3"], ["1e3", "1e4"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["auto", "classification"])
@pytest.mark.parametrize(("values", "classes"), AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_classes_are_what_the_file_has(values, classes, task, kind, tmp_path):
    frame = pandas.DataFrame({"x": np.arange(60), "y": values * 20})
    path = write(frame, tmp_path / f"a.{kind}")
    aim = tabular.target(tabular.read(path, text=("y",))["y"], "y", task)
    assert aim.classes == classes and [type(label) for label in aim.classes] == [type(label) for label in classes]
    assert [str(aim.classes[label]) for label in aim.values] == frame["y"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_with_leading_zeros_come_back(kind, tmp_path, capsys):
    """More than FEW_CLASSES of them, which as numbers would be quantities; and numbers where these are asked for."""
    codes = [f"{37 * i:05d}" for i in range(25)] * 4
    data = write(pandas.DataFrame({"x": np.arange(100) % 25, "zip": codes}), tmp_path / f"a.{kind}")
    arguments = ["train", data, "--target", "zip", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 2]
    run(*arguments)
    assert "classification into 25 classes" in capsys.readouterr().out
    run("predict", tmp_path / "m", data)
    assert set(capsys.readouterr().out.split()[1:]) <= set(codes)
    run(*arguments, "--task", "regression")
    assert "regression of 'zip'" in capsys.readouterr().out


def test_whole_numbers_of_parquet_that_float64_has_not(tmp_path):
    values = [2**53, 2**53 + 1, 5] * 20
    path = write(pandas.DataFrame({"x": np.arange(60), "y": values}), tmp_path / "a.parquet")
    aim = tabular.target(tabular.read(path)["y"], "y")
    assert aim.classes == [5, 2**53, 2**53 + 1] and [aim.classes[label] for label in aim.values] == values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("values", "task", "classes"), TARGETS.values(), ids=TARGETS)
def test_the_task_is_guessed(values, task, classes, kind, tmp_path):
    frame = pandas.DataFrame({"x": np.arange(len(values)), "y": values})
    path = write(frame, tmp_path / f"a.{kind}")
    aim = tabular.target(tabular.read(path, text=("y",))["y"], "y")
    if kind == "csv" and values[0] is True:  # text, as it is written
        values, classes = [str(value) for value in values], ["False", "True"]
    assert (aim.task, aim.classes, aim.guessed) == (task, classes, True)
    assert aim.values.tolist() == values if classes is None else [classes[label] for label in aim.values] == values


def test_the_task_can_be_set(tmp_path, capsys):
    frame = pandas.DataFrame({"x": np.arange(60.0), "y": [1, 2, 3] * 20})
    data = write(frame, tmp_path / "a.csv")
    arguments = ["train", data, "--target", "y", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 2]
    run(*arguments, "--task", "regression")
    assert "regression of 'y' by 1 feature\n" in capsys.readouterr().out
    run(*arguments, "--task", "classification")
    assert "classification into 3 classes" in capsys.readouterr().out


def test_whole_numbers_come_back_as_such(tmp_path, capsys):
    frame = pandas.DataFrame({"x": [0.0, 1.0] * 40, "y": [4, 9] * 40})
    data = write(frame, tmp_path / "a.csv")
    run("train", data, "--target", "y", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 80)
    capsys.readouterr()
    run("predict", tmp_path / "m", data)
    assert capsys.readouterr().out.split()[:3] == ["y", "4", "9"]


# Splitting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5, 97, 1000])
def test_splits_are_whole_disjoint_and_of_their_size(count):
    parts = holdout.split(count, {"validation": 0.3} | ({"test": 0.2} if count > 4 else {}), seed=3)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(count))
    assert abs(len(parts["validation"]) - 0.3 * count) <= 0.5
    assert all((np.diff(rows) > 0).all() for rows in parts.values())


def test_classes_are_divided_alike():
    labels = np.repeat([0, 1, 2], [500, 95, 5])
    for seed in range(5):
        parts = holdout.split(600, {"validation": 0.2, "test": 0.2}, seed, labels)
        for rows, share in ((parts["validation"], 0.2), (parts["test"], 0.2), (parts["training"], 0.6)):
            assert (np.abs(np.bincount(labels[rows], minlength=3) - share * np.bincount(labels)) <= 1.5).all()
    drawn = {tuple(holdout.split(600, {"validation": 0.2}, seed, labels)["validation"]) for seed in range(5)}
    assert len(drawn) == 5


# Tables gone wrong -----------------------------------------------------------------------------------------

GOOD = "a,b,y\n" + "".join(f"{i},{i * i},{'uv'[i % 2]}\n" for i in range(10))
ROW = "1,2,u\n"
WRONG = {
    "empty": ("", "t.csv cannot be read: it is empty"),
    "names only": ("a,b,y\n", "t.csv has no rows"),
    "a blank line first": ("\n" + GOOD, "it is empty or begins with a blank line"),
    "a blank line between": (GOOD + "\n" + ROW, "t.csv has a blank line among its rows, line 12: take it out"),
    "a line of blanks between": (GOOD + "  \n" + ROW, "t.csv has a blank line among its rows, line 12: take it out"),
    "a row of separators": (GOOD + ",,\n" + ROW, "the target 'y' is missing in 1 of 12 rows"),
    "one row": ("a,b,y\n1,2,u\n", "t.csv has 1 row"),
    "two rows": ("a,b,y\n1,2,u\n3,4,v\n", "2 different values in 2 rows"),
    "target unknown": (GOOD.replace("y", "z", 1), "t.csv has no column 'y', expected one of: 'a', 'b', 'z'"),
    "names twice": (GOOD.replace("b", "a", 1), "t.csv has several columns of the name 'a'"),
    "no name": (GOOD.replace("b", "", 1), "column 2 has no name, expected one for each\n"),
    "no name for the index": (
        pandas.DataFrame({"a": [1], "y": [2]}).to_csv(),
        "column 1 has no name, expected one for each: if it is the row index of a DataFrame, write the file with "
        "df.to_csv(..., index=False)\n",
    ),
    "names twice but for blanks": (GOOD.replace("b", "a ", 1), "t.csv has several columns of the name 'a'"),
    "target alone": ("y\nu\nv\nu\nv\n", "no column beside the target 'y'"),
    "missing values": (
        GOOD + ",1,u\n,NA,v\n1,,u\n",
        "t.csv has missing values in 'a' (2 of 13 rows), 'b' (2 of 13 rows): fill "
        "or encode them (--fill, --encode, --drop-missing), or leave columns out with --ignore",
    ),
    "text": (GOOD + "x,1,u\n?,1,u\n", "values that are not numbers in 'a' (2 of 12 rows, such as 'x')"),
    "both": (
        GOOD + ",x,u\n",
        "missing values in 'a' (1 of 11 rows); values that are not numbers in 'b' (1 of 11 rows, such as 'x')",
    ),
    "infinity": (GOOD + "inf,-inf,u\n", "infinity in 'a' (1 of 11 rows), 'b' (1 of 11 rows)"),
    "target missing": (GOOD + "1,2,\n1,2,NA\n", "the target 'y' is missing in 2 of 12 rows"),
    "target constant": ("a,y\n" + "1,u\n" * 9, "the target 'y' is 'u' in all 9 rows"),
    "target constant number": ("a,y\n" + "1,2\n" * 9, "the target 'y' is 2 in all 9 rows"),
    "target constant, written in two ways": (
        "a,y\n" + "1,2.50\n" * 3 + "1,2.5\n",
        "the target 'y' is '2.50' in all 4 rows",
    ),
    "target infinite": ("a,y\n1,inf\n" + "1,2.5\n" * 9, "the target 'y' is infinite in 1 of 10 rows"),
    "target all different": ("a,y\n" + "".join(f"1,u{i}\n" for i in range(9)), "9 different values in 9 rows"),
    "target huge": ("a,y\n" + "".join(f"1,{i}e200\n" for i in range(90)), "numbers that are too large"),
    "longer rows": (GOOD + "1,2,u,4\n", "t.csv cannot be read: "),
    "all rows longer": ("a,y\n" + "1,2,3\n" * 9, "t.csv cannot be read: "),
    "a value that float32 has not": (GOOD + "1e300,2,u\n", "too large for float32"),
    "not text": ("a,y\n\xff,1\n".encode("latin-1"), "t.csv is not text in UTF-8"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_errors_are_one_line(content, message, tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = ["train", str(path), "--target", "y", "--out", str(tmp_path / "m"), "--quiet"]
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("fastnn: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert os.listdir(tmp_path) == ["t.csv"]


OPTIONS = {
    "validation": (["--validation", "0"], "validation is 0.0"),
    "nothing left": (
        ["--validation", "0.5", "--test", "0.5"],
        "test is 0.5: of 10 rows none is left for training",
    ),
    "too little": (["--validation", "0.01"], "validation is 0.01: of 10 rows none is left for validation"),
    "test": (["--test", "-0.1"], "test is -0.1"),
    "epochs": (["--epochs", "0"], "epochs is 0"),
    "batch size": (["--batch-size", "0"], "batch_size is 0"),
    "rate": (["--lr", "-1"], "lr is -1"),
    "patience": (["--patience", "0"], "patience is 0"),
    "seed": (["--seed", "-1"], "seed is -1"),
    "ignored": (["--ignore", "a,c"], "no column 'c'"),
    "all ignored": (["--ignore", "a", "--ignore", "b"], "no column beside the target"),
    "regression of text": (["--task", "regression"], "has text such as 'u'"),
    "out": (["--out", "nowhere/m"], "--out is 'nowhere/m'"),
    "out is the table": (["--out", "t.csv"], "--out is 't.csv', which is read"),
    "plot": (["--plot", "curves.pdf"], "--plot is 'curves.pdf'"),
    "separator of two": (["--separator", ",,"], "separator is ',,', expected one character of ASCII"),
    "separator beyond ASCII": (["--separator", "§"], "separator is '§', expected one character of ASCII"),
    "no separator": (["--separator", ""], "separator is '', expected one character of ASCII"),
    "quotes as separators": (["--separator", '"'], "separator is '\"', expected one character of ASCII"),
    "hidden": (["--hidden", "999999999999"], "weight of layers[1] (Dense) has shape"),
    "hidden, beyond addresses": (["--hidden", "9" * 25], "expected 2^40 values at most"),
    "diverging": (["--lr", "1e30"], "learning rate 1e+30"),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_are_wrong(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(GOOD)
    assert cli.main(["train", "t.csv", "--target", "y", "--quiet", *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert (tmp_path / "t.csv").read_text() == GOOD and os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets that are files")
def test_a_socket_is_refused_before_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(GOOD)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")  # a short name: a path may have 107 bytes
        assert cli.main(["train", "t.csv", "--target", "y", "--quiet", "--no-plot", "--out", "s"]) == 1
    assert "--out is 's', a socket" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", ["0", "8,-1", "many", ""])
def test_hidden_layers_that_are_none(hidden, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "t.csv", "--target", "y", "--hidden", hidden])
    assert caught.value.code == 2 and "is not like 128,64" in capsys.readouterr().err


def test_no_hidden_layer_and_other_separators(tmp_path, capsys):
    for name, separator, options in (
        ("a.csv", ";", ["--separator", ";"]),
        ("a.csv", "\t", ["--separator", "\t"]),
        ("a.csv", "\t", ["--separator", r"\t"]),
        ("a.tsv", "\t", []),
        ("a.tsv", ",", ["--separator", ","]),
    ):
        (tmp_path / name).write_text("\ufeff" + GOOD.replace(",", separator), encoding="utf-8")
        run(
            "train",
            tmp_path / name,
            "--target",
            "y",
            "--hidden",
            "none",
            "--out",
            tmp_path / "m",
            "--quiet",
            "--no-plot",
            "--epochs",
            1,
            *options,
        )
        assert "1  Dense(2)" in capsys.readouterr().out
        run("predict", tmp_path / "m", tmp_path / name, *options)
        capsys.readouterr()


def test_blanks_around_names(tmp_path, capsys):
    """In the file, before and after; in the options."""
    (tmp_path / "t.csv").write_text(GOOD)
    (tmp_path / "b.csv").write_text(GOOD.replace("a,b,y", " a , b ,y ", 1))
    for data, ignored, target in (("t.csv", "a,b", "y"), ("b.csv", "a, b", " y"), ("b.csv", " a ,b", "y ")):
        arguments = ["train", tmp_path / data, "--target", target, "--ignore", ignored, "--quiet", "--no-plot"]
        assert cli.main([str(each) for each in (*arguments, "--out", tmp_path / "m")]) == 1
        assert "no column beside the target 'y'" in capsys.readouterr().err
    models = [tabular.train(tmp_path / name, "y", quick(epochs=1)).model for name in ("t.csv", "b.csv")]
    assert models[0].metadata == models[1].metadata
    answers, extra = tabular.predict(models[0], tmp_path / "b.csv")
    assert len(answers) == 10 and extra == ["y"]


def test_blanks_in_names_of_parquet_stay(tmp_path):
    frame = pandas.DataFrame({"a ": np.arange(60.0), "b": 1.0, "y ": ["u", "v"] * 30})
    path = write(frame, tmp_path / "a.parquet")
    about = tabular.train(path, "y ", quick(epochs=1), ignore=["b"]).description
    assert (about.features, about.target) == (["a "], "y ")


def test_parquet_gone_wrong(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    times = pandas.to_datetime(["2020-01-01"] * 9)
    frame = pandas.DataFrame(
        {
            "when": times,
            "who": pandas.Categorical(["u", "v", "u"] * 3),
            "count": pandas.array([1, None, 3] * 3, dtype="Int64"),
            "on": [True, False, True] * 3,
            "y": ["a", "b", "a"] * 3,
        }
    )
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    assert cli.main(["train", str(path), "--target", "y", "--out", str(tmp_path / "m")]) == 1
    error = capsys.readouterr().err
    assert (
        "missing values in 'count' (3 of 9 rows); values that are not numbers in 'when' (9 of 9 rows, such as '2020"
        in error
    )
    assert "'who' (9 of 9 rows, such as 'u')" in error and "'on'" not in error
    path.write_bytes(b"PAR1" + b"x" * 40)
    assert cli.main(["train", str(path), "--target", "y", "--out", str(tmp_path / "m")]) == 1
    assert "a.parquet cannot be read" in capsys.readouterr().err


def test_the_hidden_index_of_parquet_is_no_feature(tmp_path, capsys):
    """Which df.to_parquet keeps after a shuffle; an index that has a name is a column."""
    pytest.importorskip("pyarrow")
    frame = named(datasets.load_iris)
    shuffled = frame.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "a.parquet")
    result = tabular.train(tmp_path / "a.parquet", "species", quick(epochs=1))
    assert result.description.features == list(frame)[:-1]
    shuffled.to_csv(tmp_path / "a.csv", index=False)
    same = tabular.train(tmp_path / "a.csv", "species", quick(epochs=1))
    assert result.model.state.parameters.tobytes() == same.model.state.parameters.tobytes()
    result.model.save(tmp_path / "m")
    run("predict", tmp_path / "m", tmp_path / "a.parquet")
    assert capsys.readouterr().err == "fastnn: ignored columns: species\n"
    two = shuffled.set_index([np.arange(150) % 3, np.arange(150)])
    two.to_parquet(tmp_path / "two.parquet")
    assert list(tabular.read(tmp_path / "two.parquet")) == list(frame)
    shuffled.rename_axis("plant").to_parquet(tmp_path / "named.parquet")
    assert list(tabular.read(tmp_path / "named.parquet")) == [*frame, "plant"]
    frame.to_parquet(tmp_path / "range.parquet")  # a range is kept as its bounds
    assert list(tabular.read(tmp_path / "range.parquet")) == list(frame)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zip", "t.csv.bz2", "t.csv.xz"])
def test_compressed(name, tmp_path, capsys):
    frame = named(datasets.load_iris)
    frame.to_csv(tmp_path / name, index=False)
    assert tabular.train(tmp_path / name, "species", quick(epochs=1)).rows["training"] == 120
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    assert cli.main(["train", str(tmp_path / name), "--target", "species", "--out", str(tmp_path / "m")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastnn: ") and error.count("\n") == 1 and name in error


BLANK = {
    "one column": ("bmi\n0.1\n\n0.3\n", 1, 3),
    "one column, Windows": ("bmi\r\n0.1\r\n\r\n0.3\r\n", 1, 3),
    "one column, the last but one": ("bmi\n0.1\n\n\n", 1, 2),
    "one column, quoted": ('bmi\n0.1\n0.3\n""\n', 1, 3),
    "separators alone": ("bmi,age\n0.1,1\n0.3,2\n,\n", 1, 3),
    "separators alone, then a blank line": ("bmi,age\n0.1,1\n0.3,2\n,\n\n", 1, 3),
    "separators alone, among the rows": ("bmi,age\n0.1,1\n,\n0.3,2\n", 1, 3),
    "a blank line, then separators alone": ("bmi,age\n0.1,1\n0.3,2\n\n,\n", 1, 3),
}
AMONG = {  # and in which line
    "between": ("bmi,age\n0.1,1\n\n0.3,2\n", 3),
    "also at the end": ("bmi,age\n0.1,1\n\n0.3,2\n\n", 3),
    "Windows": ("bmi,age\r\n0.1,1\r\n\r\n0.3,2\r\n", 3),
    "behind the names": ("bmi,age\n\n0.1,1\n0.3,2\n", 2),
    "behind a line within quotes": ('bmi,age\n0.1,"\n\n1"\n\n0.3,2\n', 5),
    "beside a row of separators": ("bmi,age\n0.1,1\n,\n\n0.3,2\n", 4),
}


@pytest.fixture
def of_bmi(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("bmi,y\n" + "".join(f"{i},{'uv'[i % 2]}\n" for i in range(10)))
    run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 1)
    capsys.readouterr()
    return tmp_path / "m"


@pytest.mark.parametrize(("content", "missing", "rows"), BLANK.values(), ids=BLANK)
def test_no_row_is_dropped_because_its_line_is_blank(content, missing, rows, of_bmi, tmp_path, capsys):
    (tmp_path / "b.csv").write_bytes(content.encode())
    assert cli.main(["predict", str(of_bmi), str(tmp_path / "b.csv")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and f"missing values in 'bmi' ({missing} of {rows} rows)" in captured.err


@pytest.mark.parametrize(("content", "line"), AMONG.values(), ids=AMONG)
def test_a_blank_line_among_rows_is_named(content, line, of_bmi, tmp_path, capsys):
    """It is no row whose value is missing, as which it was reported."""
    (tmp_path / "b.csv").write_bytes(content.encode())
    assert cli.main(["predict", str(of_bmi), str(tmp_path / "b.csv")]) == 1
    assert f"b.csv has a blank line among its rows, line {line}: take it out" in capsys.readouterr().err
    with gzip.open(tmp_path / "b.csv.gz", "wb") as file:
        file.write(content.encode())
    with pytest.raises(ValueError, match="has a blank line among its rows: take it out"):
        tabular.read(tmp_path / "b.csv.gz")
    rows = [line for line in content.replace('"\n\n1"', "1").split() if line][1:]
    frame = tabular.read(tmp_path / "b.csv", blank_lines=True)
    assert len(frame) == len(rows) and frame["bmi"].dropna().tolist() == [0.1, 0.3]


def test_blank_lines_are_left_out_with_what_is_missing(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD + "\n" + ROW * 5)
    for options in ({"drop_missing": True}, {"fill": "mean"}):
        result = tabular.train(tmp_path / "t.csv", "y", quick(epochs=1), **options)
        assert sum(result.rows.values()) == 15


@pytest.mark.parametrize("content", ["bmi\n1\n3\n\n", "bmi\n1\n3", "bmi,age\n1,2\n3,4\n\n\n", "bmi\r\n1\r\n3\r\n\r\n"])
def test_blank_lines_at_the_end_are_no_rows(content, of_bmi, tmp_path, capsys):
    (tmp_path / "b.csv").write_bytes(content.encode())
    run("predict", of_bmi, tmp_path / "b.csv")
    assert capsys.readouterr().out.count("\n") == 3
    frame = tabular.read(tmp_path / "b.csv", text=("bmi",))
    assert frame["bmi"].tolist() == ["1", "3"] and tabular.read(tmp_path / "b.csv")["bmi"].tolist() == [1, 3]


def test_predictions_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(GOOD)
    (tmp_path / "bad.csv").write_text("a,b\n1,\nx,2\n")
    (tmp_path / "n.csv").write_text("a,b,y\n" + "".join(f"{i},1,{i}.5\n" for i in range(9)))
    model, other = str(tmp_path / "m"), tmp_path / "other"
    run("train", tmp_path / "t.csv", "--target", "y", "--out", model, "--quiet", "--no-plot", "--epochs", 1)
    run("train", tmp_path / "n.csv", "--target", "y", "--out", tmp_path / "n", "--quiet", "--no-plot", "--epochs", 1)
    fastnn.Sequential([fastnn.nn.Dense(1)]).build(2).save(other)
    capsys.readouterr()
    for arguments, message in (
        (
            [model, "bad.csv"],
            "missing values in 'b' (1 of 2 rows); values that are not numbers in 'a' (1 of 2 rows, such as 'x')",
        ),
        ([model, "none.csv"], "none.csv is not there"),
        (["none", "t.csv"], "No such file"),
        ([str(other), "t.csv"], "no description of a table, expected one that `fastnn train` made"),
        ([str(tmp_path / "n"), "t.csv", "--proba"], "expected one of classes for --proba"),
        ([model, "t.csv", "--out", model], "which is read"),
        ([str(tmp_path / "t.csv"), "t.csv"], "not a file of fastnn"),
    ):
        assert cli.main(["predict", arguments[0], str(tmp_path / arguments[1]), *arguments[2:]]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_probability_does_not_take_the_column_of_the_answers(tmp_path, capsys):
    name = "probability of u"
    (tmp_path / "t.csv").write_text(GOOD.replace("y", name, 1))
    run("train", tmp_path / "t.csv", "--target", name, "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 1)
    capsys.readouterr()
    run("predict", tmp_path / "m", tmp_path / "t.csv")
    assert set(capsys.readouterr().out.splitlines()[1:]) <= {"u", "v"}
    assert cli.main(["predict", str(tmp_path / "m"), str(tmp_path / "t.csv"), "--proba"]) == 1
    assert "the target is 'probability of u', as a column of --proba is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", ["a"], "features or a target that are not the model's"),
        ("classes", ["u"], "task or classes that are not the model's"),
        ("classes", None, "task or classes that are not the model's"),
        ("task", "regression", "task or classes"),
        ("scale", 0.0, "scale is 0.0"),
        ("other", 1, "unexpected keyword argument 'other'"),
    ],
)
def test_descriptions_that_do_not_fit_the_model(key, value, message, tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    model = tabular.train(tmp_path / "t.csv", "y", quick(epochs=1)).model
    model.save(tmp_path / "m")
    header, arrays = files.read(tmp_path / "m")
    header["metadata"]["table"][key] = value
    files.write(tmp_path / "m", header, arrays)
    with pytest.raises(fastnn.ModelFormatError, match=message):
        tabular.predict(fastnn.load(tmp_path / "m"), tmp_path / "t.csv")


def test_without_pandas_the_error_names_the_extra(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    result = run_python(f"""
        import sys
        sys.modules["pandas"] = None
        from fastnn import cli
        sys.exit(cli.main(["train", {str(tmp_path / "t.csv")!r}, "--target", "y", "--out", {str(tmp_path / "m")!r}]))
    """)
    assert result.returncode == 1
    assert (
        "reading a table needs pandas: pip install pandas pyarrow, or in a checkout of fastnn the extra [table]"
        in result.stderr
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_that_closes_is_no_error(tmp_path):
    """`fastnn predict ... | head -1`, with more to say than a pipe holds."""
    (tmp_path / "t.csv").write_text(GOOD)
    (tmp_path / "long.csv").write_text("a,b\n" + "1,2\n" * 200_000)
    run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 1)
    result = run_python(f"""
        import subprocess, sys
        command = [sys.executable, "-m", "fastnn", "predict", {str(tmp_path / "m")!r}, {str(tmp_path / "long.csv")!r}]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.readline()
        process.stdout.close()
        print(process.wait(), process.stderr.read().decode())
    """)
    status, *said = result.stdout.split(maxsplit=1)
    assert status == "141", result.stdout + result.stderr
    assert not said or ("FallbackWarning" in said[0] and "Error" not in said[0])  # where nothing was compiled


def test_the_former_name_has_the_same():
    assert table.__all__ == tabular.__all__
    assert all(getattr(table, name) is getattr(tabular, name) for name in tabular.__all__)


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["1", "2", "10"], [1, 2, 10]),
        (["1.0", "2.5", "10.0"], [1.0, 2.5, 10.0]),
        (["007", "07", "7"], ["007", "07", "7"]),
        (["b", " a", "a ", "None"], ["None", "a", "b"]),
        (["0.0", "-0.0", "1.0"], [0.0, 1.0]),  # one number, written in two ways
        (["1", "1.0", "2"], ["1", "1.0", "2"]),
    ],
)
def test_labels_of_many_rows_are_those_of_their_texts(written, classes):
    """Each distinct text is looked at once; row by row Python finds the same."""
    rows = np.random.default_rng(0).choice(written, 1000)
    found = tabular.targets.target(pandas.Series(rows, dtype=object), "y", "classification")
    assert found.classes == classes and list(map(type, found.classes)) == list(map(type, classes))
    kind = type(classes[0])
    assert [found.classes[label] for label in found.values] == [kind(text.strip()) for text in rows]
    again = tabular.targets.labels(pandas.Series(rows, dtype=object), "y", classes)
    if len(set(map(float, written)) if kind is float else classes) == len(set(map(str.strip, written))):
        np.testing.assert_array_equal(again, found.values)


def test_a_target_of_many_numbers_has_all_their_digits():
    numbers = np.random.default_rng(0).normal(size=5000)
    written = pandas.Series([f"{number!r} " for number in numbers.tolist()], dtype=object)
    found = tabular.targets.target(written, "y")
    assert found.classes is None and np.array_equal(found.values, numbers)
    with pytest.raises(ValueError, match="has text such as '1_0', expected numbers for a regression"):
        tabular.targets.target(pandas.Series(["1.5", "1_0", "2.5"]), "y", "regression")
