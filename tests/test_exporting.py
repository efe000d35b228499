"""`fastnn export` and `fastnn report` as a user runs them: other files answer what `fastnn predict` does."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import Sequential, Trainer, cli, exporting, nn, tabular

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

SCRIPT = "<script>alert(1)</script>"


def run(*arguments: object, status: int = 0) -> None:
    assert cli.main([str(argument) for argument in arguments]) == status


def matrix(path, model) -> np.ndarray:
    """The rows of a table as the network takes them, float32."""
    about = tabular.Description.of(model)
    frame = tabular.read(path, categories=list(about.categories))
    return tabular.numbers(frame, about.features, str(path), encoding=about.encoding).x.astype(np.float32)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with a table, and networks that were trained on it: `quantity` of an encoded one, `kind` of classes."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"age": rng.normal(40, 10, 200), "town": rng.choice(["a", "<b>", "c & d"], 200), "w": rng.normal(size=200)}
    )
    frame.loc[::17, "age"] = np.nan
    frame["price"] = 25_000 + 700 * frame["w"] + rng.normal(size=200)
    frame["kind"] = np.where(frame["w"] > 0, SCRIPT, "ok")
    frame.to_csv(folder / "data.csv", index=False)
    quick = tabular.Settings(hidden=(8,), epochs=10, verbose=False)
    for target, options in (("price", {"encode": True}), ("kind", {"ignore": ["price", "town"]})):
        options = {"ignore": ["kind"], "fill": "mean", **options}
        tabular.train(folder / "data.csv", target, quick, **options).model.save(folder / f"{target}.fastnn")
    return folder


def answers(tables, target: str) -> np.ndarray:
    frame, _ = tabular.predict(fastnn.load(tables / f"{target}.fastnn"), tables / "data.csv")
    return frame[target].to_numpy()


# Export ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["price", "kind"])
def test_onnx_of_a_table(target, tables, tmp_path, capsys):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    run("export", tables / f"{target}.fastnn", "--to", "onnx", "--out", tmp_path / "m.onnx")
    said = capsys.readouterr()
    assert said.out == f"onnx: {tmp_path / 'm.onnx'}\n" and "'age': " in said.err
    assert ("'town' is 3 inputs, 1 for its value and 0 for the others: <b>, a, c & d" in said.err) == (
        target == "price"
    )
    X = matrix(tables / "data.csv", fastnn.load(tables / f"{target}.fastnn"))
    found = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"X": X})[0]
    wanted = answers(tables, target)
    if target == "kind":
        assert found.tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("target", ["price", "kind"])
def test_torch_of_a_table(target, tables, tmp_path):
    """A graph of PyTorch's own: any number of rows, the names beside it."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.pt2"
    run("export", tables / f"{target}.fastnn", "--to", "torch", "--out", path)
    model = fastnn.load(tables / f"{target}.fastnn")
    X = matrix(tables / "data.csv", model)
    about = {"fastnn.json": ""}
    module = torch.export.load(str(path), extra_files=about).module()
    for rows in (1, 2, len(X)):
        found = module(torch.from_numpy(X[:rows])).detach().numpy()
        if target == "price":
            assert found.dtype == np.float64
            np.testing.assert_allclose(found[:, 0], answers(tables, target)[:rows], rtol=1e-6)
        else:
            np.testing.assert_allclose(found, model.predict(X[:rows]), atol=1e-5)
    names = json.loads(about["fastnn.json"])
    assert names["classes"] == ([SCRIPT, "ok"] if target == "kind" else None)
    assert names["features"] == model.feature_names


TENSORS = {"float32": "tensor(float)", "float64": "tensor(double)"}


