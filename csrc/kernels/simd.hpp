// Vectors of Real, as wide as the file is compiled for: compiler vector extensions and a few intrinsics. No
// formulas.
//
// Compiled once per instruction set and float type: FASTNN_VECTOR_BYTES, FASTNN_FLOAT (1: float32, 0:
// float64). Everything that is included by table.cpp lives in an anonymous namespace, and nothing of std:: is
// used: a weak symbol compiled for AVX-512 must never be linked into code that runs without it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif
// At most one: the intrinsics for whole vectors. None: 64-byte vectors that the compiler lowers to AVX2, or NEON.
#if FASTNN_VECTOR_BYTES == 64 && defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define FASTNN_AVX512 1
#elif FASTNN_VECTOR_BYTES == 32 && defined(__AVX2__)
#define FASTNN_AVX2 1
#elif FASTNN_VECTOR_BYTES == 16 && defined(__SSE2__)
#define FASTNN_SSE 1
#endif

#define FASTNN_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define FASTNN_UNROLL _Pragma("unroll")
#define FASTNN_UNROLL_BY_4 _Pragma("unroll 4")
#else
#define FASTNN_UNROLL _Pragma("GCC unroll 16")
#define FASTNN_UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif

namespace {

constexpr bool kFloat = FASTNN_FLOAT;
template <bool, class A, class>
struct Pick {
    using type = A;
};
template <class A, class B>
struct Pick<false, A, B> {
    using type = B;
};
using Real = Pick<kFloat, float, double>::type;
using Int = Pick<kFloat, int32_t, int64_t>::type;  // as wide as Real
using Uint = Pick<kFloat, uint32_t, uint64_t>::type;

constexpr size_t W = FASTNN_VECTOR_BYTES / sizeof(Real);
typedef Real V __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef Int VI __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
typedef Uint VU __attribute__((vector_size(FASTNN_VECTOR_BYTES)));

// How much of a vector is meant. One expression, `f(i, lanes)`, then serves the body (Full) and the tail
// (Part).
struct Full {
    static constexpr size_t n = W;
};
struct Part {
    size_t n;  // 1 .. W-1
};

template <class To, class From>
FASTNN_INLINE To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

FASTNN_INLINE V broadcast(Real x) { return x - V{}; }  // x - 0, not x + 0: that turns -0 into 0
FASTNN_INLINE VI broadcast_int(Int x) { return x - VI{}; }
FASTNN_INLINE VU broadcast_uint(Uint x) { return x - VU{}; }
FASTNN_INLINE V select(VI mask, V yes, V no) { return mask ? yes : no; }

// Loads and stores -----------------------------------------------------------------------------------------

FASTNN_INLINE V load(const Real* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
FASTNN_INLINE void store(Real* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

#if FASTNN_AVX2
// A window of W lanes that starts W - n into this has its first n lanes set.
alignas(64) const int32_t kLanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#endif

// The first n lanes, the others 0. Memory beyond them is not touched.
FASTNN_INLINE V load_part(const Real* p, size_t n) {
#if FASTNN_AVX512
    if constexpr (kFloat)
        return (V)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
    else
        return (V)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
#elif FASTNN_AVX2
    const __m256i mask =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLanes + 8 - n * sizeof(Real) / 4));
    if constexpr (kFloat)
        return (V)_mm256_maskload_ps(reinterpret_cast<const float*>(p), mask);
    else
        return (V)_mm256_maskload_pd(reinterpret_cast<const double*>(p), mask);
#else
    // In pieces of 8, 4, 2, 1 elements: every memcpy has a constant size and is one move.
    V v{};
    Real* out = reinterpret_cast<Real*>(&v);
    size_t i = 0;
    if (W > 8 && (n & 8)) __builtin_memcpy(out, p, 8 * sizeof(Real)), i = 8;
    if (W > 4 && (n & 4)) __builtin_memcpy(out + i, p + i, 4 * sizeof(Real)), i += 4;
    if (W > 2 && (n & 2)) __builtin_memcpy(out + i, p + i, 2 * sizeof(Real)), i += 2;
    if (n & 1) __builtin_memcpy(out + i, p + i, sizeof(Real));
    return v;
#endif
}

FASTNN_INLINE void store_part(Real* p, V v, size_t n) {
#if FASTNN_AVX512
    if constexpr (kFloat)
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
    else
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
#elif FASTNN_AVX2
    // In pieces of 128, 64 and 32 bits: vmaskmov to memory is microcoded on Zen (18 to 42 operations).
    if constexpr (kFloat) {
        float* out = reinterpret_cast<float*>(p);
        __m128 half = _mm256_castps256_ps128((__m256)v);
        if (n & 4) _mm_storeu_ps(out, half), out += 4, half = _mm256_extractf128_ps((__m256)v, 1);
        if (n & 2)
            _mm_storel_pi(reinterpret_cast<__m64*>(out), half), out += 2, half = _mm_movehl_ps(half, half);
        if (n & 1) _mm_store_ss(out, half);
    } else {
        double* out = reinterpret_cast<double*>(p);
        __m128d half = _mm256_castpd256_pd128((__m256d)v);
        if (n & 2) _mm_storeu_pd(out, half), out += 2, half = _mm256_extractf128_pd((__m256d)v, 1);
        if (n & 1) _mm_store_sd(out, half);
    }
#else
    const Real* in = reinterpret_cast<const Real*>(&v);
    size_t i = 0;
    if (W > 8 && (n & 8)) __builtin_memcpy(p, in, 8 * sizeof(Real)), i = 8;
    if (W > 4 && (n & 4)) __builtin_memcpy(p + i, in + i, 4 * sizeof(Real)), i += 4;
    if (W > 2 && (n & 2)) __builtin_memcpy(p + i, in + i, 2 * sizeof(Real)), i += 2;
    if (n & 1) __builtin_memcpy(p + i, in + i, sizeof(Real));
#endif
}

// A whole aligned vector past the caches: not read before it is written, and not kept. `streamed` before others read it.
FASTNN_INLINE void stream(Real* p, V v) {
#if FASTNN_AVX512
    _mm512_stream_ps(reinterpret_cast<float*>(p), (__m512)v);
#elif FASTNN_AVX2
    _mm256_stream_ps(reinterpret_cast<float*>(p), (__m256)v);
#elif FASTNN_SSE
    _mm_stream_ps(reinterpret_cast<float*>(p), (__m128)v);
#else
    store(p, v);
#endif
}
FASTNN_INLINE void streamed() {
#if FASTNN_AVX512 || FASTNN_AVX2 || FASTNN_SSE
    _mm_sfence();
#endif
}

FASTNN_INLINE VI lane_index() {
    VI v;
    for (size_t i = 0; i < W; ++i) v[i] = static_cast<Int>(i);
    return v;
}

FASTNN_INLINE V load(const Real* p, Full) { return load(p); }
FASTNN_INLINE V load(const Real* p, Part lanes) { return load_part(p, lanes.n); }
FASTNN_INLINE V load(const Real* p, Full, Real) { return load(p); }
FASTNN_INLINE V load(const Real* p, Part lanes, Real fill) {  // the lanes that are not there hold `fill`
    return select(lane_index() < broadcast_int(static_cast<Int>(lanes.n)), load_part(p, lanes.n),
                  broadcast(fill));
}
FASTNN_INLINE void store(Real* p, V v, Full) { store(p, v); }
FASTNN_INLINE void store(Real* p, V v, Part lanes) { store_part(p, v, lanes.n); }
FASTNN_INLINE V keep(V v, Full) { return v; }  // 0 in the lanes that are not there
FASTNN_INLINE V keep(V v, Part lanes) {
    return select(lane_index() < broadcast_int(static_cast<Int>(lanes.n)), v, V{});
}

// f(i, lanes) over 0 .. n-1, W at a time.
template <class F>
FASTNN_INLINE void for_vectors(size_t n, F&& f) {
    size_t i = 0;
    for (; i + W <= n; i += W) f(i, Full{});
    if (i < n) f(i, Part{n - i});
}

// Minimum, maximum, sums -----------------------------------------------------------------------------------

// NaN in the second argument wins: max(limit, x) keeps x's NaN. One instruction on x86.
FASTNN_INLINE V max(V limit, V x) { return select(limit > x, limit, x); }
FASTNN_INLINE V min(V limit, V x) { return select(limit < x, limit, x); }
FASTNN_INLINE V abs(V x) { return (V)((VI)x & broadcast_int(static_cast<Int>(static_cast<Uint>(-1) >> 1))); }
FASTNN_INLINE V copysign(V magnitude, V sign) {
    const VI top = broadcast_int(static_cast<Int>(static_cast<Uint>(1) << (8 * sizeof(Real) - 1)));
    return (V)(((VI)magnitude & ~top) | ((VI)sign & top));
}
FASTNN_INLINE V sqrt(V x) {
#if FASTNN_AVX512
    if constexpr (kFloat)
        return (V)_mm512_sqrt_ps((__m512)x);
    else
        return (V)_mm512_sqrt_pd((__m512d)x);
#elif FASTNN_AVX2
    if constexpr (kFloat)
        return (V)_mm256_sqrt_ps((__m256)x);
    else
        return (V)_mm256_sqrt_pd((__m256d)x);
#elif FASTNN_SSE
    if constexpr (kFloat)
        return (V)_mm_sqrt_ps((__m128)x);
    else
        return (V)_mm_sqrt_pd((__m128d)x);
#else
    for (size_t i = 0; i < W; ++i) x[i] = kFloat ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return x;
#endif
}
// Of one number alone, a third of the time that the divider is busy with a vector of it.
FASTNN_INLINE Real sqrt(Real x) { return kFloat ? __builtin_sqrtf(x) : __builtin_sqrt(x); }

// A product that no FMA takes: of two and a sum the compiler else chooses one, and another for the last lanes on NEON.
FASTNN_INLINE V rounded(V product) {
#if FASTNN_AVX512
    asm("" : "+v"(product));
#elif FASTNN_AVX2 || FASTNN_SSE
    asm("" : "+x"(product));
#elif defined(__aarch64__)
    asm("" : "+w"(product));
#else
    asm("" : "+m"(product));
#endif
    return product;
}

// The quarter of a reduction that all instruction sets share: 16 bytes.
constexpr size_t kQuads = FASTNN_VECTOR_BYTES / 16, Q = 16 / sizeof(Real);
typedef Real Quad __attribute__((vector_size(16)));
struct Quads {
    Quad q[kQuads];
};

template <class Op>
FASTNN_INLINE Real reduce(V v, Op op) {  // a fixed tree over the lanes
    Quads parts = bits_as<Quads>(v);
    for (size_t step = kQuads / 2; step > 0; step /= 2)
        for (size_t i = 0; i < step; ++i) parts.q[i] = op(parts.q[i], parts.q[i + step]);
    Quad q = parts.q[0];
#if FASTNN_FLOAT
    q = op(q, __builtin_shufflevector(q, q, 2, 3, 0, 1));
    q = op(q, __builtin_shufflevector(q, q, 1, 0, 3, 2));
#else
    q = op(q, __builtin_shufflevector(q, q, 1, 0));
#endif
    return q[0];
}
FASTNN_INLINE Real sum(V v) {
    return reduce(v, [](Quad a, Quad b) { return a + b; });
}
FASTNN_INLINE Real largest(V v) {  // of lanes without NaN
    return reduce(v, [](Quad a, Quad b) { return a > b ? a : b; });
}
FASTNN_INLINE bool any(VI mask) {
#if FASTNN_AVX512
    return kFloat ? _mm512_movepi32_mask((__m512i)mask) != 0 : _mm512_movepi64_mask((__m512i)mask) != 0;
#elif FASTNN_AVX2
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif FASTNN_SSE
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    Int some = 0;
    for (size_t i = 0; i < W; ++i) some |= mask[i];
    return some != 0;
#endif
}

// Sum of f(i, lanes) over 0 .. n-1: four chains of W lanes hide the latency of an addition (4).
template <class F>
FASTNN_INLINE Real row_sum(size_t n, F&& f) {
    V s[4] = {};
    size_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        FASTNN_UNROLL
        for (size_t c = 0; c < 4; ++c) s[c] += f(i + c * W, Full{});
    }
    for_vectors(n - i, [&](size_t j, auto lanes) { s[0] += keep(f(i + j, lanes), lanes); });
    return sum((s[0] + s[1]) + (s[2] + s[3]));
}

