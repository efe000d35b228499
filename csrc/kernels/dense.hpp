// The three products of a dense layer, each fused with what surrounds it. Blocking and tiles are gemm.hpp's.
#pragma once

#include "gemm.hpp"

namespace {

constexpr size_t kPanel = NR * W;  // columns of a panel

// Packed once, used by many products: panels of 0 .. rows-1 of d (rows, O) for `d` as the right matrix, in a buffer
// for `of` rows of which these are the ones from `first` on; and panels of w^T for its rows `first` .. (whole panels).
void pack_panels(size_t rows, size_t O, const Real* d, size_t ldd, size_t first, size_t of, bool streaming,
                 Real* panels) {
    pack_rows(d, ldd, rows, O, kPanel, panels + first * kPanel, of * kPanel, streaming);
}
void pack_transposed_panels(size_t rows, size_t O, const Real* w, size_t ldw, size_t first, bool streaming,
                            Real* panels) {
    (streaming ? stream_columns : pack_columns)(w, ldw, O, rows, kPanel, panels + first * O);
}

// z = x w + b, a = f(z)
void dense_forward(size_t B, size_t I, size_t O, const Real* x, size_t ldx, const Real* w, size_t ldw,
                   const Real* panels, const Real* b, int activation, double alpha, Real* z, size_t ldz,
                   Real* a, size_t lda) {
    Epilogue e;
    if (activation != kActivation_identity || a != z) {
        e.block = kForward[activation];
        e.out = a, e.ldout = lda, e.alpha = static_cast<Real>(alpha);
    }
    multiply({Form::NN, B, O, I, x, ldx, w, ldw, b, z, ldz, panels}, e);
}

// dx = (dz w^T) * f'(saved)
void dense_backward_input(size_t B, size_t I, size_t O, const Real* dz, size_t lddz, const Real* w,
                          size_t ldw, const Real* panels, int activation, double alpha, const Real* saved,
                          size_t ldsaved, Real* dx, size_t lddx) {
    Epilogue e;
    if (activation != kActivation_identity) {
        e.block = kBackward[activation];
        e.in = saved, e.ldin = ldsaved, e.out = dx, e.ldout = lddx, e.alpha = static_cast<Real>(alpha);
    }
    multiply({Form::NT, B, I, O, dz, lddz, w, ldw, nullptr, dx, lddx, panels}, e);
}

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

// dw = x^T dz, db = column sums of dz
void dense_backward_weights(size_t B, size_t I, size_t O, const Real* x, size_t ldx, const Real* dz,
                            size_t lddz, const Real* panels, Real* dw, size_t lddw, Real* db) {
    multiply({Form::TN, I, O, B, x, ldx, dz, lddz, nullptr, dw, lddw, panels}, {});
    if (db != nullptr) column_sums(B, O, dz, lddz, db);
}

}  // namespace
