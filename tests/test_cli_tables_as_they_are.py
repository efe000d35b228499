"""Tables as people have them: text, missing values, weights, other separators, pipes; what the command line says."""

from __future__ import annotations

import gzip
import io
import os
import threading

import numpy as np
import pytest
from common import full

import fastnn
from fastnn import cli, files, tabular

pandas = pytest.importorskip("pandas")


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def refused(capsys, *arguments: object) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastnn: ") and error.count("\n") == 1, error
    return error


def quick(**options) -> tabular.Settings:
    return tabular.Settings(**{"hidden": (8,), "epochs": 5, "verbose": False, **options})


def animals(rows: int = 120, seed: int = 0):
    """A target by a column of text, one of numbers with gaps, one of noise."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["cat", "dog", "hen"], rows)
    mass = np.select([kind == "cat", kind == "dog"], [4.0, 20.0], 2.0) + rng.normal(size=rows)
    legs = np.where(kind == "hen", "two", "four")
    frame = pandas.DataFrame({"kind": kind, "mass": mass, "noise": rng.normal(size=rows), "legs": legs})
    frame.loc[::7, "mass"] = np.nan
    return frame


@pytest.fixture
def table(tmp_path):
    animals().to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


# Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_text_becomes_a_column_for_each_value(kind, tmp_path):
    """As pandas.get_dummies has it."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    frame = animals().drop(columns="mass")
    frame.loc[3, "kind"] = None
    tabular.write(frame, tmp_path / f"t.{kind}")
    result = tabular.train(tmp_path / f"t.{kind}", "legs", quick(), encode=True)
    assert result.description.categories == {"kind": ["cat", "dog", "hen", None]}
    assert result.model.feature_names == ["kind=cat", "kind=dog", "kind=hen", "kind is missing", "noise"]
    x = tabular.numbers(frame, ["kind", "noise"], "t", encoding=result.description.encoding).x
    dummies = pandas.get_dummies(frame["kind"], dummy_na=True).to_numpy(float)
    np.testing.assert_array_equal(x, np.column_stack([dummies, frame["noise"]]))


def test_without_encode_text_is_an_error(table, capsys):
    error = refused(capsys, "train", table, "--target", "legs", "--ignore", "mass", "--out", table.with_name("m"))
    assert "values that are not numbers in 'kind' (120 of 120 rows, such as" in error
    assert "(--fill, --encode, --drop-missing), or leave columns out with --ignore" in error


def test_categories_are_those_of_the_rows_to_learn_from(tmp_path):
    """One that the validation alone has is none, of which a warning tells; as is one that comes later."""
    frame = animals().drop(columns="mass")
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    held = tabular.train(path, "legs", quick(), encode=True)
    parts = fastnn.training.holdout.split(120, {"validation": 0.2}, 0, (frame["legs"] == "two").to_numpy(int))
    frame.loc[parts["validation"][0], "kind"] = "axolotl"
    frame.to_csv(path, index=False)
    with pytest.warns(
        fastnn.TableWarning, match="'kind' has values in 1 of 120 rows that the training has not, such as"
    ):
        result = tabular.train(path, "legs", quick(), encode=True)
    assert result.description == held.description
    new = pandas.DataFrame({"kind": ["dog", "yeti", "", "hen"], "noise": 0.0})
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(
        fastnn.TableWarning, match=r"'kind' has values in 2 of 4 rows .* such as 'yeti': they count as none"
    ):
        answers, _ = tabular.predict(result.model, tmp_path / "new.csv", proba=True)
    probabilities = answers.iloc[:, 1:].to_numpy()
    np.testing.assert_array_equal(probabilities[1], probabilities[2])
    assert len(answers) == 4 and (probabilities[0] != probabilities[1]).any()


def test_codes_stay_text_in_another_file(tmp_path):
    """'007' is no 7 where a file has codes of digits alone."""
    rng = np.random.default_rng(0)
    codes = rng.choice(["007", "07", "x"], 90)
    pandas.DataFrame({"code": codes, "y": np.where(codes == "007", "a", "b")}).to_csv(tmp_path / "t.csv", index=False)
    model = tabular.train(tmp_path / "t.csv", "y", quick(epochs=60), encode=True).model
    pandas.DataFrame({"code": ["007", "07", "07"]}).to_csv(tmp_path / "new.csv", index=False)
    answers, _ = tabular.predict(model, tmp_path / "new.csv")
    assert answers["y"].tolist() == ["a", "b", "b"]


