"""exp, tanh, erf, ... of float as C99 without math.h, and the activations made of them. No walks, no files.

The formulas are those of csrc/kernels/math.hpp and activations.hpp, a float at a time and without a branch: a loop over
them becomes vectors with plain -O3. NaN stays NaN. Largest errors over every 257th float32, in units in the last place,
with FMA and without: exp 1.1, expm1 1.7, tanh 2.5, erf 2.5, log1p 1.3; tests/test_c99.py holds bounds on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Function(NamedTuple):
    """A static function: what it needs, its C text. `@` stands for the prefix of all names."""

    needs: tuple[str, ...]
    text: str


def _sum_of(name: str, term: str) -> Function:
    """Of a term of x[i]."""
    text = """\
/* Eight sums at once: vectors, and fewer roundings in a row. */
static inline float @_NAME(const float *x, int n) {
    float s[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) s[j] += FIRST;
    for (; i < n; ++i) s[i & 7] += TERM;
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}"""
    first = term.replace("[i]", "[i + j]")
    return Function((), text.replace("NAME", name).replace("FIRST", first).replace("TERM", term))


MATH: dict[str, Function] = {  # in the order in which C has to see them
    "bits": Function((), "typedef union { float f; uint32_t u; } @_bits;"),
    "abs": Function(
        ("bits",),
        """\
static inline float @_abs(float x) {
    @_bits b;
    b.f = x;
    b.u &= 0x7fffffffu;
    return b.f;
}""",
    ),
    "copysign": Function(
        ("bits",),
        """\
static inline float @_copysign(float a, float x) {
    @_bits b, s;
    b.f = a;
    s.f = x;
    b.u = (b.u & 0x7fffffffu) | (s.u & 0x80000000u);
    return b.f;
}""",
    ),
    "select": Function(
        ("bits",),
        """\
/* c ? a : b, c being 0 or 1, without a branch: GCC moves arithmetic into branches, and makes no vectors of what may
   trap there. */
static inline float @_select(int c, float a, float b) {
    @_bits x, y;
    const uint32_t m = 0u - (uint32_t)c;
    x.f = a;
    y.f = b;
    x.u = (x.u & m) | (y.u & ~m);
    return x.f;
}""",
    ),
    "two_to": Function(
        ("bits",),
        """\
/* 2^n, for results that are normal. */
static inline float @_two_to(int32_t n) {
    @_bits b;
    b.u = (uint32_t)(n + 127) << 23;
    return b.f;
}""",
    ),
    "whole": Function(
        ("select",),
        """\
/* An integer next to t, -200 <= t <= 200; of NaN -200, not an undefined conversion. */
static inline int32_t @_whole(float t) {
    return (int32_t)(@_select(t > -200.0f, t, -200.0f) + 200.5f) - 200;
}""",
    ),
    "expm1_reduced": Function(
        (),
        """\
/* e^r - 1 for |r| <= ln 2 / 2: r + r^2 Q(r), Q the Chebyshev interpolant of (e^r - 1 - r) / r^2; error 2.3e-8. */
static inline float @_expm1_reduced(float r) {
    const float q = 0.5f + r * (0.16666576989698776f + r * (0.041666554617204574f
        + r * (0.0083631790527225774f + r * 0.0013926183587713495f)));
    return r + r * r * q;
}""",
    ),
    "exp": Function(
        ("select", "two_to", "whole", "expm1_reduced"),
        """\
/* x = n ln 2 + r; ln 2 in two pieces, of which n times the first is exact (Cephes expf). 2^n in two steps: it may be
   denormal or infinite. */
static inline float @_exp(float x) {
    const float c = @_select(x > 89.0f, 89.0f, @_select(x < -104.0f, -104.0f, x));
    const int32_t n = @_whole(c * 1.44269504f), half = ((n + 2048) >> 1) - 1024;
    const float r = (c - (float)n * 0.693359375f) - (float)n * -2.12194440e-4f;
    return (1.0f + @_expm1_reduced(r)) * @_two_to(half) * @_two_to(n - half);
}""",
    ),
    "expm1": Function(
        ("select", "two_to", "whole", "expm1_reduced"),
        """\
static inline float @_expm1(float x) {
    const float c = @_select(x > 89.0f, 89.0f, @_select(x < -30.0f, -30.0f, x));
    const int32_t n = @_whole(c * 1.44269504f);
    const float r = (c - (float)n * 0.693359375f) - (float)n * -2.12194440e-4f;
    const float h = @_two_to(n - 1);
    return 2.0f * (h * @_expm1_reduced(r) + (h - 0.5f));
}""",
    ),
    "log1p": Function(
        ("bits",),
        """\