// Lane r: the sum of the lanes of v[r], for W vectors at once: 3 instructions a sum instead of 2 log2(W).
template <int... lane>
struct Lanes {};
template <int n, int... lane>
struct CountLanes : CountLanes<n - 1, n - 1, lane...> {};
template <int... lane>
struct CountLanes<0, lane...> {
    using type = Lanes<lane...>;
};
// Of two vectors the blocks of 2 h lanes folded to h, x's in the lower half of each block, y's in the upper one.
template <int h, int... l>
FASTNN_INLINE V fold(V x, V y, Lanes<l...>) {
    constexpr int n = static_cast<int>(W);
    return __builtin_shufflevector(x, y, (l & h ? n + (l ^ h) : l)...) +
           __builtin_shufflevector(x, y, (l & h ? n + l : l | h)...);
}
template <int h>
FASTNN_INLINE V sums(V* v) {
    FASTNN_UNROLL
    for (int i = 0; i < h; ++i) v[i] = fold<h>(v[i], v[i + h], typename CountLanes<W>::type{});
    if constexpr (h > 1)
        return sums<h / 2>(v);
    else
        return v[0];
}

// Largest of x (n,), n >= 1; some NaN are passed over.
FASTNN_INLINE Real row_max(size_t n, const Real* x) {
    V m = broadcast(Real(-__builtin_inf()));
    for_vectors(n, [&](size_t i, auto lanes) { m = max(load(x + i, lanes, Real(-__builtin_inf())), m); });
    return largest(m);
}

}  // namespace