def test_numbers_with_a_mark_for_what_is_missing_are_not_encoded(tmp_path, capsys):
    frame = pandas.DataFrame({"x": [*map(str, range(60)), "?", "?"], "y": ["u", "v"] * 31})
    frame.to_csv(tmp_path / "t.csv", index=False)
    error = refused(capsys, "train", tmp_path / "t.csv", "--target", "y", "--encode", "--out", tmp_path / "m")
    assert "values that are not numbers in 'x' (2 of 62 rows, such as '?')" in error


# Missing values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fill", "of"), [("mean", np.mean), ("median", np.median), ("zero", lambda values: 0.0)])
def test_missing_numbers_become_what_the_rows_to_learn_from_have(fill, of, table):
    frame = animals()
    result = tabular.train(table, "legs", quick(), fill=fill, encode=True)
    rows = fastnn.training.holdout.split(120, {"validation": 0.2}, 0, (frame["legs"] == "two").to_numpy(int))[
        "training"
    ]
    seen = frame["mass"].to_numpy()[rows]
    assert result.description.fill["mass"] == pytest.approx(of(seen[~np.isnan(seen)]), rel=1e-12)
    filled = frame.fillna({"mass": result.description.fill["mass"]})
    answers = [result.model.predict(x) for x in _matrices(result, frame, filled)]
    np.testing.assert_array_equal(*answers)


def _matrices(result, *frames):
    about = result.description
    return [tabular.numbers(frame, about.features, "t", encoding=about.encoding) for frame in frames]


def test_rows_with_missing_values_are_left_out(table, tmp_path, capsys):
    whole = animals().dropna()
    whole.to_csv(tmp_path / "whole.csv", index=False)
    for name, options in (("t.csv", ["--drop-missing"]), ("whole.csv", [])):
        run(
            "train", tmp_path / name, "--target", "legs", "--encode", "--epochs", 3, "--quiet", "--no-plot",
            "--out", tmp_path / f"{name}.m", *options,
        )  # fmt: skip
        said = capsys.readouterr().out
        assert ("; 18 with missing values left out" in said) == bool(options)
    assert (tmp_path / "t.csv.m").read_bytes() == (tmp_path / "whole.csv.m").read_bytes()


@pytest.mark.parametrize("options", [dict(fill="mean"), dict(drop_missing=True), dict(fill="mean", drop_missing=True)])
def test_rows_without_a_target_are_left_out_where_that_was_asked(options, tmp_path):
    frame = animals().drop(columns=["kind", "legs"]).assign(y=np.arange(120.0) ** 2)
    frame.loc[:9, "y"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=r"'y' is missing in 10 of 120 rows: leave them out with --drop-missing"):
        tabular.train(tmp_path / "t.csv", "y", quick(), ignore=["mass"])
    result = tabular.train(tmp_path / "t.csv", "y", quick(), **options)
    gone = frame["y"].isna() | (frame["mass"].isna() & ("fill" not in options))
    assert result.left_out == gone.sum() and sum(result.rows.values()) == 120 - gone.sum()


def test_a_column_without_numbers_cannot_be_filled(table, capsys):
    frame = animals().assign(empty=np.nan)
    frame.to_csv(table, index=False)
    error = refused(
        capsys, "train", table, "--target", "legs", "--fill", "mean", "--encode", "--out", table.with_name("m")
    )
    assert "column 'empty' has no numbers in the rows to learn from" in error


# Columns that are not what they seem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("first", [0, 1, 1000])
def test_a_column_that_counts_the_rows_is_told_of(first, shuffled, table, capsys):
    frame = animals().drop(columns="mass")
    frame.insert(0, "rownames", first + np.arange(120))
    (frame.sample(frac=1, random_state=0) if shuffled else frame).to_csv(table, index=False)
    options = ["--target", "legs", "--encode", "--epochs", 1, "--quiet", "--no-plot", "--out", table.with_name("m")]
    run("train", table, *options)
    said = capsys.readouterr()
    assert said.err.startswith(
        f"fastnn: column 'rownames' counts the rows ({first}, {first + 1}, ...): leave it out with"
    )
    assert "--ignore rownames" in said.err and "by 5 features (of 3 columns)" in said.out
    run("train", table, *options, "--ignore", "rownames")
    assert capsys.readouterr().err == ""


