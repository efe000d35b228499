// Sums over the rows of a matrix.
#pragma once

#include "simd.hpp"

namespace {

// sums (O,) = column sums of d (B, O), each from the first row to the last
void column_sums(size_t B, size_t O, const Real* d, size_t ldd, Real* sums) {
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

}  // namespace
