"""What may be broken in an operation: small textual mutations of its functions, in C++ and in Python. Runs nothing.

A mutation changes one token (a sign, a comparison, a number, an index, an axis), negates what is written, or leaves a
statement out. What decides no value (costs, grains, which matrices are packed) is not mutated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PYTHON, CPP = ROOT / "src" / "fastnn" / "ops", ROOT / "csrc" / "ops"
PYTHON_REST = {"__init__.py", "operation.py", "spec.py"}  # not the operations' files
CPP_REST = {"all.hpp", "operation.hpp"}
# kernels that are mutated beside the operations made of them
KERNELS = {
    ROOT / "csrc" / "kernels" / "gather.hpp": CPP / "sources.hpp",
    ROOT / "csrc" / "kernels" / "sparse.hpp": CPP / "dense.hpp",
    ROOT / "csrc" / "kernels" / "serve.hpp": CPP / "dense.hpp",
}
# The kernels of int8, which stand in a table of their own: the second file reads the first
INT8 = (ROOT / "csrc" / "kernels" / "int8_ways.hpp", ROOT / "csrc" / "kernels" / "serve_int8.hpp")
# functions that choose or fetch ahead, and compute nothing
FASTER_ONLY = {"ns", "large", "packed", "packs_to_predict", "fits", "rows_ahead", "with_stored"}
FASTER_ONLY |= {"check_sparse_rows"}  # no operation calls it; parity/sources.cpp tries it
# chains of sums; memory, of which too much harms nobody; immediates of instructions, of which others do not compile
FASTER_ONLY_INT8 = {"sums_of", "packed_bytes", "store_low"}


class Mutant(NamedTuple):
    file: Path
    function: str
    operations: tuple[str, ...]  # that have it
    line: int
    what: str  # "old -> new"
    text: str  # the whole file, broken


# C++ --------------------------------------------------------------------------------------------------------

TOKENS = [
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " + "),
    (r" / ", " * "),
    (r" \+= ", " -= "),
    (r" > ", " >= "),
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" >= ", " > "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" && ", " || "),
    (r" & ", " | "),
    (r"!(?=\()", ""),
    (r"\bmin\(", "max("),
    (r"\b(?:rows|channels)\.begin\b", "0"),
    (r"(?<== )begin\b", "0"),
    (r"\bc\.P\b", "1"),
    (r"(?<![\w.])0(?![\w.])", "1"),
    (r"(?<![\w.])1(?![\w.])", "2"),
    (r"(?<![\w.])0\.5(?![\w.])", "1.5"),
]
OTHER_CHANNELS = [(r"\bc\.O\b", "c.I"), (r"\bc\.I\b", "c.O")]  # where the two differ
# `, ns, grain, [&]` and `, ns, [&]` of loops that are shared out
COSTS = re.compile(r",\s*(?:[\d.]+|ns)(?: \* static_cast<double>\(\w+\))?(?: \+ \d+)?,(?:\s*(?:\d+|kGrain),)?(?=\s*\[)")
ATTRIBUTES = re.compile(r"__attribute__\s*\(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)")
AHEAD = re.compile(r"^.*\b(?:ahead|bytes|__builtin_prefetch)\b.*$", re.M)  # of memory that is fetched before it is read


def _masked(text: str) -> str:
    """The text with comments, preprocessor lines and costs blanked: the same places, nothing to mutate."""
    for pattern in (
        re.compile(r"//[^\n]*"),
        re.compile(r"^#[^\n]*", re.M),
        COSTS,
        AHEAD,
        re.compile(r'"[^"\n]*"'),
        ATTRIBUTES,
    ):
        kept = r"[^\n(){}]" if pattern is AHEAD else r"[^\n]"
        text = pattern.sub(lambda match, kept=kept: re.sub(kept, "\0", match.group()), text)
    return text


# What a compiler for these instruction sets defines, of what the kernels of int8 ask for; nobody runs tests on others.
MACROS = {
    "x86-64-v2": {"FASTNN_SSE", "__SSSE3__"},
    "avx2": {"FASTNN_AVX2", "__SSSE3__"},
    "avx512": {"FASTNN_AVX512", "__SSSE3__"},
    "neon": {"__aarch64__"},
}


def _of_this_set(text: str, isa: str) -> str:
    """The text with the branches of #if blanked that are compiled for another instruction set, line by line."""
    lines, taken = [], [[True, True]]  # of each #if that is open: whether this branch is read, whether one was
    for line in text.split("\n"):
        found = re.match(r"#\s*(if|elif|else|endif)\b(.*?)(?://.*)?$", line)
        if found is None:
            lines.append(line if all(reads for reads, _ in taken) else re.sub(r"[^\n]", "\0", line))
            continue
        word, condition = found.group(1), found.group(2)
        if word == "if":
            taken.append([_holds(condition, isa)] * 2)
        elif word == "endif":
            taken.pop()
        else:
            reads = not taken[-1][1] and (word == "else" or _holds(condition, isa))
            taken[-1] = [reads, taken[-1][1] or reads]
        lines.append(line)
    return "\n".join(lines)


