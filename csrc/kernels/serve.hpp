// Products of a few rows with a matrix that was packed once: what predicting one row costs. The sums are gemm.hpp's, in its
// order, so a row has the same bits here and there. No threads, no packing at call time.
#pragma once

#include "gemm.hpp"

namespace {

constexpr size_t kFew = MR;  // rows: more are multiply's

FASTNN_INLINE size_t panel_count(size_t N) { return (N + kPanel - 1) / kPanel; }
FASTNN_INLINE size_t whole_vectors(size_t n) { return (n + W - 1) / W * W; }

// What a product of few rows reads of its right matrix, K x N, and its bias: where these lie in one buffer.
struct Served {
    size_t K, N;
    bool narrow() const {
        return is_narrow({Form::NN, 1, N, K, nullptr, K, nullptr, N, nullptr, nullptr, N});
    }
    size_t bias() const { return panel_count(N) * kPanel; }  // elements: zeros behind its N
    size_t columns() const {
        return narrow() ? N * whole_vectors(K) : 0;
    }  // b transposed, zeros behind each K
    size_t elements() const { return bias() + columns(); }

    // rows of b; what belongs to none of them comes with the last.
    void pack(const Real* b, const Real* from, Real* to, Range rows) const {
        const bool last = rows.end == K;
        for (size_t n = 0; last && n < bias(); ++n) to[n] = n < N ? from[n] : Real(0);
        if (!narrow()) return;
        const size_t stride = whole_vectors(K), end = last ? stride : rows.end;
        to += bias();
        for (size_t n = 0; n < N; ++n, to += stride)
            for (size_t k = rows.begin; k < end; ++k) to[k] = k < K ? b[k * N + n] : Real(0);
    }
};

// c (R, N of G panels) = bias + a b. One row of 4 panels has 8 independent chains: enough to hide the latency of an FMA.
template <size_t R, size_t G>
FASTNN_INLINE void few_tile(size_t K, const Real* __restrict a, size_t lda, const Real* __restrict panels,
                            const Real* bias, Real* c, size_t ldc, size_t cols) {
    constexpr size_t C = G * NR;
    V acc[R][C];
    FASTNN_UNROLL
    for (size_t j = 0; j < C; ++j) {
        const V start = load(bias + j * W);
        FASTNN_UNROLL
        for (size_t i = 0; i < R; ++i) acc[i][j] = start;
    }
    const size_t stride = K * kPanel;
    FASTNN_UNROLL_BY_4
    for (size_t k = 0; k < K; ++k, panels += kPanel) {
        V x[R];
        FASTNN_UNROLL
        for (size_t i = 0; i < R; ++i) x[i] = broadcast(a[i * lda + k]);
        FASTNN_UNROLL
        for (size_t j = 0; j < C; ++j) {
            const V row = load(panels + j / NR * stride + j % NR * W);
            FASTNN_UNROLL
            for (size_t i = 0; i < R; ++i) acc[i][j] += x[i] * row;
        }
    }
    FASTNN_UNROLL
    for (size_t j = 0; j < C; ++j) {
        FASTNN_UNROLL
        for (size_t i = 0; i < R; ++i) {
            Real* const to = c + i * ldc + j * W;
            if (cols >= (j + 1) * W)
                store(to, acc[i][j]);
            else if (cols > j * W)
                store_part(to, acc[i][j], cols - j * W);
        }
    }
}

// R rows, all panels, `most` at a time.
template <size_t R, size_t most>
FASTNN_INLINE void few_rows(const Served& of, const Real* a, const Real* panels, const Real* bias, Real* c) {
    const size_t K = of.K, N = of.N;
    for (size_t n = 0; n < N;) {
        const size_t left = panel_count(N - n), cols = N - n;
        const Real* b = panels + n * K;
        if (left >= most) {
            few_tile<R, most>(K, a, K, b, bias + n, c + n, N, cols);
            n += most * kPanel;
        } else if (most > 2 && left == 3) {
            few_tile<R, most == 4 ? 3 : 1>(K, a, K, b, bias + n, c + n, N, cols);
            n += 3 * kPanel;
        } else if (most > 2 && left == 2) {
            few_tile<R, 2>(K, a, K, b, bias + n, c + n, N, cols);
            n += 2 * kPanel;
        } else {
            few_tile<R, 1>(K, a, K, b, bias + n, c + n, N, cols);
            n += kPanel;
        }
    }
}

// One row by dot products: see gemm.hpp's narrow.
template <size_t N>
FASTNN_INLINE void few_columns(size_t K, const Real* a, const Real* columns, const Real* bias, Real* c) {
    const size_t whole = K / W * W, ld = whole_vectors(K);
    V s[N] = {};
    for (size_t k = 0; k < whole; k += W) {
        const V x = load(a + k);
        FASTNN_UNROLL
        for (size_t n = 0; n < N; ++n) s[n] += x * load(columns + n * ld + k);
    }
    if (whole < K) {
        const V x = load_part(a + whole, K - whole);
        FASTNN_UNROLL
        for (size_t n = 0; n < N; ++n) s[n] += x * load(columns + n * ld + whole);
    }
    FASTNN_UNROLL
    for (size_t n = 0; n < N; ++n) c[n] = sum(s[n]) + bias[n];
}

// c (M, N) = a (M, K) b + bias of what `of` has packed; panels: b's, of all K, where it is not narrow.
void serve_product(const Served& of, size_t M, const Real* a, const Real* panels, const Real* served,
                   Real* c) {
    const size_t K = of.K, N = of.N;
    if (of.narrow()) {
        const Real* columns = served + of.bias();
        for (size_t m = 0; m < M; ++m, a += K, c += N) {
            if (N == 1) few_columns<1>(K, a, columns, served, c);
            if (N == 2) few_columns<2>(K, a, columns, served, c);
            if (N == 3) few_columns<3>(K, a, columns, served, c);
            if (N == 4) few_columns<4>(K, a, columns, served, c);
        }
        return;
    }
    for (size_t m = 0; m < M;) {
        const size_t rows = tile_rows(M - m);
        if (rows == 1)
            few_rows<1, 4>(of, a + m * K, panels, served, c + m * N);
        else if (rows == 2)
            few_rows<2, 2>(of, a + m * K, panels, served, c + m * N);
        else
            for (size_t n = 0; n < N; n += kPanel) {
                const size_t cols = N - n < kPanel ? N - n : kPanel, used = (cols + W - 1) / W;
                kMicro[0][0].tile[rows][used](K, a + m * K, K, panels + n * K, kPanel, served + n, true,
                                              c + m * N + n, N, cols - (used - 1) * W);
            }
        m += rows;
    }
}

}  // namespace