@pytest.mark.parametrize("input", TENSORS)
@pytest.mark.parametrize("opset", [13, 20])
def test_input_and_opset_of_onnx(input, opset, tables, tmp_path):
    """What onnx and onnxruntime say of the file; of an estimator, too, which computes in float64 here."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    estimator = fastnn.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(np.eye(4), [0, 1, 0, 1])
    estimator.save(tmp_path / "estimator")
    for model in (tables / "price.fastnn", tmp_path / "estimator"):
        run("export", model, "--to", "onnx", "--out", tmp_path / "m.onnx", "--input", input, "--opset", opset)
        assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
        assert session.get_inputs()[0].type == TENSORS[input]


def test_time_stamps_in_an_exported_file(tmp_path):
    """1.7e9 seconds, one each minute: as float32 some of them are the same row."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    seconds = 1.7e9 + 60.0 * np.arange(200)
    pandas.DataFrame({"t": seconds, "y": np.sin(np.arange(200) / 20)}).to_csv(tmp_path / "t.csv", index=False)
    quick = tabular.Settings(hidden=(8,), epochs=3, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnn.TableWarning)
        tabular.train(tmp_path / "t.csv", "y", quick).model.save(tmp_path / "t.fastnn")
    run("export", tmp_path / "t.fastnn", "--to", "onnx", "--input", "float64")
    found = onnxruntime.InferenceSession(str(tmp_path / "t.onnx")).run(None, {"X": seconds[:, None]})[0][:, 0]
    wanted = tabular.predict(fastnn.load(tmp_path / "t.fastnn"), tmp_path / "t.csv")[0]["y"].to_numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert len(np.unique(found)) == 200


@pytest.mark.parametrize("target", ["price", "kind"])
def test_c_of_a_table(target, tables, tmp_path):
    run("export", tables / f"{target}.fastnn", "--to", "c", "--out", tmp_path / "m.c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.c", "m.h", "m_test.c"]
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-std=c99", "m.c", "m_test.c", "-o", "m"], cwd=tmp_path, check=True)
        subprocess.run(["./m"], cwd=tmp_path, check=True)
    text = (tmp_path / "m.c").read_text()
    assert (SCRIPT in text.replace('" "', "")) == (target == "kind")


def test_it_goes_beside_the_model(tables, tmp_path):
    shutil.copy(tables / "kind.fastnn", tmp_path / "m.fastnn")
    run("export", tmp_path / "m.fastnn", "--to", "c")
    assert (tmp_path / "m.c").exists()


