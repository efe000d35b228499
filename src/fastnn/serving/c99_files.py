"""The three files of a network in C: what each offers and says. What the layers compute is not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn._version import __version__
from fastnn.formulas import activations
from fastnn.metrics.answers import classifies
from fastnn.serving.c99_ops import loop
from fastnn.serving.c99_text import Source, class_names, literal, named, quoted, rows_of
from fastnn.serving.frozen import Frozen

Array = np.ndarray


@dataclass(frozen=True)
class Facts:
    """What the head of model.c says of itself. error: beside max(1, |y|), in NumPy's float32."""

    flash: int
    stack: int
    error: float
    rows: int
    dtype: str
    tolerance: float


@dataclass(frozen=True)
class Offer:
    """Which functions there are. classes: their names, where one of them is the answer or each is one by itself."""

    name: str
    stem: str
    inputs: int
    outputs: int
    link: str | None
    linked: bool
    scaling: tuple[tuple[float, ...], float] | None
    classes: Sequence[str] | None
    one: bool  # of these classes is the answer; else each has one

    @classmethod
    def of(cls, frozen: Frozen, name: str, stem: str) -> Offer:
        plan, loss = frozen.plan, frozen.loss
        known = loss is not None and len(plan.output_shape) == 1 and classifies(loss)
        count = 2 if frozen.one_value and plan.outputs == 1 else plan.outputs
        classes = class_names(frozen.classes, count) if known else None
        return cls(
            *(name, stem, plan.inputs, plan.outputs, frozen.link, frozen.linked, frozen.scaling, classes),
            one_of_many(frozen),
        )

    @property
    def probabilities(self) -> int:
        """How many `model_probabilities` gives; 0: there are none."""
        both = self.link == "sigmoid" and self.outputs == 1
        return 0 if self.link is None else 2 if both else self.outputs

    def link_lines(self, source: Source) -> list[str]:
        """The function that makes probabilities of the values y, where there is one."""
        if self.link is None:
            return []
        if self.link == "softmax":
            source.needed.add("softmax_of")
            body = f"@_softmax_of(y, {self.outputs});"
        else:
            body = loop(self.outputs, f"y[j] = {source.activated(activations.get('sigmoid'), 'y[j]')};")
        return [f"static void @_link(float *y) {{\n    {body}\n}}"]


def one_of_many(frozen: Frozen) -> bool:
    """Whether a row has one class: not where each output of a sigmoid is one by itself."""
    if frozen.loss is None or len(frozen.plan.output_shape) > 1 or not classifies(frozen.loss):
        return False
    return not (frozen.one_value and frozen.plan.outputs > 1)


# model.c -----------------------------------------------------------------------------------------------------------


def code(offer: Offer, facts: Facts, source: Source, link: list[str]) -> str:
    parts = [_head(offer, facts), _beginning(offer), source.text(), *link, _predict(offer)]
    parts += [_probabilities(offer)] if offer.probabilities else []
    parts += [_classify(offer) if offer.one else _labels(offer), _names(offer)] if offer.classes else []
    return named("\n\n".join(parts), offer.name) + "\n"


def _head(offer: Offer, facts: Facts) -> str:
    bytes_ = (
        "weights are bytes with a scale a column, rows are rounded to bytes as they come"
        if (facts.dtype == "int8")
        else "all in float"
    )
    return f"""\
/* A neural network of {offer.inputs} inputs and {offer.outputs} outputs, written by fastnn {__version__}.

   {facts.dtype}: {bytes_}.
   Flash: {facts.flash} bytes of const data, and the code.
   Stack: about {facts.stack} bytes. No heap, no static variables: any number of threads may call it at a time.
   Worst error: {facts.error:.1e} of max(1, |y|) beside the Python model's answers, over the {facts.rows} rows of
   {offer.stem}_test.c, with these sums in NumPy; {offer.stem}_test prints that of your compiler.
   C99 or C++; needs <stdint.h> and no library.

   $_CONST: how tables are declared; -D'$_CONST=const __flash' leaves them in the flash of an AVR. */"""


def _beginning(offer: Offer) -> str:
    return f"""\
#include "{offer.stem}.h"

#include <stdint.h>

#ifndef $_CONST
#define $_CONST const
#endif

/* GCC takes short loops apart before it makes vectors of them, and then makes none. */
#if defined(__GNUC__) && !defined(__clang__)
#define $_ROLLED _Pragma("GCC unroll 1")
#else
#define $_ROLLED
#endif"""


def _predict(offer: Offer) -> str:
    lines = ["@_network(x, y);"]
    if offer.linked:
        lines.append("@_link(y);")
    if offer.scaling is not None:
        shift, scale = offer.scaling
        values = rows_of(np.array(shift), "double", "").rstrip(",").replace("\n", " ")
        lines.append(f"static $_CONST double shift[{len(shift)}] = {{{values}}};")
        width = len(shift)
        at = "j" if width == offer.outputs else f"j % {width}"
        lines.append(loop(offer.outputs, f"y[j] = (float)(shift[{at}] + {literal(scale, 'double')} * (double)y[j]);"))
    return _function("void @_predict(const float *x, float *y)", lines)


def _probabilities(offer: Offer) -> str:
    if offer.probabilities == offer.outputs:
        return _function("void @_probabilities(const float *x, float *y)", ["@_network(x, y);", "@_link(y);"])
    lines = ["float z[1];", "@_network(x, z);", "y[0] = -z[0];", "@_link(y);", "y[1] = z[0];", "@_link(y + 1);"]
    return _function("void @_probabilities(const float *x, float *y)", lines)


