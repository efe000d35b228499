"""Who imports whom: read from the sources, nothing is executed. Rooms as a diagram for CONTRIBUTING.md; no assertions.

python tests/import_graph.py            # print the diagram
python tests/import_graph.py --write    # put it into CONTRIBUTING.md
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from written import ROOT, Written

PACKAGE = "fastnn"  # its __init__.py is a facade: names for users, which nothing inside needs
Graph = dict[str, set[str]]  # name -> what it needs

FOUNDATION = "foundation"  # small modules that need each other and nothing else, drawn as one room
FOUNDATIONS = (
    "_cpus",
    "_frames",
    "_hints",
    "_lock",
    "_members",
    "_plot",
    "_random",
    "_rounding",
    "_sparse",
    "_text",
    "_validate",
    "_version",
    "data",
    "errors",
    "files",
)
ROOMS = {  # modules that do not give their room its name
    **dict.fromkeys(FOUNDATIONS, FOUNDATION),
    "__main__": "cli",
    "table": "tabular",
}
COMPILED = (f"{PACKAGE}._native", f"{PACKAGE}.backends._loops_cython")  # of these there are stubs alone


# Python ------------------------------------------------------------------------------------------------------


def modules(package: Path) -> dict[str, Path]:
    """Every module by its dotted name; compiled ones by their stubs."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((*package.rglob("*.py"), *package.rglob("*.pyi")))
    }


def imported(source: str, known: Iterable[str]) -> set[str]:
    """The modules among `known` that a source imports anywhere: at its top, within functions, under TYPE_CHECKING."""
    names = set(known)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno} imports relatively, expected the whole name")
            wanted = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
        elif isinstance(node, ast.Import):
            wanted = [(alias.name, alias.name) for alias in node.names]
        else:
            continue
        found |= {name if name in names else module for name, module in wanted}
    return found & names


def imports(package: Path) -> Graph:
    """Each module of the package with the modules of it that it imports."""
    found = modules(package)
    return {name: imported(path.read_text(encoding="utf-8"), found) - {name} for name, path in found.items()}


def room(module: str) -> str:
    """The room that a module is in: its package, or itself where it stands alone."""
    name = module.removeprefix(f"{PACKAGE}.")
    first = name.partition(".")[0]
    return ROOMS.get(name, ROOMS.get(first, first))


def rooms(graph: Mapping[str, set[str]]) -> Graph:
    """Each room with those it needs. The facade and the compiled modules are none."""
    none = (PACKAGE, *COMPILED)
    found: Graph = {}
    for module, needs in graph.items():
        if module not in none:
            others = {room(other) for other in needs if other not in none}
            found.setdefault(room(module), set()).update(others - {room(module)})
    return found


# C++ ---------------------------------------------------------------------------------------------------------


def includes(sources: Path) -> Graph:
    """Each C++ file with the files that it includes, as paths below `sources`. ValueError where one is not there."""
    files = sorted(path for path in sources.rglob("*") if path.suffix in (".cpp", ".hpp"))
    found: Graph = {}
    for path in files:
        needs = found[path.relative_to(sources).as_posix()] = set()
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
            places = [folder / name for folder in (path.parent, sources) if (folder / name).is_file()]
            if not places:
                raise ValueError(f"{path} includes {name}, which is not there")
            needs.add(places[0].resolve().relative_to(sources.resolve()).as_posix())
    return found


# The diagram -------------------------------------------------------------------------------------------------


def reduced(graph: Mapping[str, set[str]]) -> Graph:
    """Without the arrows that others imply: a -> c where a -> b -> c. CycleError, with the circle, where there is one.

    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """
    below: Graph = {}  # each with all that it needs, however far
    for name in TopologicalSorter(graph).static_order():
        needs = graph.get(name, set())
        below[name] = needs.union(*(below[other] for other in needs))
    return {
        name: {need for need in needs if not any(need in below[other] for other in needs)}
        for name, needs in graph.items()
    }


def mermaid(graph: Mapping[str, set[str]]) -> str:
    """The rooms from the top down, each arrow from who imports to who is imported."""
    names = {FOUNDATION: ", ".join(FOUNDATIONS)}
    arrows = reduced(graph)
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'    {name}["{names[name]}"]' for name in sorted(arrows) if name in names]
    lines += [f"    {name} --> {' & '.join(sorted(needs))}" for name, needs in sorted(arrows.items()) if needs]
    return "\n".join([*lines, "```"])


def diagram() -> str:
    return mermaid(rooms(imports(ROOT / "src" / PACKAGE)))


DIAGRAM = Written("imports", ROOT / "CONTRIBUTING.md", "python tests/import_graph.py", diagram, gap="\n")

if __name__ == "__main__":
    DIAGRAM.main()
