// Products of rows of floats with a matrix of whole numbers from -127 to 127, each column with a scale:
//
//     z[o] = (float(sum over i of q[i] w[i, o]) scale[o]) factor + bias[o]
//     q[i] = rint(x[i] (levels / most)),  factor = most / levels,  most = max |x|
//     levels = 127 where some x < 0, else 255
//
// each operation rounded to float by itself, to nearest even, and none of them an FMA: the same bits on every instruction set, in
// every batch and on every number of threads, and those of serving/int8.py. A row whose most is below kLeast counts as zeros; one
// that is not finite has NaN. No files, no threads; float32 alone.
#pragma once

#include "../threads.hpp"
#include "call.hpp"
#include "int8_ways.hpp"

#if FASTNN_FLOAT
namespace {
namespace int8 {

using Whole = fastnn::Whole<Real>;

constexpr float kLeast = 0x1p-120f;  // 255 / kLeast is the last that is finite
constexpr float kWhole =
    0x1.8p23f;  // added to |t| < 2^22 it rounds t to a whole number, which its low bits then hold
constexpr int32_t kInfinite = 0x7f800000;
constexpr size_t kStrip = 48;  // rows that are held as bytes: 48 x 784 are 38 kB

FASTNN_INLINE size_t groups(size_t K) { return (K + 3) / 4; }
FASTNN_INLINE size_t vectors(size_t N) { return (N + W - 1) / W; }

// Weights lie in panels of two vectors of columns, the last of one where that is all there is: of four rows after the other.
constexpr size_t kStep = 4 * W;  // bytes of a vector
FASTNN_INLINE size_t whole_panels(size_t N) { return vectors(N) / 2; }

inline size_t packed_bytes(size_t K, size_t N) {
    return vectors(N) * (groups(K) * kStep + W * (sizeof(int32_t) + 2 * sizeof(float)));
}

template <class Way>
void multiply(const Whole& of, size_t M, const float* a, float* c);

template <class Way>
Whole packed(const fastnn::WholeNumbers& from, void* to) {
    const size_t K = from.K, N = from.N, padded = vectors(N) * W;
    int8_t* const panels = static_cast<int8_t*>(to);
    __builtin_memset(to, 0, packed_bytes(K, N));
    int32_t* const shifts = reinterpret_cast<int32_t*>(panels + vectors(N) * groups(K) * kStep);
    float* const scale = reinterpret_cast<float*>(shifts + padded);
    float* const bias = scale + padded;
    for (size_t n = 0; n < N; ++n) {
        const size_t vector = n / W, panel = vector / 2, across = panel < whole_panels(N) ? 2 : 1;
        int8_t* const column = panels + panel * 2 * groups(K) * kStep + vector % 2 * kStep + n % W * 4;
        int32_t sum = 0;
        for (size_t k = 0; k < K; ++k) {
            const int8_t w = from.weights[k * N + n];
            column[k / 4 * across * kStep + Way::order[k % 4]] = w;
            sum += w;
        }
        shifts[n] = sum * (Way::offset_signed + Way::offset_unsigned);
        scale[n] = from.scale[n], bias[n] = from.bias[n];
    }
    return {multiply<Way>, K, N, panels, shifts, scale, bias};
}

// Rows -------------------------------------------------------------------------------------------------------

struct Row {
    int32_t shifted;  // all ones where an offset was added
    float factor;
};

// The largest of lanes, as the whole numbers that their bits are.
FASTNN_INLINE int32_t largest_int(VI v) {
    typedef int32_t Four __attribute__((vector_size(16)));
    const Real found = reduce((V)v, [](Quad a, Quad b) {
        const Four x = (Four)a, y = (Four)b;
        return (Quad)(x > y ? x : y);
    });
    return bits_as<int32_t>(found);
}

// x (K,) as Stored, whole vectors of it: what lies behind K is never read but for the last group, where weights are 0.
template <class Way>
FASTNN_INLINE Row quantise(size_t K, const float* x, typename Way::Stored* to) {
    // As whole numbers the bits of |x| are in the order of |x|, infinity and NaN behind all numbers.
    VI top[4] = {};
    V low[4] = {};
    const auto look = [&](size_t i, V v) {
        const VI a = (VI)abs(v);
        top[i] = top[i] > a ? top[i] : a;
        low[i] = min(low[i], v);
    };
    size_t k = 0;
    for (; k + 4 * W <= K; k += 4 * W) {
        FASTNN_UNROLL
        for (size_t i = 0; i < 4; ++i) look(i, load(x + k + i * W));
    }
    for_vectors(K - k, [&](size_t i, auto lanes) { look(0, load(x + k + i, lanes)); });
    FASTNN_UNROLL
    for (size_t i = 1; i < 4; ++i) {
        top[0] = top[0] > top[i] ? top[0] : top[i];
        low[0] = min(low[0], low[i]);
    }
    const int32_t bits = largest_int(top[0]);
    const bool negative = any(low[0] < V{});
    const float levels = negative ? 127.0f : 255.0f, most = bits_as<float>(bits);
    const int offset = negative ? Way::offset_signed : Way::offset_unsigned;
    const bool zeros = bits >= kInfinite || most < kLeast;
    if (zeros) {
        for (size_t i = 0; i < K; i += W) store_low(to + i, broadcast_int(offset));
    } else {
        const V inverse = broadcast(levels / most), whole = broadcast(kWhole + static_cast<float>(offset));
        for_vectors(K, [&](size_t i, auto lanes) {
            const V t = rounded(load(x + i, lanes) * inverse) + whole;
            store_low(to + i, (VI)t);
        });
    }
    const float factor = bits >= kInfinite ? __builtin_nanf("") : most / levels;
    return {offset != 0 ? -1 : 0, factor};
}

// Tiles ------------------------------------------------------------------------------------------------------

// R rows by G panels of C vectors, S sums of each, for chains enough that none waits for another: 8 hide the 5 cycles that
// two a cycle would have to wait. Not inlined: there GCC 12 keeps the sums in memory.
template <class Way, size_t R, size_t G, size_t C, size_t S>
__attribute__((noinline)) void tile(const Whole& of, size_t first, const typename Way::Stored* x, size_t ldx,
                                    const Row* rows, float* c, size_t ldc) {
    constexpr size_t columns = G * C;
    typename Way::Sum sums[S * R * columns];
    FASTNN_UNROLL
    for (size_t i = 0; i < S * R; ++i) {
        FASTNN_UNROLL
        for (size_t j = 0; j < columns; ++j) sums[i * columns + j] = typename Way::Sum{};
    }
    const size_t K4 = groups(of.K), apart = C * K4 * kStep;
    const int8_t* w = of.panels + first * K4 * kStep;
    const auto step = [&](size_t s, size_t k) __attribute__((always_inline)) {
        const auto weights = [&](size_t j) __attribute__((always_inline)) {
            return Way::weights(w + j / C * apart + (k * C + j % C) * kStep);
        };
        if constexpr (R == 1) {
            const auto v = Way::values(x + 4 * k);
            FASTNN_UNROLL
            for (size_t j = 0; j < columns; ++j) Way::add(sums[s * columns + j], weights(j), v);
        } else {  // the weights first: all rows' values before them would not fit beside the sums
            typename Way::Weights all[columns];
            FASTNN_UNROLL
            for (size_t j = 0; j < columns; ++j) all[j] = weights(j);
            FASTNN_UNROLL
            for (size_t r = 0; r < R; ++r) {
                const auto v = Way::values(x + r * ldx + 4 * k);
                FASTNN_UNROLL
                for (size_t j = 0; j < columns; ++j) Way::add(sums[(s * R + r) * columns + j], all[j], v);
            }
        }
    };
    size_t k = 0;
    for (; k + S <= K4; k += S) {
        FASTNN_UNROLL
        for (size_t s = 0; s < S; ++s) step(s, k + s);
    }
    if constexpr (S > 1)
        for (; k < K4; ++k) step(0, k);
    FASTNN_UNROLL
    for (size_t j = 0; j < columns; ++j) {
        const size_t n = (first + j) * W;
        const V scale = load(of.scale + n), bias = load(of.bias + n);
        const VI shift = load_int(of.shifts + n);
        FASTNN_UNROLL
        for (size_t r = 0; r < R; ++r) {
            VI total = Way::total(sums[r * columns + j]);
            FASTNN_UNROLL
            for (size_t s = 1; s < S; ++s) total += Way::total(sums[(s * R + r) * columns + j]);
            if constexpr (Way::offset_signed != Way::offset_unsigned)
                total -= shift & broadcast_int(rows[r].shifted);
            const V product = (__builtin_convertvector(total, V) * scale) * broadcast(rows[r].factor);
            const V z = rounded(product) + bias;
            float* const to = c + r * ldc + n;
            if (n + W <= of.N)
                store(to, z);
            else
                store_part(to, z, of.N - n);
        }
    }
}

template <class Way>
using Tile = void (*)(const Whole&, size_t, const typename Way::Stored*, size_t, const Row*, float*, size_t);
constexpr size_t sums_of(size_t chains) { return chains >= 8 ? 1 : chains >= 4 ? 2 : 4; }

// A tile of 1 .. kRows rows and a panel of C vectors.
template <class Way, size_t C, size_t R = Way::kRows>
FASTNN_INLINE Tile<Way> tile_of(size_t rows) {
    if constexpr (R > 1)
        if (rows < R) return tile_of<Way, C, R - 1>(rows);
    return tile<Way, R, 1, C, sums_of(R * C)>;
}

// One row: 4 panels at a time, then 2, then 1.
template <class Way>
void multiply_row(const Whole& of, const typename Way::Stored* x, const Row* row, float* c) {
    const size_t end = vectors(of.N);
    size_t n = 0;
    for (; n + 8 <= end; n += 8) tile<Way, 1, 4, 2, 1>(of, n, x, 0, row, c, 0);
    for (; n + 4 <= end; n += 4) tile<Way, 1, 2, 2, 2>(of, n, x, 0, row, c, 0);
    for (; n + 2 <= end; n += 2) tile<Way, 1, 1, 2, 4>(of, n, x, 0, row, c, 0);
    for (; n < end; ++n) tile<Way, 1, 1, 1, 4>(of, n, x, 0, row, c, 0);
}

template <class Way>
void multiply_strip(const Whole& of, size_t M, const typename Way::Stored* x, size_t ldx, const Row* rows,
                    float* c) {
    const size_t count = (M + Way::kRows - 1) / Way::kRows;  // of tiles: 13 rows are 7 and 6, not 12 and 1
    for (size_t n = 0; n < vectors(of.N); n += 2) {
        const bool two = n + 2 <= vectors(of.N);
        for (size_t t = 0, m = 0; t < count; ++t) {
            const size_t next = (t + 1) * M / count;
            (two ? tile_of<Way, 2>(next - m) : tile_of<Way, 1>(next - m))(of, n, x + m * ldx, ldx, rows + m,
                                                                          c + m * of.N, of.N);
            m = next;
        }
    }
}

template <class Way>
void multiply(const Whole& of, size_t M, const float* a, float* c) {
    using Stored = typename Way::Stored;
    const size_t ldx = (of.K + 63) / 64 * 64, most = M < kStrip ? M : kStrip;
    auto* const x = static_cast<Stored*>(fastnn::scratch(fastnn::kWhole, most * ldx * sizeof(Stored)));
    Row rows[kStrip];
    for (size_t m = 0; m < M; m += most) {
        const size_t strip = M - m < most ? M - m : most;
        for (size_t i = 0; i < strip; ++i) rows[i] = quantise<Way>(of.K, a + (m + i) * of.K, x + i * ldx);
        if (strip == 1)
            multiply_row<Way>(of, x, rows, c + m * of.N);
        else
            multiply_strip<Way>(of, strip, x, ldx, rows, c + m * of.N);
    }
}

template <class Way>
constexpr fastnn::Int8Way<Real> way{Way::name, packed_bytes, packed<Way>};

}  // namespace int8

// Best last; a CPU may lack the last.
const fastnn::Int8Way<Real> kInt8Ways[] = {
#if FASTNN_AVX512 || FASTNN_AVX2
    int8::way<int8::Widened>, int8::way<int8::Vnni>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    int8::way<int8::Dot>
#elif defined(__aarch64__)
    int8::way<int8::Long>
#else
    int8::way<int8::Widened>
#endif
};

}  // namespace
#endif