def _holds(condition: str, isa: str) -> bool:
    """Of macros, !, && and ||."""
    defined = MACROS[isa] | {"FASTNN_FLOAT"}
    words = re.sub(r"\bdefined\s*\(\s*(\w+)\s*\)", r"\1", condition)
    known = re.sub(r"\b[A-Za-z_]\w*\b", lambda match: str(match.group() in defined), words)
    python = known.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    return bool(eval(python, {"__builtins__": {}}))


class _Body(NamedTuple):
    struct: str  # "": free
    name: str
    begin: int
    end: int


def _bodies(text: str) -> Iterator[_Body]:
    """The functions of a header, by their braces."""
    kinds: list[tuple[str, str, int]] = []  # of the braces that are open: kind, name, where its body begins
    head = 0
    for place, character in enumerate(text):
        if character == "{":
            before = text[head:place]
            within = any(kind == "function" for kind, _, _ in kinds)
            struct = re.search(r"\bstruct (\w+)[^()]*$", before)
            function = re.search(r"(operator\(\)|\w+)\s*\(", before)
            if struct:
                kinds.append(("struct", struct.group(1), place))
            elif function and not within and "namespace" not in before:
                initializers = re.search(r"\)\s*(:)", before)
                kinds.append(("function", function.group(1), head + initializers.start(1) if initializers else place))
            else:
                kinds.append(("other", "", place))
        if character == "}":
            kind, name, begin = kinds.pop()
            if kind == "function":
                structs = [each for which, each, _ in kinds if which == "struct"]
                yield _Body(structs[-1] if structs else "", name, begin, place)
        if character in "{};":
            head = place + 1


def _closing(text: str, opening: int) -> int:
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise ValueError("a parenthesis that nothing closes")


def _arguments(text: str, opening: int) -> list[tuple[int, int]]:
    """Where each argument of a call begins and ends."""
    closing, begin, depth, found = _closing(text, opening), opening + 1, 0, []
    for place in range(opening + 1, closing):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if text[place] == "," and depth == 0:
            found.append((begin, place))
            begin = place + 1
    return [*found, (begin, closing)]


def _cpp_edits(text: str, begin: int, end: int, channels: bool) -> Iterator[tuple[int, int, str]]:
    """(from, to, what to put there), in a masked text."""
    for pattern, new in TOKENS + (OTHER_CHANNELS if channels else []):
        for match in re.compile(pattern).finditer(text, begin, end):
            yield match.start(), match.end(), new
    for match in re.compile(r"\bstore\(").finditer(text, begin, end):
        arguments = _arguments(text, match.end() - 1)
        first, last = arguments[1]
        yield first, last, f" -({text[first:last].strip()})"
        yield match.start(), _closing(text, match.end() - 1) + 1, ""
    for match in re.compile(r"^ +((?:dx\[|a\[|mean\[|e\.)[^;{}]*|\w+ \+= [^;{}]*|if \([^;{}]*);", re.M).finditer(
        text, begin, end
    ):
        yield match.start(1), match.end(1), ""


def _cut(text: str) -> str:
    """On one line, not too long."""
    line = " ".join(text.replace("\0", " ").split())
    return line if len(line) <= 48 else f"{line[:45]}..."


def _around(text: str, first: int, last: int) -> tuple[int, int]:
    """A few characters more on both sides, within the line: which of the pluses it is."""
    begin = max(text.rfind("\n", 0, first) + 1, first - 16)
    end = text.find("\n", last)
    return begin, min(end if end >= 0 else len(text), last + 16)


def structs(source: str) -> list[str]:
    """The operations of a header."""
    return re.findall(r"^struct (\w+) : \w+ \{(?=\n    static constexpr Spec)", source, re.M)