/* For 0 <= x <= 1: log u + (x - (u - 1)) / u for u = 1 + x rounded (Kahan); log u as in fdlibm's e_logf.c. */
static inline float @_log1p(float x) {
    const float u = 1.0f + x;
    @_bits b;
    b.f = u;
    const uint32_t shifted = b.u + (0x3f800000u - 0x3f3504f3u);
    const float k = (float)((int32_t)(shifted >> 23) - 127);
    b.u = (shifted & 0x007fffffu) + 0x3f3504f3u;
    const float f = b.f - 1.0f, s = f / (2.0f + f), z = s * s, w = z * z, h = 0.5f * f * f;
    const float odd = 0.66666662693f + w * 0.28498786688f, even = 0.40000972152f + w * 0.24279078841f;
    return s * (h + (z * odd + w * even)) + k * 9.0580006145e-06f - h + f + k * 6.9313812256e-01f
        + (x - (u - 1.0f)) / u;
}""",
    ),
    "tanh": Function(
        ("abs", "copysign", "select", "two_to", "whole", "expm1_reduced"),
        """\
/* -t / (t + 2), t = e^(-2|x|) - 1; 1 from 9.01 on. */
static inline float @_tanh(float x) {
    const float v = @_abs(x), y = -2.0f * @_select(v > 10.0f, 10.0f, v);
    const int32_t n = @_whole(y * 1.44269504f);
    const float power = @_two_to(n);
    const float t = power * @_expm1_reduced(y - (float)n * 0.69314718f) + (power - 1.0f);
    return @_copysign(t / (t + 2.0f), x);
}""",
    ),
    "erf": Function(
        ("abs", "copysign", "select", "exp"),
        """\
/* |x| <= 1: x P(x^2), error 1.3e-9. Else 1 - exp(Q(|x|)), Q = log erfc on [1, 4], error 4.7e-10 in erfc; erfc(4) is
   under half a unit of 1. Chebyshev interpolants. */
static inline float @_erf(float x) {
    const float v = @_abs(x), y = @_select(v > 4.0f, 4.0f, v), s = y * y;
    const float near = x * (1.12837916585f + s * (-0.376126266667f + s * (0.112835947152f + s * (-0.0268542120106f
        + s * (0.00518908742343f + s * (-0.000801686428717f + s * 7.87587506269e-5f))))));
    const float far = 1.0f - @_exp(0.00032147102638f + y * (-1.13023920142f + y * (-0.631815699582f
        + y * (-0.110090197464f + y * (0.0264270437721f + y * (-0.00476171723581f + y * (0.000597264433142f
        + y * (-4.61129139062e-5f + y * 1.63993801648e-6f))))))));
    return @_select(y > 1.0f, @_copysign(far, x), near);
}""",
    ),
    "rsqrt": Function(
        ("bits",),
        """\
/* 1 / sqrt(v) of v > 0: the famous first guess, and Newton's steps, each of which doubles its 3.4 % of digits. */
static inline float @_rsqrt(float v) {
    const float h = 0.5f * v;
    @_bits b;
    b.f = v;
    b.u = 0x5f3759dfu - (b.u >> 1);
    float r = b.f;
    for (int k = 0; k < 4; ++k) r = r + r * (0.5f - (h * r) * r);
    return r;
}""",
    ),
    "sum": _sum_of("sum", "x[i]"),
    "sum_of_squares": _sum_of("sum_of_squares", "x[i] * x[i]"),
    "softmax_of": Function(
        ("exp", "sum"),
        """\
static inline void @_softmax_of(float *a, int n) {
    float m = a[0];
    for (int j = 1; j < n; ++j) m = a[j] > m ? a[j] : m;
    for (int j = 0; j < n; ++j) a[j] = @_exp(a[j] - m);
    const float t = @_sum(a, n);
    for (int j = 0; j < n; ++j) a[j] = a[j] / t;
}""",
    ),
    "quantised": Function(
        ("bits", "select"),
        """\
/* q = x / scale rounded to -127 .. 127; the scale is returned: 1 / 127 of the largest |x|, found as a whole number, of
   whose maxima compilers make vectors. A NaN is the largest of all, and makes all answers NaN. */
