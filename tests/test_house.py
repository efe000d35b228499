"""What README.md, CONTRIBUTING.md and the guide say of this package, held against the package."""

from __future__ import annotations

import ast
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastnn
from fastnn import backends, nn, optim
from fastnn.formulas.initializers import ALIASES

ROOT = Path(__file__).parents[1]
PACKAGE = Path(fastnn.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def document(name: str) -> str:
    if not (ROOT / "src").is_dir():
        pytest.skip("not a source tree")
    return (ROOT / name).read_text(encoding="utf-8")


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports at its top."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fastnn":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES or name == "fastnn._native" else node.module)
    return found


IMPORTS = {name: imported(path) for name, path in MODULES.items()}
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/guide.md",
    "docs/command_line.md",
    "docs/estimators.md",
    "docs/model_selection.md",
    "docs/torch.md",
    "docs/performance.md",
]
FACADE = "fastnn"  # __init__.py: names for users, which nothing inside needs


# The house -----------------------------------------------------------------------------------------------------


def test_imports_are_found():
    assert "fastnn.plan" in IMPORTS["fastnn.engine"]
    assert "fastnn.training.trainer" in IMPORTS["fastnn.bench.demo"]


def test_imports_point_one_way():
    """static_order raises CycleError, with the circle, where two modules need each other."""
    order = list(TopologicalSorter(IMPORTS).static_order())
    storeys = [
        "fastnn.plan",
        "fastnn.engine",
        "fastnn.backends",
        "fastnn.nn.model",
        "fastnn.training.trainer",
        "fastnn.cli",
    ]
    assert sorted(storeys, key=order.index) == storeys
    assert order.index("fastnn.training.trainer") < order.index("fastnn.estimators")
    assert not [name for name, needs in IMPORTS.items() if FACADE in needs]


def test_no_backend_knows_another():
    kernels = {source.module for source in backends.BACKENDS.values()}
    shared = {"fastnn.backends.reference"}
    for name in kernels:
        assert not (IMPORTS[name] & (kernels - shared)), name


def test_two_modules_import_the_extension():
    importers = {name for name, needs in IMPORTS.items() if "fastnn._native" in needs}
    assert importers == {"fastnn.backends.native", "fastnn.backends.native_engine"}


def test_of_the_backends_the_engine_knows_the_contract_alone():
    needs = {name for name in IMPORTS["fastnn.engine"] if name.startswith("fastnn.backends")}
    assert needs == {"fastnn.backends.contract"}


def test_the_files_of_the_house_are_there():
    (house,) = re.findall(r"^```\n(src/fastnn/\n.*?)^```", document("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"\b\w+\.(?:py|pxd)\b", house))
    assert len(named) > 20
    assert not named - {path.name for path in (ROOT / "src").rglob("*")}


# The guide -------------------------------------------------------------------------------------------------------

LAYERS = [kind.__name__ for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Layer)]
LAYERS.remove("Layer")
OPTIMIZERS = sorted({kind.__name__ for kind in optim.OPTIMIZERS.values()})
CALLBACKS = [
    name for name, thing in vars(fastnn).items() if inspect.isclass(thing) and issubclass(thing, fastnn.Callback)
]
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
