// Formulas of one's own within the kernels: values gathered into blocks for them, and what they return put where it belongs.
#pragma once

#include "../own.hpp"
#include "simd.hpp"

namespace {

using fastnn::kOwnBlock;
using Own = fastnn::Own<Real>;

// What the loops of an activation take beside values.
struct Parameter {
    Real alpha = 0;
    const Own* own = nullptr;  // null: a built-in one
};

FASTNN_INLINE void copy(size_t n, const Real* from, Real* to) {
    for_vectors(n, [&](size_t i, auto lanes) { store(to + i, load(from + i, lanes), lanes); });
}
// A block that is not full holds zeros behind its n values: what a formula makes of them nobody reads.
FASTNN_INLINE void clear_behind(size_t n, Real* block) {
    for (size_t i = n; i < kOwnBlock; ++i) block[i] = 0;
}

struct Place {
    size_t row = 0, col = 0;
};
// f(row, col, count, done) for the pieces of n values of a matrix with so many columns, from a place on; returns where it ends.
template <class F>
FASTNN_INLINE Place over(Place at, size_t n, size_t cols, F&& f) {
    for (size_t done = 0; done < n;) {
        const size_t count = n - done < cols - at.col ? n - done : cols - at.col;
        f(at.row, at.col, count, done);
        done += count, at.col += count;
        if (at.col == cols) ++at.row, at.col = 0;
    }
    return at;
}

// put(row, col, count, results) for what the formula makes of rows x cols values. A block may span rows: tiles of a product are
// narrower than it.
template <class F>
FASTNN_INLINE void in_blocks(fastnn::Formula<Real> formula, double number, size_t rows, size_t cols,
                             const Real* in, size_t ldin, F&& put) {
    alignas(64) Real block[kOwnBlock], results[kOwnBlock];
    Place at;
    for (size_t left = rows * cols; left > 0;) {
        const size_t n = left < kOwnBlock ? left : kOwnBlock;
        over(at, n, cols, [&](size_t row, size_t col, size_t count, size_t done) {
            copy(count, in + row * ldin + col, block + done);
        });
        clear_behind(n, block);
        formula(&number, block, results);
        at = over(at, n, cols, [&](size_t row, size_t col, size_t count, size_t done) {
            put(row, col, count, results + done);
        });
        left -= n;
    }
}

void own_forward(size_t rows, size_t cols, const Real* z, size_t ldz, const Real*, size_t, Real* a,
                 size_t lda, Parameter p) {
    if (cols == ldz && cols == lda) cols *= rows, rows = 1;
    in_blocks(p.own->formula, static_cast<double>(p.alpha), rows, cols, z, ldz,
              [&](size_t row, size_t col, size_t count, const Real* results) {
                  copy(count, results, a + row * lda + col);
              });
}

void own_backward(size_t rows, size_t cols, const Real* saved, size_t ldsaved, const Real* da, size_t ldda,
                  Real* dz, size_t lddz, Parameter p) {
    if (cols == ldsaved && cols == ldda && cols == lddz) cols *= rows, rows = 1;
    in_blocks(p.own->derivative, static_cast<double>(p.alpha), rows, cols, saved, ldsaved,
              [&](size_t row, size_t col, size_t count, const Real* results) {
                  const Real* from = da + row * ldda + col;
                  Real* to = dz + row * lddz + col;
                  for_vectors(count, [&](size_t i, auto lanes) {
                      store(to + i, load(from + i, lanes) * load(results + i, lanes), lanes);
                  });
              });
}

}  // namespace