static inline float @_quantised(const float *x, int8_t *q, int n) {
    int32_t most = 0;
    for (int i = 0; i < n; ++i) {
        @_bits b;
        b.f = x[i];
        const int32_t size = (int32_t)(b.u & 0x7fffffffu);
        most = size > most ? size : most;
    }
    @_bits b;
    b.u = (uint32_t)most;
    const float inverse = b.f > 1e-30f ? 127.0f / b.f : 0.0f;
    for (int i = 0; i < n; ++i) {
        const float t = x[i] * inverse;  /* 127 and a rounding at most */
        q[i] = (int8_t)((int32_t)(@_select(t > -127.0f, t, -127.0f) + 128.5f) - 128);
    }
    return b.f / 127.0f;
}""",
    ),
}


class Expression(NamedTuple):
    """What an activation is in C: statements and a value of z and alpha, and what they need."""

    needs: tuple[str, ...]
    value: str
    before: str = ""


# tanh(softplus(z)) = (u^2 - 1) / (u^2 + 1), u = 1 + e^z, written with w = e^-|z| so that nothing overflows
_MISH = "const float w = @_exp(-@_abs(z)), n = @_select(z < 0.0f, w * (w + 2.0f), 1.0f + 2.0f * w);"

# One line an activation of formulas/activations.py, which has the sources; identity is no function.
ACTIVATIONS: dict[str, Expression] = {
    "identity": Expression((), "z"),
    "binary_step": Expression((), "z >= 0.0f ? 1.0f : z < 0.0f ? 0.0f : z"),
    "sigmoid": Expression(
        ("abs", "select", "exp"), "@_select(z < 0.0f, e, 1.0f) / (1.0f + e)", "const float e = @_exp(-@_abs(z));"
    ),
    "tanh": Expression(("tanh",), "@_tanh(z)"),
    "relu": Expression((), "z < 0.0f ? 0.0f : z"),
    "leaky_relu": Expression(("select",), "@_select(z > 0.0f, z, alpha * z)"),
    "elu": Expression(
        ("select", "expm1"), "@_select(z > 0.0f, z, e)", "const float e = alpha * @_expm1(@_select(z > 0.0f, 0.0f, z));"
    ),
    "selu": Expression(
        ("select", "expm1"),
        "1.05070098735548f * @_select(z > 0.0f, z, e)",
        "const float e = 1.67326324235438f * @_expm1(@_select(z > 0.0f, 0.0f, z));",
    ),
    "softplus": Expression(
        ("abs", "select", "exp", "log1p"), "@_select(z < 0.0f, 0.0f, z) + @_log1p(@_exp(-@_abs(z)))"
    ),
    "gelu": Expression(("erf",), "0.5f * z * (1.0f + @_erf(z * 0.70710678118654752f))"),
    "gelu_tanh": Expression(
        ("tanh",), "0.5f * z * (1.0f + @_tanh(0.79788456080286536f * z * (1.0f + 0.044715f * z * z)))"
    ),
    "silu": Expression(
        ("abs", "select", "exp"), "z * (@_select(z < 0.0f, e, 1.0f) / (1.0f + e))", "const float e = @_exp(-@_abs(z));"
    ),
    "mish": Expression(("abs", "select", "exp"), "z * (n / (n + 2.0f * @_select(z < 0.0f, 1.0f, w * w)))", _MISH),
    "hard_sigmoid": Expression((), "t < 0.0f ? 0.0f : t > 1.0f ? 1.0f : t", "const float t = z / 6.0f + 0.5f;"),
    "hard_tanh": Expression((), "z < -1.0f ? -1.0f : z > 1.0f ? 1.0f : z"),
    "softsign": Expression(("abs",), "z / (1.0f + @_abs(z))"),
    "exponential": Expression(("exp",), "@_exp(z)"),
}


def activation(name: str, takes_alpha: bool) -> str:
    """The function of an activation: `@_act_relu(z)`, or `@_act_elu(z, alpha)`; @_tanh by itself is the mathematics."""
    made = ACTIVATIONS[name]
    arguments = "float z, float alpha" if takes_alpha else "float z"
    before = f"    {made.before}\n" if made.before else ""
    return f"static inline float @_act_{name}({arguments}) {{\n{before}    return {made.value};\n}}"


def functions(needed: Iterable[str]) -> list[str]:
    """Those functions and all that they need, each once, in order."""
    wanted = set(needed)
    for name in reversed(MATH):  # who needs stands behind what is needed
        if name in wanted:
            wanted.update(MATH[name].needs)
    return [function.text for name, function in MATH.items() if name in wanted]