def test_numbers_that_do_not_count_the_rows(table, capsys, recwarn):
    frame = animals().drop(columns="mass")
    frame["ages"], frame["gaps"], frame["twice"] = np.arange(120) % 60, np.arange(120) * 2, np.r_[0, np.arange(119)]
    frame.to_csv(table, index=False)
    tabular.train(table, "legs", quick(epochs=1), encode=True)
    assert not [one for one in recwarn if "counts the rows" in str(one.message)]


def test_a_column_that_names_the_rows_is_left_out_where_text_is_encoded(table, capsys):
    frame = animals().drop(columns="mass")
    frame["who"] = [f"animal {i}" for i in range(120)]
    frame.to_csv(table, index=False)
    run(
        "train", table, "--target", "legs", "--encode", "--epochs", 1, "--quiet", "--no-plot", "--out",
        table.with_name("m"),
    )  # fmt: skip
    assert "column 'who' has 120 different texts in 120 rows: left out" in capsys.readouterr().err
    run("predict", table.with_name("m"), table)
    assert "ignored columns: legs, who" in capsys.readouterr().err


# Weights ---------------------------------------------------------------------------------------------------------


def test_a_row_of_weight_0_is_as_if_it_were_not_there(tmp_path):
    """In the scores, the scale of the target and of the features, the categories and what is filled."""
    frame = animals(seed=1).assign(y=lambda frame: frame["noise"] * 3 + 5)
    frame["w"] = np.where(np.arange(120) % 3 == 0, 0.0, 1.0)
    wild = frame.copy()
    lost = (wild["w"] == 0).to_numpy()
    wild.loc[lost, ["mass", "y"]] = 1e6
    wild.loc[lost, "kind"] = "yeti"
    results = []
    for name, one in (("a", frame), ("b", wild)):
        one.to_csv(tmp_path / name, index=False)
        results.append(
            tabular.train(tmp_path / name, "y", quick(epochs=1), encode=True, fill="mean", weight="w", ignore=["noise"])
        )
    assert results[0].description == results[1].description and "w" not in results[0].description.features
    assert [set(result.scores["validation"]) for result in results] == [{"mae", "rmse", "r2"}] * 2
    for name, value in results[0].scores["validation"].items():
        assert np.isfinite(value) and results[1].scores["validation"][name] < 100, name


def test_scores_are_weighted(tmp_path):
    """Against scikit-learn's."""
    metrics = pytest.importorskip("sklearn.metrics")
    frame = animals(seed=2).drop(columns="mass")
    frame["w"] = np.random.default_rng(0).uniform(0.1, 5, 120)
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = tabular.train(tmp_path / "t.csv", "kind", quick(epochs=3), encode=True, weight="w")
    labels = frame["kind"].map({"cat": 0, "dog": 1, "hen": 2}).to_numpy()
    rows = fastnn.training.holdout.split(120, {"validation": 0.2}, 0, labels)["validation"]
    (x,) = _matrices(result, frame)
    said = result.model.predict_class(x)[rows]
    expected = metrics.accuracy_score(labels[rows], said, sample_weight=frame["w"].to_numpy()[rows])
    assert result.scores["validation"]["accuracy"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "message"),
    [("legs", "which is the target"), ("noise", "the weight 'noise' has value -"), ("none", "no column")],
)
def test_weights_that_are_none(column, message, table, capsys):
    arguments = ["train", table, "--target", "legs", "--encode", "--ignore", "mass", "--out", table.with_name("m")]
    assert message in refused(capsys, *arguments, "--weight", column)