def cpp(isa: str = "avx2") -> Iterator[Mutant]:
    """Every mutant of csrc/ops, of the kernels that go with it, and of those of int8: of what `isa` has of these."""
    yield from _int8(isa)
    for file in (*sorted(CPP.glob("*.hpp")), *KERNELS):
        if file.name in CPP_REST:
            continue
        source = file.read_text(encoding="utf-8")
        text = _masked(source)
        declared = structs(source if file not in KERNELS else KERNELS[file].read_text(encoding="utf-8"))
        for body in _bodies(text):
            if body.name in FASTER_ONLY:
                continue
            operations = (body.struct,) if body.struct in declared else tuple(declared)
            spec = re.search(rf"^struct {body.struct} : \w+ \{{\n *static constexpr Spec spec([^;]*);", source, re.M)
            channels = spec is not None and '.x = "NI"' in spec.group(1)
            name = body.name if body.struct in declared or not body.struct else f"{body.struct}.{body.name}"
            yield from _of_body(file, source, text, body, name, operations, channels)


def _of_body(
    file: Path, source: str, text: str, body: _Body, name: str, operations: tuple[str, ...], channels: bool
) -> Iterator[Mutant]:
    """Of one function. text: the source, masked."""
    for first, last, new in sorted(set(_cpp_edits(text, body.begin, body.end, channels))):
        begin, end = _around(source, first, last) if last - first < 16 else (first, last)
        old, now = source[begin:end], source[begin:first] + new + source[last:end]
        what = f"{_cut(old)} -> {_cut(now) or 'nothing'}"
        line = source.count("\n", 0, first) + 1
        yield Mutant(file, name, operations, line, what, source[:first] + new + source[last:])


def _int8(isa: str) -> Iterator[Mutant]:
    for file in INT8:
        source = file.read_text(encoding="utf-8")
        text = _masked(_of_this_set(source, isa))
        for body in _bodies(text):
            if body.name not in FASTER_ONLY_INT8:
                name = f"{body.struct}.{body.name}" if body.struct else body.name
                yield from _of_body(file, source, text, body, name, ("int8",), False)


# Python -----------------------------------------------------------------------------------------------------

OPERATORS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult}
COMPARISONS: dict[type, type] = {
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.BitAnd: ast.BitOr,
}
NAMES = {"max": "min", "argmax": "argmin", "minimum": "maximum", "sum": "mean", "mean": "sum", "add": "subtract"}
NAMES |= {"multiply": "add", "divide": "multiply"}


def _python_edits(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Breaks the tree, says where, and mends it again when asked for the next."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            kept, node.op = node.op, OPERATORS[type(node.op)]()
            yield node, "an operator"
            node.op = kept
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
            kept, node.op = node.op, ast.BitOr()
            yield node, "an operator"
            node.op = kept
        if isinstance(node, ast.Compare):
            kept_ops, node.ops = (
                node.ops,
                [COMPARISONS[type(op)]() if type(op) in COMPARISONS else op for op in node.ops],
            )
            if [*map(type, kept_ops)] != [*map(type, node.ops)]:
                yield node, "a comparison"
            node.ops = kept_ops
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            kept_value, node.value = node.value, 1 if node.value == 0 else 0 if node.value == 1 else node.value + 1
            yield node, "a number"
            node.value = kept_value
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            kept_name, node.attr = node.attr, NAMES[node.attr]
            yield node, "a function"
            node.attr = kept_name
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.where":
            node.args[1], node.args[2] = node.args[2], node.args[1]
            yield node, "the other way round"
            node.args[1], node.args[2] = node.args[2], node.args[1]
        for statements in (getattr(node, name, None) for name in ("body", "orelse")):
            yield from _statements(statements if isinstance(statements, list) else [])


def _statements(statements: list[ast.stmt]) -> Iterator[tuple[ast.AST, str]]:
    for place, statement in enumerate(statements):
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.Expr)) and not _is_text(statement):
            statements[place] = ast.copy_location(ast.Pass(), statement)
            yield statement, "left out"
            statements[place] = statement
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
            kept = statement.value
            statement.value = ast.UnaryOp(ast.USub(), kept)
            yield statement, "negated"
            statement.value = kept


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _python_functions(tree: ast.Module, declared: list[str]) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield tuple(declared), node
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and each.name not in FASTER_ONLY:
                    yield (node.name,), each


def python() -> Iterator[Mutant]:
    """Every mutant of src/fastnn/ops."""
    for file in sorted(PYTHON.glob("*.py")):
        if file.name in PYTHON_REST:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        declared = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        for operations, function in _python_functions(tree, declared):
            function.returns, kept = None, [argument.annotation for argument in function.args.args]
            for argument in function.args.args:  # no numbers of annotations
                argument.annotation = None
            assert len(kept) == len(function.args.args)
            for node, kind in _python_edits(function):
                what = f"{kind}: {_cut(ast.unparse(node))}"
                yield Mutant(file, function.name, operations, node.lineno, what, ast.unparse(tree))  # type: ignore[attr-defined]
