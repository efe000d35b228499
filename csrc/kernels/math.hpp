// exp, log, log1p, expm1, tanh, sigmoid, softplus and erf of vectors of Real. No loops, no buffers.
//
// Largest errors in units in the last place, measured over all float32 with FMA, and over 1.3 million random bit patterns and
// values near 0 with and without (tests/test_native.py states the bounds, and sweeps all float32 if asked to):
//
//                exp  log  log1p  expm1  tanh  sigmoid  softplus  erf
//     float32    1.1  0.8    1.5    1.7   2.5      2.4       2.0  2.6
//     float64    1.0  0.8    1.5    2.0   2.5      2.3       1.9  4.0
//
// Infinities, overflow, denormal results and NaN come out as IEEE 754 recommends. Whether a * b + c is fused
// is left to the instruction set; nothing here relies on it.
#pragma once

#include "simd.hpp"

namespace {

constexpr int kMantissa = kFloat ? 23 : 52;
constexpr Uint kBias = kFloat ? 127 : 1023;
// x + 1.5 * 2^mantissa rounds x to an integer and leaves it in the low bits.
constexpr Real kRounder = kFloat ? Real(12582912.0) : Real(6755399441055744.0);
constexpr Real kInfinity = Real(__builtin_inf());

FASTNN_INLINE V polynomial(V, Real last) { return broadcast(last); }
template <class... More>
FASTNN_INLINE V polynomial(V x, Real first, More... more) {  // first + x (second + x (...))
    return first + x * polynomial(x, more...);
}

// Whole numbers in two's complement, unsigned: those of a NaN overflow, which nothing reads and no type but this allows.
FASTNN_INLINE V two_to(VU n) { return (V)((n + kBias) << kMantissa); }                 // for normal results
FASTNN_INLINE V to_real(VU n) { return (V)(n + bits_as<Uint>(kRounder)) - kRounder; }  // |n| < 2^22

// x = n ln 2 + r, |r| <= ln 2 / 2. ln 2 in two pieces, the first with zeros at the end so that n * piece is
// exact: Cephes expf, fdlibm e_exp.c.
FASTNN_INLINE VU reduce_by_ln2(V x, V& r) {
    const V t = x * Real(1.4426950408889634074) + kRounder;
    const V n = t - kRounder;
    r = x - n * Real(kFloat ? 0.693359375 : 6.93147180369123816490e-01);
    r = r - n * Real(kFloat ? -2.12194440e-4 : 1.90821492927058770002e-10);
    return (VU)t - bits_as<Uint>(kRounder);
}

// e^r - 1 for |r| <= ln 2 / 2: r + r^2 Q(r), Q the Chebyshev interpolant of (e^r - 1 - r) / r^2 there.
// Relative error 2.3e-8 (degree 4) and 4.8e-19 (degree 10).
FASTNN_INLINE V expm1_reduced(V r) {
    V q;
    if constexpr (kFloat)
        q = polynomial(r, Real(0.5), Real(0.16666576989698776), Real(0.041666554617204574),
                       Real(0.0083631790527225774), Real(0.0013926183587713495));
    else
        q = polynomial(r, Real(0.5), Real(0.16666666666666671), Real(0.04166666666666667),
                       Real(0.0083333333333261351), Real(0.0013888888888883748), Real(0.00019841269874820625),
                       Real(2.4801587325547741e-5), Real(2.7557255400206424e-6), Real(2.7557273643110295e-7),
                       Real(2.5105217004720745e-8), Real(2.0914686968086877e-9));
    return r + r * r * q;
}

FASTNN_INLINE V exp(V x) {
    // Beyond these the result is 0 or infinity all the same, and n stays small.
    x = min(broadcast(kFloat ? 89 : 710), max(broadcast(kFloat ? -104 : -746), x));
    V r;
    const VU n = reduce_by_ln2(x, r);
    // In two steps: 2^n itself may be denormal or infinite. Halved as a positive number: AVX2 has no 64-bit arithmetic
    // shift.
    const VU half = ((n + 2048) >> 1) - 1024;
    return (1 + expm1_reduced(r)) * two_to(half) * two_to(n - half);
}

FASTNN_INLINE V expm1(V x) {
    x = min(broadcast(kFloat ? 89 : 710), max(broadcast(kFloat ? -30 : -50), x));  // below: -1
    V r;
    const VU n = reduce_by_ln2(x, r);
    const V h = two_to(n - 1);  // half of 2^n, which may overflow
    return 2 * (h * expm1_reduced(r) + (h - Real(0.5)));
}

// fdlibm e_log.c and e_logf.c (Sun Microsystems 1993; float by Ian Lance Taylor): k ln 2 + log(1 + f) with
// sqrt(1/2) < 1 + f < sqrt(2), s = f / (2 + f).
FASTNN_INLINE V log(V x) {
    const VI denormal = x < (kFloat ? Real(1.17549435e-38) : Real(2.2250738585072014e-308));
    const Real lift = kFloat ? Real(33554432.0) : Real(18014398509481984.0);  // 2^25, 2^54
    const VU bits = (VU)select(denormal, x * lift, x);
    const Uint sqrt_half = kFloat ? Uint(0x3f3504f3) : Uint(0x3fe6a09e00000000);
    const Uint one = bits_as<Uint>(Real(1));
    const VU shifted = bits + (one - sqrt_half);
    // Logical shift: the sign bit is 0 for every x > 0.
    const V k = to_real((shifted >> kMantissa) - kBias) - select(denormal, broadcast(kFloat ? 25 : 54), V{});
    const V f = (V)((shifted & ((Uint(1) << kMantissa) - 1)) + sqrt_half) - 1;
    const V s = f / (2 + f), z = s * s, w = z * z;
    V odd, even;
    if constexpr (kFloat) {
        odd = polynomial(w, Real(0.66666662693), Real(0.28498786688));
        even = polynomial(w, Real(0.40000972152), Real(0.24279078841));
    } else {
        odd = polynomial(w, Real(6.666666666666735130e-01), Real(2.857142874366239149e-01),
                         Real(1.818357216161805012e-01), Real(1.479819860511658591e-01));
        even = polynomial(w, Real(3.999999999940941908e-01), Real(2.222219843214978396e-01),
                          Real(1.531383769920937332e-01));
    }
    const V half_square = Real(0.5) * f * f;
    const Real ln2_high = kFloat ? Real(6.9313812256e-01) : Real(6.93147180369123816490e-01);
    const Real ln2_low = kFloat ? Real(9.0580006145e-06) : Real(1.90821492927058770002e-10);
    V result = s * (half_square + (z * odd + w * even)) + k * ln2_low - half_square + f + k * ln2_high;
    result = select(x < kInfinity, result, x);                     // infinity and NaN
    result = select(x == Real(0), broadcast(-kInfinity), result);  // -0 too
    return select(x < Real(0), broadcast(Real(__builtin_nan(""))), result);
}

// log(u) + ((1 + x) - u) / u for u = 1 + x rounded: the second term returns what the rounding lost (Kahan).
FASTNN_INLINE V log1p(V x) {
    const V u = 1 + x;
    const V lost = (x - (u - 1)) / u;
    // u = infinity: infinity - infinity; u = 0: 0 / 0.
    return log(u) + select((u < kInfinity) & (u > Real(0)), lost, V{});
}

// -t / (t + 2), t = e^(-2|x|) - 1: no cancellation, no overflow. As in expm1, but for what numbers from -20 (-40) to 0
// do not need: n is small, so ln 2 in one piece loses 0.05 ulp, and 2^n can be neither denormal nor infinite.
FASTNN_INLINE V tanh(V x) {
    const V y = -2 * min(broadcast(kFloat ? 10 : 20), abs(x));  // 1 from 9.01 (19.06) on
    const V shifted = y * Real(1.4426950408889634074) + kRounder;
    const V n = shifted - kRounder;
    const V power = (V)(((VU)shifted << kMantissa) + bits_as<Uint>(Real(1)));  // 2^n
    const V t = power * expm1_reduced(y - n * Real(0.69314718055994530942)) + (power - 1);
    return copysign(t / (t + 2), x);
}

// e = e^-|x| <= 1: never overflows, and keeps its digits where the result is denormal.
FASTNN_INLINE V sigmoid(V x) {
    const V e = exp(-abs(x));
    return select(x < Real(0), e, broadcast(1)) / (1 + e);
}

FASTNN_INLINE V softplus(V x) { return max(V{}, x) + log1p(exp(-abs(x))); }

// float64: W. J. Cody, Math. Comp. 23 (1969), 631-637, coefficients of CALERF (netlib specfun).
FASTNN_INLINE V erf_cody(V x) {
    const V y = abs(x);
    // |x| <= 0.46875
    const V t = y * y;
    const V near =
        x *
        polynomial(t, Real(3.20937758913846947e03), Real(3.77485237685302021e02),
                   Real(1.13864154151050156e02), Real(3.16112374387056560e00), Real(1.85777706184603153e-1)) /
        polynomial(t, Real(2.84423683343917062e03), Real(1.28261652607737228e03),
                   Real(2.44024637934444173e02), Real(2.36012909523441209e01), Real(1));
    // 0.46875 < |x| <= 4
    const V mid = min(broadcast(4), y);
    const V middle =
        polynomial(mid, Real(1.23033935479799725e03), Real(2.05107837782607147e03),
                   Real(1.71204761263407058e03), Real(8.81952221241769090e02), Real(2.98635138197400131e02),
                   Real(6.61191906371416295e01), Real(8.88314979438837594e00), Real(5.64188496988670089e-1),
                   Real(2.15311535474403846e-8)) /
        polynomial(mid, Real(1.23033935480374942e03), Real(3.43936767414372164e03),
                   Real(4.36261909014324716e03), Real(3.29079923573345963e03), Real(1.62138957456669019e03),
                   Real(5.37181101862009858e02), Real(1.17693950891312499e02), Real(1.57449261107098347e01),
                   Real(1));
    // |x| > 4; beyond 6 erfc is under half an ulp of 1
    const V far = min(broadcast(6), max(broadcast(4), y));
    const V inverse = 1 / (far * far);
    const V tail = inverse *
                   polynomial(inverse, Real(6.58749161529837803e-4), Real(1.60837851487422766e-2),
                              Real(1.25781726111229246e-1), Real(3.60344899949804439e-1),
                              Real(3.05326634961232344e-1), Real(1.63153871373020978e-2)) /
                   polynomial(inverse, Real(2.33520497626869185e-3), Real(6.05183413124413191e-2),
                              Real(5.27905102951428412e-1), Real(1.87295284992346725e00),
                              Real(2.56852019228982242e00), Real(1));
    const V outer = (Real(5.6418958354775628695e-1) - tail) / far;  // 1 / sqrt(pi) - tail
    const V v = min(broadcast(6), y);
    const V complement = exp(-(v * v)) * select(y > Real(4), outer, middle);
    return select(y > Real(0.46875), copysign(1 - complement, x), near);
}

FASTNN_INLINE V erf(V x) {
    if constexpr (!kFloat) return erf_cody(x);
    // |x| <= 1: x P(x^2), relative error 1.3e-9. Else 1 - exp(Q(|x|)), Q = log erfc on [1, 4] with an error
    // below 4.7e-10 in erfc; erfc(4) = 1.5e-8 is under half an ulp of 1. Both Chebyshev interpolants.
    const V y = min(broadcast(4), abs(x));
    const V near = x * polynomial(y * y, Real(1.12837916585), Real(-0.376126266667), Real(0.112835947152),
                                  Real(-0.0268542120106), Real(0.00518908742343), Real(-0.000801686428717),
                                  Real(7.87587506269e-5));
    const V far =
        1 - exp(polynomial(y, Real(0.00032147102638), Real(-1.13023920142), Real(-0.631815699582),
                           Real(-0.110090197464), Real(0.0264270437721), Real(-0.00476171723581),
                           Real(0.000597264433142), Real(-4.61129139062e-5), Real(1.63993801648e-6)));
    return select(y > Real(1), copysign(far, x), near);
}

#define FASTNN_FUNCTIONS(X) X(exp) X(log) X(log1p) X(expm1) X(tanh) X(sigmoid) X(softplus) X(erf)

template <V (*F)(V)>
void function_loop(size_t n, const Real* x, Real* out) {
    for_vectors(n, [&](size_t i, auto lanes) { store(out + i, F(load(x + i, lanes)), lanes); });
}

}  // namespace
