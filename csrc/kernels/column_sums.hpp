// Sums over the rows of a matrix, as exact in batches of millions of rows as in small ones.
#pragma once

#include "../threads.hpp"
#include "simd.hpp"

namespace {

// Rows that are added up one after the other; the sums of such runs are added up next. All in one run, float32 makes
// 1.065 of 10^7 rows whose mean is 1, for each row is rounded to the digits of all rows before it.
constexpr size_t kRun = 4096;
FASTNN_INLINE size_t run_end(size_t begin, size_t B) { return B - begin < kRun ? B : begin + kRun; }

// f(begin, end) of each run of B rows, added up
template <class F>
FASTNN_INLINE V sum_of_runs(size_t B, F&& f) {
    V sum{};
    for (size_t begin = 0; begin < B; begin += kRun) sum += f(begin, run_end(begin, B));
    return sum;
}

// The same of n values a run: f(begin, end, values).
template <class F>
FASTNN_INLINE void sum_of_runs(size_t B, size_t n, Real* values, F&& f) {
    f(size_t(0), run_end(0, B), values);
    for (size_t begin = kRun; begin < B; begin += kRun) {
        Real* more = static_cast<Real*>(fastnn::scratch(fastnn::kRunSum, n * sizeof(Real)));
        f(begin, run_end(begin, B), more);
        for_vectors(n, [&](size_t j, auto lanes) {
            store(values + j, load(values + j, lanes) + load(more + j, lanes), lanes);
        });
    }
}

// Sum over the rows of f(i): two chains, even and odd rows.
template <class F>
FASTNN_INLINE V rows_sum(size_t B, F&& f) {
    return sum_of_runs(B, [&](size_t i, size_t end) {
        V even{}, odd{};
        for (; i + 2 <= end; i += 2) even += f(i), odd += f(i + 1);
        if (i < end) even += f(i);
        return even + odd;
    });
}

// sums (O,) = column sums of d (B, O), each from the first row to the last
FASTNN_INLINE void add_rows(size_t B, size_t O, const Real* d, size_t ldd, Real* sums) {
    constexpr size_t C = 8;  // 8 vectors: enough independent chains to hide the latency of an addition (4)
    size_t j = 0;
    for (; j + C * W <= O; j += C * W) {
        V s[C] = {};
        for (size_t i = 0; i < B; ++i) {
            FASTNN_UNROLL
            for (size_t c = 0; c < C; ++c) s[c] += load(d + i * ldd + j + c * W);
        }
        FASTNN_UNROLL
        for (size_t c = 0; c < C; ++c) store(sums + j + c * W, s[c]);
    }
    for_vectors(O - j, [&](size_t c, auto lanes) {
        V s{};
        for (size_t i = 0; i < B; ++i) s += load(d + i * ldd + j + c, lanes);
        store(sums + j + c, s, lanes);
    });
}

// The same, in runs.
void column_sums(size_t B, size_t O, const Real* d, size_t ldd, Real* sums) {
    sum_of_runs(B, O, sums, [=](size_t begin, size_t end, Real* values) {
        add_rows(end - begin, O, d + begin * ldd, ldd, values);
    });
}

}  // namespace
