"""What README.md, CONTRIBUTING.md and the guide say of this package, held against the package."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import import_graph
import ops_table
import pytest

import fastnn
from fastnn import backends, nn, optim
from fastnn.formulas.initializers import ALIASES

ROOT = Path(__file__).parents[1]
PACKAGE = Path(fastnn.__file__).parent
IMPORTS = import_graph.imports(PACKAGE)


def document(name: str) -> str:
    if not (ROOT / "src").is_dir():
        pytest.skip("not a source tree")
    return (ROOT / name).read_text(encoding="utf-8")


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/guide.md",
    "docs/command_line.md",
    "docs/estimators.md",
    "docs/model_selection.md",
    "docs/torch.md",
    "docs/serving.md",
    "docs/onnx.md",
    "docs/c.md",
    "docs/report.md",
    "docs/serve_fastapi.md",
    "docs/serve_mlflow.md",
    "docs/serve_bentoml.md",
    "docs/performance.md",
    "docs/testing.md",
    "docs/reliability.md",
]
STOREYS = (  # from the ground up: each room imports from those below it
    "foundation",
    "formulas",
    "optim",
    "ops",
    "plan",
    "contract",
    "engine",
    "backends",
    "config",
    "metrics",
    "serving",
    "report",
    "nn",
    "gradient_check",
    "training",
    "estimators",
    "loading",
    "torch",
    "tabular",
    "exporting",
    "datasets",
    "bench",
    "cli",
)
LINES = 500  # of a file, at most
SUFFIXES = (".py", ".pyi", ".pxd", ".cpp", ".hpp")


# Imports -------------------------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_are():
    source = """
import fastnn.a
from fastnn import b
from fastnn.c import name, d
if TYPE_CHECKING:
    from fastnn.e import Kind
class Kind:
    def method(self):
        from fastnn.f import name
