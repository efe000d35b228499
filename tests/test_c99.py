"""Networks in C: what a compiler makes of model.c gives the model's answers. Compiles few files of many networks."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from common import LAYERS, features, full, make_layer, of_ids, stir

from fastnn import NotFittedError, Sequential, files, nn
from fastnn.formulas.activations import ACTIVATIONS, Activation, get
from fastnn.formulas.losses import LOSSES, Quantiles
from fastnn.formulas.special import erf
from fastnn.nn.target_scale import TargetScale
from fastnn.ops import OPS
from fastnn.serving import c99, c99_math, c99_ops, c99_simulated
from fastnn.serving.folded import folded
from fastnn.serving.predictor import Predictor

INPUTS = 12
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
ZIG = [sys.executable, "-m", "ziglang"]


def _compilers() -> list:
    zig = importlib.util.find_spec("ziglang") is not None
    found = {
        "gcc": (["gcc", "-std=c99", "-O1"], shutil.which("gcc")),
        "gcc for size": (["gcc", "-std=c99", "-Os"], shutil.which("gcc")),
        "clang": (["clang", "-std=c99", "-O1"], shutil.which("clang")),
        "zig": ([*ZIG, "cc", "-std=c99", "-O1"], zig),
        "g++": (["g++", "-x", "c++", "-O1"], shutil.which("g++")),
        "zig c++": ([*ZIG, "cc", "-x", "c++", "-O1"], zig),
    }
    return [
        pytest.param(command, id=name, marks=() if there else pytest.mark.skip(f"no {name}"))
        for name, (command, there) in found.items()
    ]


def compiled(command: list[str], *arguments: str | Path) -> None:
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


# The networks ----------------------------------------------------------------------------------------------------


def built(*layers: nn.Layer, inputs=INPUTS, loss: str | None = None) -> Sequential:
    model = stir(Sequential(layers).build(inputs, seed=3))
    rng = np.random.default_rng(4)
    for name, view in model.state.views.items():
        if name.endswith("running_mean"):
            view[...] = rng.normal(size=view.shape)
        elif name.endswith("running_var"):
            view[...] = rng.uniform(0.3, 2.0, size=view.shape)
        elif name.endswith("shift"):
            view[...] = 1e6 + np.arange(view.size)
        elif name.endswith("scale") and view.dtype == np.float64:
            view[...] = rng.uniform(0.5, 2.0, size=view.shape)
    model.loss = loss
    return model


def far() -> Sequential:
    """A batch_norm whose means are far away: folded into the products, it would lose all digits."""
    model = built(nn.BatchNorm(), nn.Dense(5))
    model.state.views["0.running_mean"][...] = 1e5
    return model


def scaled() -> Sequential:
    model = built(nn.Dense(7, "tanh"), nn.Dense(2), loss="mse")
    model.target_scale = TargetScale((1e4, -3.0), 250.0)
    return model


def ending(loss: str, end: str | None) -> Sequential:
    outputs = 1 if LOSSES[loss].link == "sigmoid" else 4
    return built(nn.Dense(9, "relu"), nn.Dense(outputs, end), loss=loss)


NETWORKS = {
    **{f"{name}": (lambda name=name: built(nn.Dense(19, name), nn.Dense(3))) for name in ACTIVATIONS},
    **{
        f"{name} with alpha": (lambda name=name: built(nn.Dense(19, ACTIVATIONS[name].with_alpha(0.3)), nn.Dense(3)))
        for name in ACTIVATIONS
        if ACTIVATIONS[name].alpha_range != (0.0, 0.0)
    },
    **{
        kind.__name__: (lambda kind=kind: built(nn.Dense(4), make_layer(kind), nn.Flatten(), nn.Dense(3)))
        for kind in LAYERS
        if kind is not nn.Normalize
    },
    "Normalize": lambda: built(nn.Normalize(), nn.Dense(9, "tanh"), nn.Dense(2)),
    **{name: (lambda name=name: ending(name, None)) for name in LOSSES},
    "linked softmax": lambda: ending("cross_entropy", "softmax"),
    "linked sigmoid": lambda: ending("binary_cross_entropy", "sigmoid"),
    "labels": lambda: built(nn.Dense(9, "relu"), nn.Dense(5), loss="binary_cross_entropy"),
    "softmax without its loss": lambda: built(nn.Dense(5, "softmax"), loss="mse"),
    "quantiles": lambda: built(nn.Dense(6), nn.Ordered(2), loss=Quantiles((0.1, 0.5, 0.9))),
    "scaled targets": scaled,
    "far means": far,
    "batch norms": lambda: built(
        nn.BatchNorm(), nn.Dense(9), nn.BatchNorm(), nn.Activation("tanh"), nn.BatchNorm(), nn.Dense(3, "relu")
    ),
    "nothing": lambda: built(nn.Dropout(0.5)),
    "maxout of the input": lambda: built(nn.Maxout(3)),
    "activation of the input": lambda: built(nn.Activation("tanh"), nn.Scale(0.5)),
    **{f"{units} units": (lambda units=units: built(nn.Dense(units), nn.Dense(units))) for units in (1, 2, 4, 8, 16)},
    "of blocks": lambda: built(nn.Dense(64, "relu"), nn.Dense(130, "tanh"), nn.Dense(33), nn.Dense(2)),
    "few of many": lambda: built(nn.Dense(3, "tanh"), inputs=53),
    "positions": lambda: built(
        *(nn.Dense(6, "relu"), nn.LayerNorm(), nn.Dense(4, nn.Maxout(2)), nn.Dense(3, "prelu"), nn.Softmax()),
        inputs=(5, 4),
    ),
    "skips": lambda: built(
        nn.Residual([nn.Scale(0.7), nn.Dense(12, "gelu")]),
        nn.Residual([nn.LayerNorm(), nn.Residual([nn.Dense(16)], shortcut=[nn.Dense(16)])], shortcut=[nn.Dense(16)]),
        nn.Residual([nn.Activation("tanh")], shortcut=[nn.Scale(2.0)]),
        nn.Dense(3),
    ),
    "skip first": lambda: built(nn.Residual([nn.Activation("tanh")]), nn.Residual([nn.Dropout(0.5)])),
}


class Compiled:
    """Networks that a compiler has made one library of."""

    def __init__(self, models: dict[str, Sequential], path: Path) -> None:
        self.models = models
        self.names = {key: f"n{number}" for number, key in enumerate(models)}
        self.library = ctypes.CDLL(str(path))

    def call(self, key: str, function: str, x: np.ndarray, outputs: int, kind: type = np.float32) -> np.ndarray:
        """function(x, y) for each row."""
        made = np.full((len(x), outputs), 77, dtype=kind)
        run = getattr(self.library, f"{self.names[key]}_{function}")
        for row, out in zip(np.ascontiguousarray(x, np.float32).reshape(len(x), -1), made, strict=True):
            run(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(out.ctypes.data))
        return made

    def classes(self, key: str, x: np.ndarray) -> np.ndarray:
        run = getattr(self.library, f"{self.names[key]}_classify")
        return np.array([run(ctypes.c_void_p(row.ctypes.data)) for row in np.ascontiguousarray(x, np.float32)])


def written(folder: Path, models: dict[str, Sequential], **options) -> Path:
    """One file that has the networks, their tests, and a function that runs these: how many fail."""
    lines = []
    for number, model in enumerate(models.values()):
        name = f"n{number}"
        model.to_c(folder / f"{name}.c", name=name, **options)
        lines += [f"#define main {name}_test", f'#include "{name}.c"', f'#include "{name}_test.c"', "#undef main"]
    calls = [f'    if (n{n}_test() != 0) {{ ++failed; printf("{key} fails\\n"); }}' for n, key in enumerate(models)]
    lines += ["#ifdef __cplusplus", 'extern "C"', "#endif", "int failures(void);"]
    lines += ["int failures(void) {", "    int failed = 0;", *calls, "    return failed;", "}"]
    lines += ["#ifdef ALONE", "int main(void) { return failures(); }", "#endif"]
    path = folder / "all.c"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def models() -> dict[str, Sequential]:
    return {key: make() for key, make in NETWORKS.items()}


@pytest.fixture(scope="module", params=_compilers())
def made(request, models, tmp_path_factory) -> Compiled:
    folder = tmp_path_factory.mktemp("c99")
    source = written(folder, models)
    compiled(request.param, *WARNINGS, "-fPIC", "-shared", source, "-o", folder / "all.so")
    return Compiled(models, folder / "all.so")


def rows(model: Sequential, n: int = 9) -> np.ndarray:
    x = features(n, model.plan.inputs, seed=11)
    if isinstance(model.layers[0], nn.Normalize):
        x = x + 1e6
    return x.astype(np.float32).reshape(n, *model.plan.input_shape)


def error(made: np.ndarray, expected: np.ndarray) -> float:
    expected = expected.reshape(len(made), -1).astype(np.float64)
    return float((np.abs(made - expected) / np.maximum(1.0, np.abs(expected))).max())


# What C computes -------------------------------------------------------------------------------------------------


def test_each_file_passes_its_own_test(made):
    assert made.library.failures() == 0


def test_predictions_are_the_models(made):
    for key, model in made.models.items():
        X = rows(model)
        assert error(made.call(key, "predict", X, model.plan.outputs), model.predict(X)) < 1e-5, key


def test_probabilities_and_classes_are_the_models(made):
    seen = set()
    for key, model in made.models.items():
        if model.loss is None or model.loss.link not in ("softmax", "sigmoid"):
            continue
        X = rows(model, 30)
        expected = model.predict_proba(X)
        assert error(made.call(key, "probabilities", X, expected.shape[1]), expected) < 1e-5, key
        classes = model.predict_class(X)
        if classes.ndim == 1:
            assert (made.classes(key, X) == classes).all() and len(set(classes.tolist())) > 1, key
        else:
            assert (made.call(key, "labels", X, 5, np.int32) == classes).all(), key
        seen.add((model.loss.link, expected.shape[1]))
    assert seen == {("softmax", 4), ("sigmoid", 2), ("sigmoid", 5)}


def test_missing_values_and_extremes_come_out_as_in_python(made):
    """relu of NaN is NaN; nothing overflows where the model does not."""
    for name in ACTIVATIONS:
        model = made.models[name]
        X = rows(model, 3)
        X[0, 3] = np.nan
        assert np.isnan(made.call(name, "predict", X, 3)[0]).all(), name
        if name not in ("exponential", "gelu_tanh"):
            X = np.float32([[1e4], [-1e4]]) * np.ones((1, INPUTS), np.float32)
            assert error(made.call(name, "predict", X, 3), model.predict(X)) < 1e-4, name


def test_the_largest_of_pieces_is_missing_where_one_is(made):
    X = rows(made.models["maxout of the input"], 3)
    X[[0, 1, 2], [0, 1, 2]] = np.nan
    y = made.call("maxout of the input", "predict", X, 4)
    assert np.isnan(y[:, 0]).all() and not np.isnan(y[:, 1:]).any()


def test_calls_from_threads_do_not_meet(made):
    """ctypes lets go of the GIL: a static array would mix the rows."""
    model = made.models["of blocks"]
    X = rows(model, 200)
    expected = made.call("of blocks", "predict", X, 2)
    wrong = []

    def work() -> None:
        for _ in range(5):
            if made.call("of blocks", "predict", X, 2).tobytes() != expected.tobytes():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_other_blocks_and_bytes(tmp_path):
    """int8: C rounds as NumPy does here, so that the error that its head states is its own."""
    keys = ["of blocks", "16 units", "positions", "skips", "batch norms", "linked softmax", "Normalize", "tanh"]
    models = {key: NETWORKS[key]() for key in keys}
    for options in ({"block": 16}, {"dtype": "int8"}, {"dtype": "int8", "block": 32}):
        folder = tmp_path / "-".join(map(str, options.values()))
        folder.mkdir()
        source = written(folder, models, **options)
        compiled(["gcc", "-std=c99"], *WARNINGS, "-O2", "-fPIC", "-shared", source, "-o", folder / "all.so")
        made = Compiled(models, folder / "all.so")
        assert made.library.failures() == 0
        for key, model in models.items():
            X, frozen = rows(model), model.frozen()
            expected = model.predict(X)
            if "dtype" in options:
                assert error(made.call(key, "predict", X, model.plan.outputs), expected) > 1e-5, key
                expected = Predictor(folded(frozen), c99_simulated.backend("int8"))(X)
            assert error(made.call(key, "predict", X, model.plan.outputs), expected) < 1e-5, (key, options)
            X[1].flat[2] = np.nan
            assert np.isnan(made.call(key, "predict", X, model.plan.outputs)[1]).any(), (key, options)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_functions_keep_their_digits(tmp_path):
    """In units of the last place, over a float in 4099: bounds of csrc/kernels/math.hpp, and a half."""
    truth = {
        "exp": (np.exp, 1.6),
        "expm1": (np.expm1, 2.5),
        "tanh": (np.tanh, 3.5),
        "erf": (erf, 3.6),
        "log1p": (np.log1p, 2.0),
    }
    loops = "\n".join(
        f"void f_{name}(const float *x, float *y, int n) {{ for (int i = 0; i < n; ++i) y[i] = m_{name}(x[i]); }}"
        for name in truth
    )
    text = "#include <stdint.h>\n" + "\n".join(c99_math.functions(truth)).replace("@", "m") + f"\n{loops}\n"
    (tmp_path / "m.c").write_text(text)
    compiled(["gcc", "-std=c99", "-O3"], "-fPIC", "-shared", tmp_path / "m.c", "-o", tmp_path / "m.so")
    library = ctypes.CDLL(str(tmp_path / "m.so"))
    x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    for name, (exact, bound) in truth.items():
        given = x[(x >= 0) & (x <= 1)] if name == "log1p" else x
        y = np.empty_like(given)
        getattr(library, f"f_{name}")(ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(y.ctypes.data), len(given))
        with np.errstate(all="ignore"):
            wide = exact(given.astype(np.float64))
            right = wide.astype(np.float32)
            units = np.abs(y - wide) / np.spacing(np.abs(right)).astype(np.float64)
        normal = np.isfinite(right) & (np.abs(right) >= np.finfo(np.float32).tiny)
        assert units[normal].max() <= bound, name
        assert (np.isnan(y) == np.isnan(given)).all(), name
        rest = ~normal & ~np.isnan(given)
        assert np.allclose(y[rest], right[rest], rtol=0, atol=3e-45), name


# Other machines ----------------------------------------------------------------------------------------------------

TARGETS = {
    "arm-linux-musleabihf": ["qemu-arm"],
    "riscv64-linux-musl": ["qemu-riscv64"],
    "wasm32-wasi": ["node", "--no-warnings"],
}
NODE = """
const {{ WASI }} = require("wasi");
const wasi = new WASI({{ version: "preview1", args: [], env: {{}}, returnOnExit: true }});
const program = new WebAssembly.Module(require("fs").readFileSync({path!r}));
const instance = new WebAssembly.Instance(program, {{ wasi_snapshot_preview1: wasi.wasiImport }});
process.exit(wasi.start(instance));
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_on_other_machines(target, models, tmp_path):
    """Where an emulator is there, the tests run."""
    pytest.importorskip("ziglang")
    some = {
        key: models[key] for key in (*ACTIVATIONS, "of blocks", "skips", "positions", "linked softmax", "Normalize")
    }
    source, program = written(tmp_path, some), tmp_path / "all.wasm"
    compiled([*ZIG, "cc", "-std=c99", "-target", target], *WARNINGS, "-O2", "-DALONE", source, "-o", program)
    runner = TARGETS[target]
    if shutil.which(runner[0]) is None:
        pytest.skip(f"compiled, but there is no {runner[0]} to run it")
    if runner[0] == "node":
        (tmp_path / "run.cjs").write_text(NODE.format(path=str(program)))
        program = tmp_path / "run.cjs"
    done = subprocess.run([*runner, str(program)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.count("worst error") == len(some), done.stdout + done.stderr


# The recipes of docs/c.md ------------------------------------------------------------------------------------------


def recipe(language: str) -> str:
    page = Path(__file__).parents[1] / "docs" / "c.md"
    if not page.exists():
        pytest.skip("not a source tree")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return code


@pytest.fixture
def small(tmp_path, monkeypatch) -> Sequential:
    """A model of the recipes' sizes, written into the folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    model = built(nn.Dense(8, "tanh"), nn.Dense(2), inputs=4, loss="cross_entropy")
    model.to_c("model.c")
    return model


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


ROW = np.float32([[0.5, -1.0, 0.0, 0.0]])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_the_recipe_for_cpp(small):
    Path("main.cpp").write_text(recipe("cpp"))
    compiled(["g++", "-std=c++17"], *WARNINGS, "-O1", "main.cpp", "model.c", "-o", "main")
    expected = f"{small.predict(ROW)[0, 0]:.4g}"
    said = re.fullmatch(r"(\S+), class (\d)\n", output("./main"))
    assert said and f"{float(said[1]):.4g}" == expected and int(said[2]) == small.predict_class(ROW)[0]


@pytest.mark.skipif(None in map(shutil.which, ("gcc", "ar", "rustc")), reason="no gcc, ar or rustc")
def test_the_recipe_for_rust(small):
    main = 'fn main() { let y = predict(&[0.5, -1.0, 0.0, 0.0]); println!("{} {}", y[0], y[1]); }\n'
    Path("main.rs").write_text(recipe("rust") + main)
    compiled(["gcc", "-std=c99"], "-O1", "-c", "model.c", "-o", "model.o")
    compiled(["ar"], "rcs", "libmodel.a", "model.o")
    compiled(["rustc"], "main.rs", "-L", ".", "-l", "static=model", "-o", "main")
    assert np.allclose([float(word) for word in output("./main").split()], small.predict(ROW)[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_recipe_for_javascript(small):
    pytest.importorskip("ziglang")
    command = " ".join(recipe("sh").replace("\\\n", " ").split()).replace("python", sys.executable, 1)
    compiled(command.split(" "))
    Path("main.mjs").write_text(recipe("js"))
    numbers = re.findall(r"-?\d+\.\d+(?:e-?\d+)?", output("node", "main.mjs"))
    assert np.allclose([float(number) for number in numbers], small.predict(ROW)[0], atol=1e-5)


# The tables ----------------------------------------------------------------------------------------------------------


def test_every_operation_is_written_or_refused():
    tables = [*c99_ops.EMITTED, *c99_ops.REFUSED, *c99_ops.ABSENT]
    assert sorted(tables) == sorted(OPS), "an operation has no C, or more than one: serving/c99_ops.py"
    model = built(nn.Dense(4, "rrelu"), nn.Dropout(0.5), nn.RReLU() if hasattr(nn, "RReLU") else nn.Activation("relu"))
    assert not {op.kind for op in model.frozen().plan.ops} & set(c99_ops.ABSENT)


def test_every_activation_is_written():
    assert set(c99_math.ACTIVATIONS) == set(ACTIVATIONS), "an activation has no C: serving/c99_math.py"


def test_the_networks_here_have_every_operation(models):
    used = {op.kind for model in models.values() for op in folded(model.frozen()).plan.ops}
    assert used | {"cast"} == set(c99_ops.EMITTED)


def test_functions_stand_behind_what_they_need():
    seen: set[str] = set()
    for name, function in c99_math.MATH.items():
        assert set(function.needs) <= seen, name
        named = {used for used in re.findall(r"@_(\w+)", function.text) if used in c99_math.MATH}
        direct = set(function.needs)
        assert named - {name} <= direct | {need for other in direct for need in c99_math.MATH[other].needs}, name
        seen.add(name)


def test_batch_norms_are_folded_where_no_digits_go(models):
    kinds = lambda key: [op.kind for op in folded(models[key].frozen()).plan.ops]  # noqa: E731
    assert kinds("batch norms") == ["dense", "dense"]
    assert kinds("far means") == ["batch_norm", "dense"]
    same = models["tanh"].frozen()
    assert folded(same) is same


# What is written, and what is refused --------------------------------------------------------------------------------


def test_the_head_says_what_it_costs(tmp_path):
    model = built(nn.Dense(64, "relu"), nn.Dense(64, "relu"), nn.Dense(2), inputs=30)
    model.to_c(tmp_path / "net.c", name="net")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h", "net_test.c"]
    text = (tmp_path / "net.c").read_text(encoding="utf-8")
    assert "Flash: 25096 bytes of const data" in text  # 4 (30 64 + 64 + 64 64 + 64 + 64 2 + 2)
    assert re.search(r"Stack: about 776 bytes", text)  # two rows of 64, 64 sums, 2 outputs
    assert float(re.search(r"Worst error: (\S+) of", text)[1]) < 1e-5
    assert "math.h" not in text and "malloc" not in text
    for symbol in re.findall(r"^(?:void|int|static \w+|extern.*?)\s\*?(\w+)[(\[]", text, re.MULTILINE):
        assert symbol.startswith("net_"), symbol
    net = [op for op in (tmp_path / "net.h").read_text().split() if op.startswith("MODEL")]
    assert not net


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_names_of_classes_are_text_in_c(tmp_path):
    names = ['a "quoted" one', "back\\slash", "naïve 漢字 1", "??/trigraph", "line\nbreak", "@_$_CONST*/", ""]
    model = built(nn.Dense(len(names)), loss="cross_entropy")
    c99.write(model.frozen(classes=np.array(names)), tmp_path / "m.c")
    compiled(["gcc", "-std=c99"], *WARNINGS, "-fPIC", "-shared", tmp_path / "m.c", "-o", tmp_path / "m.so")
    table = (ctypes.c_char_p * len(names)).in_dll(ctypes.CDLL(str(tmp_path / "m.so")), "model_classes")
    assert [each.decode() for each in table] == names


def test_classes_without_names_have_numbers(tmp_path):
    ending("binary_cross_entropy", None).to_c(tmp_path / "m.c")
    assert '    "0",\n    "1",\n' in (tmp_path / "m.c").read_text()


def test_rows_are_the_tests(tmp_path):
    model = built(nn.Dense(2))
    X = features(3, INPUTS)
    model.to_c(tmp_path / "m.c", rows=X)
    text = (tmp_path / "m_test.c").read_text()
    assert f"model_rows[3][{INPUTS}]" in text and f"{np.float32(X[1, 0]):.9g}f" in text
    for got, expected in ((X[:, :5], "rows has 5 features"), (X[:0], "rows has 0"), (X * np.nan, "rows contains NaN")):
        with pytest.raises(ValueError, match=expected):
            model.to_c(tmp_path / "other.c", rows=got)
    with pytest.raises(ValueError, match="row 1 of rows is not finite"):
        built(nn.Dense(2, "exponential")).to_c(tmp_path / "other.c", rows=[[0.0] * INPUTS, [1e30] * INPUTS])
    assert not (tmp_path / "other.c").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtype": "float16"}, "dtype is 'float16', expected 'float32' or 'int8'"),
        ({"name": "2nd"}, "name is '2nd', expected a name in C"),
        ({"name": "größe"}, "name is"),
        ({"name": "a b"}, "name is"),
        ({"name": 3}, "name is 3"),
        ({"block": 7}, "block is 7, expected one of: 16, 32, 64"),
        ({"block": True}, "block is True"),
        ({"block": 64.0}, "block is 64.0"),
    ],
)
def test_other_arguments_are_refused(options, says, tmp_path):
    with pytest.raises(ValueError, match=re.escape(says)):
        built(nn.Dense(2)).to_c(tmp_path / "m.c", **options)
    assert not list(tmp_path.iterdir())


def test_other_paths_are_refused(tmp_path):
    model = built(nn.Dense(2))
    for name in ("m", "m.h", 'a"b.c', "a b*.c", ".c"):
        with pytest.raises(ValueError, match=re.escape(f"path is {str(tmp_path / name)!r}")):
            model.to_c(tmp_path / name)
    with pytest.raises(TypeError, match="path is 3"):
        model.to_c(3)
    with pytest.raises(FileNotFoundError, match="folder"):
        model.to_c(tmp_path / "nowhere" / "m.c")
    assert not list(tmp_path.iterdir())


def test_networks_that_c_has_not_are_refused(tmp_path):
    own = Activation("cubed", lambda z, alpha: z * z * z, lambda z, alpha: 3.0 * z * z, "z", "mine")
    infinite = built(nn.Dense(2))
    infinite.layers[0].weight[0, 0] = np.inf
    for model, says in (
        (Sequential([nn.Dense(2)], dtype="float64").build(3, seed=0), "computes in float64, expected float32"),
        (built(nn.Dense(2, own)), "the activation cubed"),
        (built(nn.Activation(own)), "the activation cubed"),
        (of_ids(built(nn.Dense(2)), 10), "the operation ids"),
        (infinite, "0.weight has values that are not finite"),
    ):
        with pytest.raises(ValueError, match=says):
            model.to_c(tmp_path / "m.c")
    with pytest.raises(NotFittedError):
        Sequential([nn.Dense(2)]).to_c(tmp_path / "m.c")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_a_file_leaves_none(tmp_path):
    (tmp_path / "m_test.c").mkdir()
    with pytest.raises(OSError, match=r"m_test\.c"):
        built(nn.Dense(2)).to_c(tmp_path / "m.c")
    assert [path.name for path in tmp_path.iterdir()] == ["m_test.c"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    model = built(nn.Dense(2))
    model.to_c(tmp_path / "m.c")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        built(nn.Dense(3)).to_c(tmp_path / "m.c")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_same_network_makes_the_same_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        NETWORKS["skips"]().to_c(tmp_path / name / "m.c")
    assert (tmp_path / "a/m.c").read_bytes() == (tmp_path / "b/m.c").read_bytes()


def test_activations_with_alpha_are_those_with_a_range():
    """What decides whether a function in C takes alpha."""
    assert [name for name in ACTIVATIONS if "alpha" in "".join(c99_math.ACTIVATIONS[name][1:])] == [
        name for name in ACTIVATIONS if get(name).alpha_range != (0.0, 0.0)
    ]