def test_export_of_models_and_estimators(tmp_path, capsys):
    pytest.importorskip("onnx")
    X, y = np.eye(6, dtype=np.float32), np.array(list("aabbcc"))
    model = Sequential([nn.Dense(3)])
    Trainer(model, "cross_entropy", seed=0).fit(X, np.arange(6) // 2, epochs=1, verbose=False)
    model.save(tmp_path / "model")
    fastnn.MLPClassifier((4,), solver="lbfgs", dtype="float32", random_state=0).fit(X, y).save(tmp_path / "estimator")
    for kind in ("model", "estimator"):
        for to in ("onnx", "c"):
            run("export", tmp_path / kind, "--to", to)
            assert (tmp_path / f"{kind}{exporting.SUFFIXES[to]}").exists()
    run("export", tmp_path / "estimator", "--to", "torch", status=1)
    assert "to is 'torch', but the file has an MLPClassifier" in capsys.readouterr().err


def test_what_export_refuses(tables, tmp_path, capsys):
    pytest.importorskip("torch")
    model = tables / "price.fastnn"
    Sequential([nn.Dense(4), nn.Maxout(2)]).build(3).save(tmp_path / "maxout")
    Sequential([nn.Dense(4)]).save(tmp_path / "unbuilt")
    cases = [
        ((model, "--to", "onnx", "--out", tmp_path / "m.c"), "out is '.*m.c', expected a name that ends with .onnx"),
        ((model, "--to", "c", "--out", tmp_path / "no" / "m.c"), "--out is .* in a directory that exists"),
        ((model, "--to", "c", "--input", "float64"), "input is 'float64', but to is 'c', expected to='onnx'"),
        ((model, "--to", "torch", "--opset", "17"), "opset is 17, but to is 'torch', expected to='onnx'"),
        ((model, "--to", "onnx", "--opset", "12", "--out", tmp_path / "m.onnx"), "opset is 12"),
        ((tmp_path / "none", "--to", "c"), "none"),
        ((tables / "data.csv", "--to", "c"), "is not a file of fastnn"),
        ((tmp_path / "maxout", "--to", "torch"), r"to is 'torch': layers\[1\] is Maxout"),
        ((tmp_path / "unbuilt", "--to", "c"), "not built"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, message in cases:
        run("export", *arguments, status=1)
        assert re.search(message, capsys.readouterr().err), message
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(ValueError, match="to is 'tflite', expected one of: onnx, c, torch"):
        exporting.export(model, "tflite")
    with pytest.raises(SystemExit):
        run("export", model)


# Report ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["price", "kind"])
def test_report_of_a_table(target, tables, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "r.html"
    run("report", tables / f"{target}.fastnn", tables / "data.csv", "--target", target, "--out", out)
    said = capsys.readouterr()
    ignored = "kind" if target == "price" else "town, price"
    assert said.out == f"report: {out}\n" and f"ignored columns: {ignored}" in said.err
    text = out.read_text(encoding="utf-8")
    assert "age" in text and SCRIPT not in text
    if target == "price":
        frame = tabular.read(tables / "data.csv")
        mae = np.abs(answers(tables, target) - frame["price"]).mean()
        assert f'<td>mae</td><td class="n">{mae:.4g}</td>' in text and "town is &lt;b&gt;" in text.replace("=", " is ")
    else:
        assert "&lt;script&gt;" in text and "Confusion" in text


def test_a_report_has_the_curves_of_the_training_and_weighs_rows(tables, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from sklearn.metrics import accuracy_score

    out, kind = tmp_path / "r.html", tables / "kind.fastnn"
    frame = tabular.read(tables / "data.csv")
    frame["weight"] = np.random.default_rng(5).integers(0, 5, len(frame))
    frame.to_csv(tmp_path / "data.csv", index=False)
    run("report", kind, tmp_path / "data.csv", "--weight", "weight", "--out", out, "--no-importance")
    assert "ignored columns: town, price" in capsys.readouterr().err
    text = out.read_text(encoding="utf-8")
    wanted = accuracy_score(frame["kind"], answers(tables, "kind"), sample_weight=frame["weight"])
    assert f'<td>accuracy</td><td class="n">{wanted:.4g}</td>' in text
    assert "Learning curves" in text and "val_accuracy" in text
    for column, message in (("kind", "which is the target"), ("nowhere", "no column 'nowhere'"), ("town", "numbers")):
        run("report", kind, tmp_path / "data.csv", "--weight", column, "--out", out, status=1)
        assert message in capsys.readouterr().err


def test_curves_are_those_of_the_training(tmp_path):
    frame = pandas.DataFrame({"x": np.linspace(0, 1, 60), "y": np.linspace(0, 1, 60) ** 2})
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "d.csv", index=False)
    result = tabular.train(tmp_path / "d.csv", "y", tabular.Settings(hidden=(4,), epochs=7, verbose=False))
    result.model.save(tmp_path / "m")
    kept = fastnn.load(tmp_path / "m").metadata["curves"]
    assert kept["epochs"] == [*range(1, 8)] and kept["best"] == result.best_epoch
    assert kept["label"] == "loss: squared error, the target in standard deviations"
    for name in ("loss", "val_loss", "val_r2"):
        np.testing.assert_allclose(kept["values"][name], result.history[name], rtol=5e-6)


def test_reporting_leaves_the_model_as_it_is(tables, tmp_path):
    pytest.importorskip("matplotlib")
    model = fastnn.load(tables / "price.fastnn")
    tabular.report(model, tables / "data.csv", tmp_path / "r.html", importance=False)
    assert model.target_scale is None
    assert (
        tabular.predict(model, tables / "data.csv")[0]["price"].to_numpy().tolist() == answers(tables, "price").tolist()
    )


@pytest.mark.parametrize("named", [True, False])
def test_report_of_estimators(named, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(80, 3)), columns=["x", "y", "z"])
    frame["label"] = np.where(frame["x"] > 0, 1, 2)
    frame.sample(frac=1, axis=1, random_state=1).assign(other=1).to_csv(tmp_path / "other.csv", index=False)
    frame.to_csv(tmp_path / "data.csv", index=False)
    X = frame[["x", "y", "z"]]
    model = fastnn.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X if named else X.to_numpy(), frame["label"])
    model.save(tmp_path / "m")
    data = "other.csv" if named else "data.csv"
    run("report", tmp_path / "m", tmp_path / data, "--target", "label", "--out", tmp_path / "r.html", "--no-importance")
    assert ("ignored columns: other" in capsys.readouterr().err) == named
    assert "MLPClassifier" in (tmp_path / "r.html").read_text(encoding="utf-8")
    regressor = fastnn.MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0)
    regressor.fit(X[["x", "y"]] if named else X[["x", "y"]].to_numpy(), X["z"])
    frame[["x", "y", "z"]].to_csv(tmp_path / "data.csv", index=False)
    regressor.save(tmp_path / "m")
    run("report", tmp_path / "m", tmp_path / "data.csv", "--target", "z", "--out", tmp_path / "r.html")
    assert "Residuals" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_report_refuses(tables, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    frame = tabular.read(tables / "data.csv")
    X, y = np.eye(6), np.array(list("aabbcc"))
    fastnn.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y).save(tmp_path / "estimator")
    fastnn.MLPClassifier().save(tmp_path / "new")
    Sequential([nn.Dense(4)]).build(3).save(tmp_path / "bare")
    tables_of = {
        "unknown": frame.assign(kind="never seen"),
        "absent": frame.drop(columns="w"),
        "empty": frame.assign(kind=[None, *frame["kind"][1:]]),
    }
    for name, each in tables_of.items():
        each.to_csv(tmp_path / f"{name}.csv", index=False)
    out = tmp_path / "r.html"
    kind, data = tables / "kind.fastnn", tables / "data.csv"
    cases = [
        ((kind, tmp_path / "unknown.csv"), "the target 'kind' has 'never seen', which the model does not know"),
        ((kind, tmp_path / "absent.csv"), "has no column 'w'"),
        ((kind, tmp_path / "empty.csv"), "has 1 rows without a target 'kind'"),
        ((kind, data, "--target", "none"), "none"),
        ((tables / "price.fastnn", data, "--target", "kind"), "the target 'kind' has '.*', expected numbers"),
        ((tmp_path / "estimator", data), "target is None, but the file has an estimator"),
        ((tmp_path / "new", data, "--target", "kind"), "was not fitted"),
        ((tmp_path / "bare", data), "no description of a table"),
        ((kind, data, "--out", data), "--out is .*, which is read"),
    ]
    before = data.read_bytes()
    for arguments, message in cases:
        run("report", "--out", out, *arguments, status=1)
        assert re.search(message, capsys.readouterr().err), message
    assert not out.exists() and data.read_bytes() == before


@pytest.mark.parametrize(
    ("column", "known", "places"),
    [
        ("1\n2\n1\n", [1, 2], [0, 1, 0]),
        ("07\n7\n007\n", ["007", "07", "7"], [1, 2, 0]),
        ("1.5\n2.0\n1.5\n", [1.5, 2.0], [0, 1, 0]),
        ("7\n7\n7\n", ["007", "7"], [1, 1, 1]),
        ("True\nFalse\nTrue\n", ["False", "True"], [1, 0, 1]),
    ],
)
def test_labels_are_found_as_they_are_written(column, known, places):
    from fastnn.tabular.targets import labels

    series = pandas.read_csv(io.StringIO("t\n" + column), dtype=str)["t"]
    assert labels(series, "t", known).tolist() == places


def test_labels_of_columns_of_numbers():
    from fastnn.tabular.targets import labels

    assert labels(pandas.Series([2.0, 1.0]), "t", [1, 2]).tolist() == [1, 0]
    with pytest.raises(
        ValueError, match="the target 't' has '3', which the model does not know, expected one of: 1, 2"
    ):
        labels(pandas.Series([2, 3]), "t", [1, 2])