"""
    known = ["fastnn", *(f"fastnn.{name}" for name in "abcefg"), "fastnn.c.d"]
    assert import_graph.imported(source, known) == {*(f"fastnn.{name}" for name in "abcef"), "fastnn.c.d"}
    with pytest.raises(ValueError, match="line 1 imports relatively"):
        import_graph.imported("from . import a", known)


def test_imports_of_this_package_are_found():
    assert "fastnn.plan" in IMPORTS["fastnn.engine"]
    assert "fastnn.training.trainer" in IMPORTS["fastnn.bench.demo"]
    assert "fastnn.backends.native" in IMPORTS["fastnn.bench.machine"]  # within a function
    assert "fastnn.estimators" in IMPORTS["fastnn"]  # under TYPE_CHECKING


def test_no_module_needs_itself():
    """static_order raises CycleError, with the circle, where two modules need each other."""
    assert set(TopologicalSorter(IMPORTS).static_order()) == set(IMPORTS)


def test_imports_point_down():
    level = {room: number for number, room in enumerate(STOREYS)}
    rooms = import_graph.rooms(IMPORTS)
    assert not set(rooms) - set(STOREYS), "rooms that STOREYS has no place for"
    assert not [(room, need) for room, needs in rooms.items() for need in needs if level[need] >= level[room]]


def test_nothing_imports_the_facade():
    """fastnn/__init__.py has the names for users."""
    assert not [name for name, needs in IMPORTS.items() if "fastnn" in needs]


@pytest.mark.skipif(backends.resolve().name == "numba", reason="numba imports much")
def test_what_serves_imports_nothing_that_trains(tmp_path):
    """And nothing else that takes long: numpy.ma 20 ms, importlib.metadata 25."""
    model = fastnn.Sequential([nn.Dense(2)]).build(3, seed=0)
    model.save(tmp_path / "model")
    code = "import sys, fastnn; fastnn.load(sys.argv[1]).predict([[0.0] * 3]); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "model"], capture_output=True, text=True, check=True)
    needless = {"fastnn.optim", "fastnn.training", "fastnn.report", "fastnn.serving.onnx", "fastnn.serving.c99"}
    assert not (needless | {"numpy.ma", "importlib.metadata", "sklearn"}) & set(run.stdout.split())


def test_no_backend_knows_another():
    kernels = {source.module for source in backends.BACKENDS.values()}
    shared = {"fastnn.backends.reference"}
    for name in kernels:
        assert not (IMPORTS[name] & (kernels - shared)), name


def test_one_module_imports_the_extension():
    """And says first how long its threads may wait: see `_cpus.brief_waits`."""
    importers = {name for name, needs in IMPORTS.items() if "fastnn._native" in needs}
    assert importers == {"fastnn.backends.native"}


def test_one_module_imports_matplotlib():
    """And says what to install where it is missing."""
    sources = {name: path.read_text(encoding="utf-8") for name, path in import_graph.modules(PACKAGE).items()}
    importers = {name for name, text in sources.items() if re.search(r"^\s*(?:from|import) matplotlib", text, re.M)}
    assert importers == {"fastnn._plot"}


def test_the_engine_knows_no_backend():
    assert not [name for name in IMPORTS["fastnn.engine"] if name.startswith("fastnn.backends")]


# Operations ------------------------------------------------------------------------------------------------------

LISTS = {"src/fastnn/ops/__init__.py", "csrc/ops/all.hpp"}
# The explicit loops stay at the operations they have, for teaching; a name of an activation is in the lists of those
TEACHING = {"src/fastnn/backends/loops.py", "src/fastnn/backends/loops.pxd"}
NAMES = {"src/fastnn/formulas/activations.py", "src/fastnn/nn/layers/dense.py"}
OPERATIONS = {  # the operation, its file, the file of its layer
    "layer_norm": ("layer_norm", "norm"),
    "maxout": ("maxout", "activations"),
    "scale": ("scale", "norm"),
    "conv": ("conv", "conv"),
    "fork": ("skip", "residual"),
    "turn": ("skip", "residual"),
    "join": ("skip", "residual"),
    "last": ("last", "recurrent"),
    "embedding": ("embedding", "embedding"),
}


def says(path: Path, operation: str) -> bool:
    """Whether a source has to do with the operation: declares, lists or makes it, or takes its name for a function's.
    What comments and docstrings say does not count."""
    text = path.read_text(encoding="utf-8")
    comment = r"//[^\n]*" if path.suffix in (".cpp", ".hpp") else r'#[^\n]*|"""(?:[^"]|"(?!""))*"""'
    code = re.sub(comment, "", text)
    made = r"(?:Op\(|kind (?:==|in)[^\n]*|_with_operation\(\w+, )"
    listed = rf"X\({operation}\)|import .*\b{operation}\b"
    uses = rf"(?:class|struct) {operation}\b|{listed}|{made}[\"']{operation}[\"']"
    return re.search(rf"{uses}|\b{operation}_(?:forward|backward|predict|gradient)\b", code) is not None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_two_files_its_layer_and_a_line_in_two_lists(operation):
    document("CONTRIBUTING.md")
    sources = (path for place in ("src", "csrc") for path in (ROOT / place).rglob("*") if path.suffix in SUFFIXES)
    found = {path.relative_to(ROOT).as_posix() for path in sources if says(path, operation)}
    file, layer = OPERATIONS[operation]
    own = {f"src/fastnn/ops/{file}.py", f"csrc/ops/{file}.hpp", f"src/fastnn/nn/layers/{layer}.py"}
    assert {path for path in found if not path.startswith("csrc/parity/")} - TEACHING - NAMES == own | LISTS


def test_the_guide_has_the_table_of_operations():
    guide = document("docs/guide.md")
    assert ops_table.TABLE.refreshed(guide) == guide, f"docs/guide.md is stale: {ops_table.TABLE.refresh}"


def test_the_diagram_is_of_this_code():
    page = document("CONTRIBUTING.md")
    stale = f"the imports are others by now: {import_graph.DIAGRAM.refresh}"
    assert page == import_graph.DIAGRAM.refreshed(page), stale


def test_the_diagram_leaves_out_what_other_arrows_say():
    assert import_graph.reduced({"a": {"b", "c", "d"}, "b": {"c"}, "c": set()}) == {
        "a": {"b", "d"},
        "b": {"c"},
        "c": set(),
    }


def native_includes() -> import_graph.Graph:
    document("CONTRIBUTING.md")
    return import_graph.includes(ROOT / "csrc")


def test_includes_point_one_way():
    graph = native_includes()
    assert "threads.hpp" in graph["kernels/parallel.hpp"]
    assert set(TopologicalSorter(graph).static_order()) == set(graph)


def test_kernels_know_neither_engine_nor_python():
    graph = native_includes()
    upstairs = {"kernels": ("engine/", "bindings"), "ops": ("engine/", "bindings"), "engine": ("bindings",)}
    for file, needs in graph.items():
        forbidden = upstairs.get(file.partition("/")[0], ())
        assert not [need for need in needs if need.startswith(forbidden)], file


def test_the_bindings_alone_know_python():
    know = {
        file
        for file in native_includes()
        if re.search(r"#\s*include\s+<(?:pybind11/|Python\.h)", (ROOT / "csrc" / file).read_text(encoding="utf-8"))
    }
    assert know and all(file.startswith("bindings") for file in know)


# Files ---------------------------------------------------------------------------------------------------------


def house() -> dict[str, set[str]]:
    """Folders of the house in CONTRIBUTING.md, as paths, with the file names that their lines have."""
    (block,) = re.findall(r"^```\n(src/fastnn/\n.*?)^```", document("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    named: dict[str, set[str]] = {}
    path: list[tuple[int, str]] = []  # the folders that a line is in: their indentation and names
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        path = [step for step in path if step[0] < indent]
        folders = re.match(r"\s*([\w./]+/)(?:\s|$)", line)
        if folders:
            path.append((indent, folders[1]))
        files = re.findall(r"<?[\w.]+>?\.(?:py|pyi|pxd|cpp|hpp|sh|txt)\b", line)
        named.setdefault("".join(name for _, name in path), set()).update(files)
    return named


def files_of(folder: str) -> set[str]:
    """Those that the house has to name: all but what every package has."""
    kinds = (".py", ".pyi", ".pxd", ".cpp", ".hpp", ".sh")
    found = {path.name for path in (ROOT / folder).iterdir() if path.suffix in kinds}
    return found - {"__init__.py", "__main__.py", "_version.py"}


def test_the_house_names_every_file():
    """Each in its folder's lines; `<op>.py` there stands for all of that ending."""
    named = house()
    folders = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for place in ("src/fastnn", "csrc")
        for path in (ROOT / place).rglob("*")
        if path.suffix in (".py", ".cpp", ".hpp")
    }
    assert not folders - named.keys()
    for folder in folders:
        endings = tuple(name.rpartition(">")[2] for name in named[folder] if name.startswith("<"))
        missing = {name for name in files_of(folder) - named[folder] if not (endings and name.endswith(endings))}
        assert not missing, f"{folder} of CONTRIBUTING.md's house names not {sorted(missing)}"