def test_weights_of_classes_move_the_threshold(tmp_path):
    """1 row in 10 is positive, and the feature says nothing: balanced, its probability is a half."""
    y = np.arange(400) % 10 == 0
    pandas.DataFrame({"x": np.arange(400) // 10 % 2, "y": np.where(y, "yes", "no")}).to_csv(
        tmp_path / "t.csv", index=False
    )
    shares = []
    settings = quick(class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight is 'balanced', but the target 'x' is numbers"):
        tabular.train(tmp_path / "t.csv", "x", settings, task="regression", encode=True)
    for class_weight in (None, "balanced"):
        settings = quick(epochs=60, hidden=(), class_weight=class_weight, batch_size=400, lr=0.05, patience=60)
        result = tabular.train(tmp_path / "t.csv", "y", settings)
        shares.append(result.model.predict_proba(np.array([[0.0], [1.0]]))[:, 1].mean())
    assert shares[0] < 0.2 and 0.4 < shares[1] < 0.6


# Names, separators, decimals, encodings, pipes ----------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [["a, b"], ['"a, b",c'], ['"a, b"', "c"], ["a, b", "c"]])
def test_names_with_commas(ignored, tmp_path):
    frame = pandas.DataFrame(
        {"a, b": np.arange(60) % 7, "c": np.arange(60) % 5, "d": np.arange(60) % 3, "y": ["u", "v"] * 30}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    about = tabular.train(tmp_path / "t.csv", "y", quick(epochs=1), ignore=ignored).description
    assert about.features == (["c", "d"] if ignored == ["a, b"] else ["d"])


GOOD = "a,b,y\n" + "".join(f"{i}.5,{i * i % 7},{'uv'[i % 2]}\n" for i in range(30))
EUROPEAN = GOOD.replace(",", ";").replace(".", ",")


def test_decimal_commas(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "b.csv").write_text(EUROPEAN)
    one = tabular.train(tmp_path / "a.csv", "y", quick())
    other = tabular.train(tmp_path / "b.csv", "y", quick(), separator=";", decimal=",")
    assert one.model.state.parameters.tobytes() == other.model.state.parameters.tobytes()
    arguments = ["train", tmp_path / "b.csv", "--target", "y", "--out", tmp_path / "m", "--separator", ";"]
    for options in ([], ["--encode"]):
        assert "such as '0,5', a decimal comma)" in refused(capsys, *arguments, *options)
    assert "decimal is ',', as the separator is" in refused(capsys, *arguments[:6], "--decimal", ",")
    assert "decimal is ':', expected '.' or ','" in refused(capsys, *arguments, "--decimal", ":")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8", "utf-8-sig"])
def test_encodings(encoding, tmp_path, capsys):
    text = GOOD.replace("a,b,y", "größe,b,y").replace("u\n", "ü\n")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    result = tabular.train(tmp_path / "t.csv", "y", quick(), encoding=encoding)
    assert result.description.features == ["größe", "b"] and result.description.classes == ["v", "ü"]
    if not encoding.startswith("utf-8"):
        error = refused(capsys, "train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m")
        assert "t.csv is not text in UTF-8" in error and "--encoding latin-1" in error


def test_an_encoding_that_nobody_knows(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(GOOD)
    error = refused(
        capsys, "train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--encoding", "klingon"
    )
    assert "encoding is 'klingon', expected one that Python knows" in error


IN_ONE = "its one column 'a;b;y' has separators in its name, say --separator \";\""
NAMES = "values, but the first line has 1 names: "
SAID = {
    "semicolons": (GOOD.replace(",", ";"), f"has no column 'y': {IN_ONE}"),
    "semicolons, and a comma in a name": (
        "weight, kg;a;y\n" + "1;2;u\n3;4;v\n" * 20,
        "has no column 'y': its column 'kg;a;y' has separators in its name, say --separator \";\"",
    ),
    "tabs, and a comma in a name": (
        "a\tweight, kg\ty\n" + "1\t2\tu\n3\t4\tv\n" * 20,
        "has no column 'y': its column 'kg\\ty' has separators in its name, say --separator \"\\t\"",
    ),
    "a name that is not there": (GOOD.replace("y", "z", 1), "has no column 'y', expected one of: "),
    "tabs": (GOOD.replace(",", "\t"), r'say --separator "\t"'),
    "a comment": ("# measured in May\n" + GOOD, f"line 2 has 3 {NAMES}does it begin with a comment"),
    "decimal commas": (EUROPEAN, f"line 2 has 2 {NAMES}{IN_ONE}"),
    "a longer row": (GOOD + "1,2,u,3\n", "line 32 has 4 values, but the first line has 3 names"),
    "a spreadsheet": ("t.xlsx", "t.xlsx is a spreadsheet, expected CSV or Parquet: save it as CSV"),
    "no tar": ("t.csv.tar.gz", "t.csv.tar.gz cannot be read: "),
    "no gzip": ("t.csv.gz", "t.csv.gz cannot be read: Not a gzipped file"),
}


@pytest.mark.parametrize(("content", "message"), SAID.values(), ids=SAID)
def test_what_is_wrong_with_a_file_is_said_in_words(content, message, tmp_path, capsys):
    name = content if content.startswith("t.") else "t.csv"
    (tmp_path / name).write_text(GOOD if name == content else content)
    error = refused(capsys, "train", tmp_path / name, "--target", "y", "--out", tmp_path / "m")
    assert message in error and error.count(name) <= message.count(name) + 1


def test_a_name_stands_in_an_error_once(tmp_path, capsys):
    for content in ("a,,y\n1,2,u\n", "a,a,y\n1,2,u\n", "", "a,y\n"):
        (tmp_path / "once.csv").write_text(content)
        error = refused(capsys, "train", tmp_path / "once.csv", "--target", "y", "--out", tmp_path / "m")
        assert error.count("once.csv") == 1


class _Input:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_standard_input(tmp_path, capsys, monkeypatch):
    (tmp_path / "t.csv").write_text(GOOD)
    for name in ("t.csv", "-"):
        monkeypatch.setattr(cli.sys, "stdin", _Input(GOOD.encode()))
        data = tmp_path / name if name != "-" else name
        run("train", data, "--target", "y", "--out", tmp_path / f"{name}.m", "--quiet", "--no-plot", "--epochs", 2)
    assert (tmp_path / "t.csv.m").read_bytes() == (tmp_path / "-.m").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(cli.sys, "stdin", _Input(b"b,a\n1,2\n3,4\n"))
    run("predict", tmp_path / "-.m", "-")
    assert capsys.readouterr().out.count("\n") == 3
    monkeypatch.setattr(cli.sys, "stdin", _Input(b""))
    assert "standard input cannot be read: it is empty" in refused(capsys, "predict", tmp_path / "-.m", "-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(GOOD,))
    writer.start()
    result = tabular.train(tmp_path / "pipe", "y", quick())
    writer.join()
    assert sum(result.rows.values()) == 30


def test_a_csv_is_read_in_one_pass(tmp_path, monkeypatch):
    """A line for the names, then everything; a second time only where there are blank lines."""
    (tmp_path / "t.csv").write_text(GOOD)
    rows: list[int] = []
    read_csv = pandas.read_csv

    def counted(*args, **settings):
        frame = read_csv(*args, **settings)
        rows.append(frame.size)
        return frame

    monkeypatch.setattr(pandas, "read_csv", counted)
    frame = tabular.read(tmp_path / "t.csv", text=("y",), categories=("b",))
    assert rows == [3, 90] and frame["y"].tolist()[:2] == ["u", "v"] and frame["b"].tolist()[2] == "4"
    (tmp_path / "t.csv").write_text(GOOD + "\n\n")
    assert tabular.read(tmp_path / "t.csv", text=("y",), categories=("b",)).equals(frame)
    assert rows == [3, 90, 3, 96, 90]


# Files that are written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["answers.xlsx", "answers.json", "answers.ods", "answers.csv.json"])
def test_answers_are_not_written_as_what_they_are_not(name, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(GOOD)
    run("train", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--quiet", "--no-plot", "--epochs", 1)
    capsys.readouterr()
    error = refused(capsys, "predict", tmp_path / "m", tmp_path / "t.csv", "--out", tmp_path / name)
    assert "--out: " in error and "expected" in error and not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a", "a.csv.gz"])
def test_answers_are_written_as_their_name_says(name, tmp_path):
    frame = pandas.DataFrame({"y": [1, 2], "z": [3, 4]})
    tabular.check_writable(tmp_path / name)
    tabular.write(frame, tmp_path / name)
    text = gzip.decompress((tmp_path / name).read_bytes()) if name.endswith("gz") else (tmp_path / name).read_bytes()
    mark = b"\t" if ".tsv" in name else b","
    assert text.splitlines() == [mark.join(pair) for pair in ((b"y", b"z"), (b"1", b"3"), (b"2", b"4"))]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model'"):
        files.write(tmp_path / "model", {}, {"w": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


# What it says ------------------------------------------------------------------------------------------------------


def test_alone_it_shows_its_help(capsys):
    run()
    assert "usage: fastnn" in capsys.readouterr().out
    run("bench")
    assert "usage: fastnn bench" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "predict", "demo"])
def test_every_option_has_help_and_says_its_default(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "(default: " in capsys.readouterr().out
    (commands,) = (action for action in cli.parser()._actions if action.choices and command in action.choices)
    for action in commands.choices[command]._actions:
        assert action.help, action.option_strings
        if action.default not in (None, False, [], "==SUPPRESS==") and action.option_strings:
            assert "default: " in action.help, action.option_strings


@pytest.mark.parametrize(("epochs", "said"), [(3, True), (400, False)])
def test_where_more_epochs_may_help_it_says_so(epochs, said, tmp_path, capsys):
    """After 3 the loss still falls; at a rate of 0.1 it has risen long before 400."""
    animals().drop(columns="mass").to_csv(tmp_path / "t.csv", index=False)
    run(
        "train", tmp_path / "t.csv", "--target", "kind", "--encode", "--out", tmp_path / "m", "--quiet", "--no-plot",
        "--epochs", epochs, "--lr", 0.001 if said else 0.1,
    )  # fmt: skip
    out = capsys.readouterr().out
    assert ("the best epoch is among the last: more may help, as with --epochs 6" in out) == said
    assert ("stopped early" in out) != said


def test_one_legend_below_the_curves(tmp_path):
    pytest.importorskip("matplotlib")
    from fastnn._plot import new_figure

    animals().drop(columns="mass").to_csv(tmp_path / "t.csv", index=False)
    history = tabular.train(tmp_path / "t.csv", "kind", quick(), encode=True).history
    figure = new_figure((8, 5))
    axes = figure.subplots()
    history.plot(axes)
    figure.savefig(io.BytesIO(), dpi=figure.dpi)  # lays it out
    left, right = figure.axes
    assert right.get_ylabel() == "accuracy" and right.get_legend() is None
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["loss", "val_loss", "val_accuracy"]
    frame, legend, label = (thing.get_window_extent() for thing in (left, left.get_legend(), left.xaxis.label))
    assert legend.y1 < frame.y0 and legend.y1 <= label.y0 + 1 and legend.y0 >= 0


def test_info_lists_every_package_that_an_extra_brings(capsys):
    run("info")
    said = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    packages = {
        "numba",
        "scikit-learn",
        "matplotlib",
        "tqdm",
        "pandas",
        "pyarrow",
        "torch",
        "optuna",
        "tensorboardX",
    } | {"onnx"}
    assert packages <= said


@pytest.mark.parametrize("decimal", [".", ","])
def test_a_target_has_the_tables_decimals(decimal, tmp_path):
    """With points or with commas it is one table, of classes or of numbers."""
    rows = [f"{k % 7}.25;{k / 3:.3f};{k % 2}.5" for k in range(60)]
    text = "\n".join(["a;number;half", *rows]) + "\n"
    (tmp_path / "t.csv").write_text(text if decimal == "." else text.replace(".", ","))
    settings = tabular.Settings(hidden=(4,), epochs=2, verbose=False)
    read = {"separator": ";", "decimal": decimal}
    result = tabular.train(tmp_path / "t.csv", "number", settings, ignore=["half"], **read)
    about = tabular.Description.of(result.model)
    assert about.classes is None
    tabular.report(result.model, tmp_path / "t.csv", tmp_path / "r.html", **read)
    result = tabular.train(tmp_path / "t.csv", "half", settings, ignore=["number"], task="classification", **read)
    assert [float(name) for name in tabular.Description.of(result.model).classes] == [0.5, 1.5]


def test_text_is_no_number_for_its_commas(tmp_path):
    (tmp_path / "t.csv").write_text("a;t\n" + "".join(f"{k};{k},000,5\n" for k in range(40)))
    with pytest.raises(ValueError, match=r"has 40 different values .* or numbers, which text such as '0,000,5' is not"):
        tabular.train(tmp_path / "t.csv", "t", separator=";", decimal=",")
