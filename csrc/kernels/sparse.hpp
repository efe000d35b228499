// Products with sparse rows (CSR) as they are stored: 50 entries of 50,000 columns take a thousandth of the work, and of the
// memory. Each sum has the order of the dense product's, gemm.hpp, and a zero changes none, so the bits are the same; but a
// weight or a gradient that is NaN or infinite is not met where the row has no entry.
#pragma once

#include "gather.hpp"
#include "gemm.hpp"

namespace {

// What reading entries relies on: that they are there, in columns of I that ascend. Returns as Operation::gather.
size_t check_sparse_rows(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t I) {
    for (size_t i = 0; i < B; ++i) {
        const Entries entries(data, rows[i]);
        if (!entries.fine) return i * I;
        int64_t last = -1;
        for (int64_t k = entries.begin; k < entries.end; ++k) {
            const int64_t column = data.column(k);
            if (column <= last || static_cast<size_t>(column) >= I) return i * I;
            last = column;
        }
    }
    return fastnn::kFine;
}

// Not inlined into what calls it or `multiply`: a step of 2 us would feel the larger frames.

// One row of the product, c (N,): vectors of columns, as many at a time as keep the FMA units busy.
template <class Stored>
void sparse_row_times(const fastnn::Rows& data, const Entries& entries, const Product& p, Real* c) {
    const Stored* values = static_cast<const Stored*>(data.data);
    constexpr size_t C = 4;
    size_t n = 0;
    for (; n + C * W <= p.N; n += C * W) {
        V acc[C];
        FASTNN_UNROLL
        for (size_t j = 0; j < C; ++j) acc[j] = load(p.bias + n + j * W);
        for (int64_t k = entries.begin; k < entries.end; ++k) {
            const V x = broadcast(static_cast<Real>(values[k]));
            const Real* row = p.b + static_cast<size_t>(data.column(k)) * p.ldb + n;
            FASTNN_UNROLL
            for (size_t j = 0; j < C; ++j) acc[j] += x * load(row + j * W);
        }
        FASTNN_UNROLL
        for (size_t j = 0; j < C; ++j) store(c + n + j * W, acc[j]);
    }
    for_vectors(p.N - n, [&](size_t j, auto lanes) {
        V acc = load(p.bias + n + j, lanes);
        for (int64_t k = entries.begin; k < entries.end; ++k)
            acc += broadcast(static_cast<Real>(values[k])) *
                   load(p.b + static_cast<size_t>(data.column(k)) * p.ldb + n + j, lanes);
        store(c + n + j, acc, lanes);
    });
}

// The sum of one element of a narrow product: column k is added in lane k % W.
template <class Stored>
FASTNN_INLINE V sparse_dot(const fastnn::Rows& data, int64_t row, const Product& p, size_t n) {
    const Entries entries(data, row);
    Real lanes[W] = {};
    for (int64_t k = entries.begin; k < entries.end; ++k) {
        const size_t column = static_cast<size_t>(data.column(k));
        lanes[column % W] +=
            static_cast<Real>(static_cast<const Stored*>(data.data)[k]) * p.b[column * p.ldb + n];
    }
    return load(lanes);
}

template <class Stored>
void sparse_narrow(const fastnn::Rows& data, const int64_t* rows, const Product& p) {
    for (size_t m = 0; m < p.M; m += W) {
        const size_t here = p.M - m < W ? p.M - m : W;
        for (size_t n = 0; n < p.N; ++n) {
            V products[W];
            for (size_t r = 0; r < W; ++r)
                products[r] = r < here ? sparse_dot<Stored>(data, rows[m + r], p, n) : V{};
            store_narrow(p, m, n, here, products);
        }
    }
}

// `multiply` of Form::NN with a bias, where a is these rows.
[[gnu::noinline]] void multiply_sparse(const fastnn::Rows& data, const int64_t* rows, const Product& p,
                                       const Epilogue& e) {
    with_stored(data.stored, [&](auto stored) {
        using Stored = decltype(stored);
        if (is_narrow(p)) return sparse_narrow<Stored>(data, rows, p);
        for (size_t m = 0; m < p.M; ++m)
            sparse_row_times<Stored>(data, Entries(data, rows[m]), p, p.c + m * p.ldc);
    });
    e.run(p, 0, 0, p.M, p.N);
}

// g (columns, O) = these columns of the B rows, transposed, times d (B, O)
[[gnu::noinline]] void multiply_sparse_transposed(const fastnn::Rows& data, const int64_t* rows, size_t B,
                                                  fastnn::Range columns, const Real* d, size_t O, Real* g) {
    for (size_t i = 0; i < columns.size() * O; ++i) g[i] = 0;
    with_stored(data.stored, [&](auto stored) {
        const auto* values = static_cast<const decltype(stored)*>(data.data);
        for (size_t i = 0; i < B; ++i) {
            const Entries entries(data, rows[i]);
            int64_t k = entries.begin, end = entries.end;
            while (k < end) {  // the first entry in those columns
                const int64_t middle = k + (end - k) / 2;
                if (static_cast<size_t>(data.column(middle)) < columns.begin)
                    k = middle + 1;
                else
                    end = middle;
            }
            for (; k < entries.end; ++k) {
                const size_t column = static_cast<size_t>(data.column(k));
                if (column >= columns.end) break;
                const V x = broadcast(static_cast<Real>(values[k]));
                Real* to = g + (column - columns.begin) * O;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(to + j, load(to + j, lanes) + x * load(d + i * O + j, lanes), lanes);
                });
            }
        }
    });
}

}  // namespace