def test_the_files_of_the_house_are_there():
    named = {name for names in house().values() for name in names if not name.startswith("<")}
    assert len(named) > 100
    assert not named - {path.name for place in ("src", "csrc") for path in (ROOT / place).rglob("*")}


def test_no_file_is_long():
    document("CONTRIBUTING.md")
    files = [*(ROOT / "src/fastnn").rglob("*.py"), *(ROOT / "csrc").rglob("*.cpp"), *(ROOT / "csrc").rglob("*.hpp")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in files}
    assert not {name for name, lines in lengths.items() if lines > LINES}


# The guide -------------------------------------------------------------------------------------------------------

LAYERS = [kind.__name__ for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Layer)]
LAYERS.remove("Layer")
OPTIMIZERS = sorted({kind.__name__ for kind in optim.OPTIMIZERS.values()})
NAMED = {name: getattr(fastnn, name) for name in fastnn.__all__}
CALLBACKS = [name for name, thing in NAMED.items() if inspect.isclass(thing) and issubclass(thing, fastnn.Callback)]
SCHEDULES = [kind.__name__ for kind in optim.Schedule.__subclasses__()]


@pytest.mark.parametrize(
    "names",
    [
        LAYERS,
        [*nn.ACTIVATIONS],
        [*nn.LOSSES],
        [*nn.INITIALIZERS],
        OPTIMIZERS,
        SCHEDULES,
        [*backends.BACKENDS],
        CALLBACKS,
        [*fastnn.METRICS],
    ],
    ids=[
        "layers",
        "activations",
        "losses",
        "initialisers",
        "optimizers",
        "schedules",
        "backends",
        "callbacks",
        "metrics",
    ],
)
def test_the_guide_names_them_all(names):
    guide = document("docs/guide.md")
    assert not [name for name in names if not re.search(rf"\b{name}\b", guide)]


def test_aliases_of_initialisers_are_those_of_the_guide():
    """glorot_* also as xavier_*, he_* as msra_*."""
    guide = document("docs/guide.md")
    assert {alias.split("_")[0] for alias in ALIASES} == set(re.findall(r"(\w+)_\*", guide))


# Links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = document(name)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", link)]
    files = [link for link in links if not ((ROOT / name).parent / link.partition("#")[0]).exists()]
    assert not files


@pytest.mark.parametrize("name", PAGES)
def test_files_named_in_code_style_are_there(name):
    """`tests/test_native.py` and the like."""
    paths = re.findall(r"`((?:src|csrc|tests|bench|docs|\.ci)/[\w./-]+)", document(name))
    assert not [path for path in paths if not (ROOT / path).exists()]