def _classify(offer: Offer) -> str:
    lines = [f"float z[{offer.outputs}];", "@_network(x, z);"]
    if offer.outputs == 1 and offer.link == "sigmoid":
        lines.append("return z[0] > 0.0f;")
    else:
        lines += [
            "int best = 0;",
            f"for (int j = 1; j < {offer.outputs}; ++j)",
            "    if (z[j] > z[best] || (z[j] != z[j] && z[best] == z[best])) best = j;",
            "return best;",
        ]
    return _function("int @_classify(const float *x)", lines)


def _labels(offer: Offer) -> str:
    lines = [f"float z[{offer.outputs}];", "@_network(x, z);", loop(offer.outputs, "labels[j] = z[j] > 0.0f;")]
    return _function("void @_labels(const float *x, int *labels)", lines)


def _names(offer: Offer) -> str:
    assert offer.classes is not None
    names = "\n".join(f"    {quoted(name)}," for name in offer.classes)
    return f"const char *const @_classes[{len(offer.classes)}] = {{\n{names}\n}};"


def _function(head: str, lines: list[str]) -> str:
    return "\n".join([f"{head} {{", *(f"    {line}" for line in lines), "}"])


# model.h -----------------------------------------------------------------------------------------------------------


def header(offer: Offer) -> str:
    sizes = [f"#define $_INPUTS {offer.inputs}", f"#define $_OUTPUTS {offer.outputs}"]
    declared = [
        "/* y[OUTPUTS]: what predict gives in Python for the row x[INPUTS]. x and y may not overlap. */",
        "void @_predict(const float *x, float *y);",
    ]
    if offer.probabilities:
        sizes.append(f"#define $_PROBABILITIES {offer.probabilities}")
        declared += ["", "/* y[PROBABILITIES]. */", "void @_probabilities(const float *x, float *y);"]
    if offer.classes:
        sizes.append(f"#define $_CLASSES {len(offer.classes)}")
        declared += [""]
        if offer.one:
            declared += ["/* An index into @_classes. */", "int @_classify(const float *x);"]
        else:
            declared += ["/* labels[CLASSES]: 1 for each that holds. */", "void @_labels(const float *x, int *labels);"]
        declared += [f"extern const char *const @_classes[{len(offer.classes)}];  /* UTF-8 */"]
    lines = [
        f"/* A neural network, written by fastnn {__version__}: see {offer.stem}.c. */",
        "#ifndef $_H_",
        "#define $_H_",
        "",
        *sizes,
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *declared,
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif  /* $_H_ */",
    ]
    return named("\n".join(lines), offer.name) + "\n"


# model_test.c --------------------------------------------------------------------------------------------------------


def trial(offer: Offer, facts: Facts, x: Array, y: Array, probabilities: Array | None, classes: Array | None) -> str:
    """A main that returns 0 where each row has the answers that it has in Python."""
    rows = len(x)
    tables = [
        f"static const float @_rows[{rows}][{offer.inputs}] = {_nested(x)};",
        f"static const double @_answers[{rows}][{offer.outputs}] = {_nested(y, 'double')};",
    ]
    lines = [
        f"float y[{max(offer.outputs, offer.probabilities)}];",
        "double worst = 0.0;",
        "int wrong = 0;",
        loop(rows, "{", "i"),
        "    @_predict(@_rows[i], y);",
        f"    worst = @_worse(y, @_answers[i], {offer.outputs}, worst);",
    ]
    if probabilities is not None:
        count = offer.probabilities
        tables.append(f"static const double @_chances[{rows}][{count}] = {_nested(probabilities, 'double')};")
        lines += ["    @_probabilities(@_rows[i], y);", f"    worst = @_worse(y, @_chances[i], {count}, worst);"]
    if classes is not None:
        known = ", ".join(map(str, classes.tolist()))
        tables.append(f"static const int @_known[{rows}] = {{{known}}};  /* -1: two are as good */")
        lines.append("    if (@_known[i] >= 0 && @_classify(@_rows[i]) != @_known[i]) ++wrong;")
    lines += [
        "}",
        f'printf("worst error %.3g of max(1, |y|), %d wrong classes, over {rows} rows\\n", worst, wrong);',
        f"return worst <= {literal(facts.tolerance, 'double')} && wrong == 0 ? 0 : 1;",
    ]
    head = f"""\
/* Whether {offer.stem}.c computes what the Python model did. Returns 0 where each answer is within
   {facts.tolerance:.1e} of max(1, |y|). Written by fastnn {__version__}:
   cc {offer.stem}_test.c {offer.stem}.c -o test && ./test */
#include "{offer.stem}.h"

#include <stdio.h>"""
    worse = """\
static double @_worse(const float *y, const double *answer, int n, double worst) {
    for (int j = 0; j < n; ++j) {
        const double size = answer[j] < 0.0 ? -answer[j] : answer[j];
        const double error = (double)y[j] < answer[j] ? answer[j] - (double)y[j] : (double)y[j] - answer[j];
        const double here = error / (size > 1.0 ? size : 1.0);
        worst = here <= worst ? worst : here == here ? here : 1e300;  /* a NaN is the worst */
    }
    return worst;
}"""
    parts = [head, *tables, worse, _function("int main(void)", lines)]
    return named("\n\n".join(parts), offer.name) + "\n"


def _nested(values: Array, kind: str = "float") -> str:
    rows = ",\n".join(f"    {{\n{rows_of(row, kind, '        ')}\n    }}" for row in values)
    return f"{{\n{rows}\n}}"
