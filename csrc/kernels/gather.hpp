// Picking rows out of a data set, cast to Real. What else a source does to them is ops/sources.hpp's; the order is given.
#pragma once

#include "call.hpp"
#include "parallel.hpp"

#include <type_traits>

namespace {

// A shuffled row is a cache miss of 80 ns, copying 64 floats takes 10: rows are fetched ahead. Short ones into L1, 4 kB of
// them, so that a small network finds those of its next batch there; long ones whole, 8 kB ahead, into L2: 128 of 784
// float32 out of 100 MB take 26 us instead of 50.
constexpr size_t kLongRow = 512;  // bytes
FASTNN_INLINE size_t rows_ahead(size_t bytes) {
    const size_t ahead = (bytes < kLongRow ? 4096 : 8192) / (bytes + 1);
    return ahead < 2 ? 2 : ahead > 32 ? 32 : ahead;
}

template <class F>
FASTNN_INLINE auto with_stored(fastnn::Stored stored, F&& f) {
    switch (stored) {
        case fastnn::kFloat32:
            return f(float());
        case fastnn::kFloat64:
            return f(double());
        case fastnn::kUint8:
            return f(uint8_t());
        case fastnn::kInt8:
            return f(int8_t());
        case fastnn::kInt16:
            return f(int16_t());
        case fastnn::kUint16:
            return f(uint16_t());
        case fastnn::kInt32:
            return f(int32_t());
        case fastnn::kUint32:
            return f(uint32_t());
        default:
            return f(int64_t());
    }
}

// row(from, to) for each of the rows, `ns` an element. `following` more numbers of rows stand behind those.
template <class Stored, class Row>
FASTNN_INLINE void for_rows(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following,
                            size_t I, Real* out, double ns, Row row) {
    const char* x = static_cast<const char*>(data.data);
    const ptrdiff_t stride = data.stride;
    const size_t bytes = I * sizeof(Stored), ahead = rows_ahead(bytes), known = B + following;
    share(B, ns * static_cast<double>(I) + 10, 16, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            if (i + ahead < known) {
                const char* next = x + rows[i + ahead] * stride;
                if (bytes < kLongRow)
                    for (size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(next + byte);
                else
                    for (size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(next + byte, 0, 2);
            }
            row(reinterpret_cast<const Stored*>(x + rows[i] * stride), out + i * I);
        }
    });
}

// The entries of a sparse row: none where it points outside of the data, which is then not `fine`.
struct Entries {
    Entries(const fastnn::Rows& data, int64_t row) : begin(data.start(row)), end(data.start(row + 1)) {
        fine = begin >= 0 && end >= begin && static_cast<size_t>(end) <= data.entries;
        if (!fine) begin = end = 0;
    }
    int64_t begin, end;
    bool fine;
};

// Sparse rows, expanded: value(0, j) everywhere, value(x, j) where there is an entry x in column j. What an index may reach
// is checked here: of a data set only the rows that are visited are ever looked at. Returns as Operation::gather.
template <class Stored, class Value>
FASTNN_INLINE size_t for_sparse_rows(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t I,
                                     Real* out, Value value) {
    const Stored* x = static_cast<const Stored*>(data.data);
    for (size_t i = 0; i < B; ++i) {
        Real* to = out + i * I;
        for (size_t j = 0; j < I; ++j) to[j] = value(Stored(0), j);
        const Entries entries(data, rows[i]);
        if (!entries.fine) return i * I;
        for (int64_t k = entries.begin; k < entries.end; ++k) {
            const uint64_t j = static_cast<uint64_t>(data.column(k));
            if (j >= I) return i * I;
            to[j] = value(x[k], j);
        }
    }
    return fastnn::kFine;
}

// The last vector overlaps the one before it: a masked store takes twice as long (Zen 4).
FASTNN_INLINE void copy_row(const Real* from, size_t I, Real* to) {
    if (I < W) return store_part(to, load_part(from, I), I);
    for (size_t j = 0; j + W <= I; j += W) store(to + j, load(from + j));
    store(to + I - W, load(from + I - W));
}

// Loops over two types are the compiler's to vectorise: 784 uint8 take 45 ns and, with __builtin_convertvector, which
// GCC 12 takes apart into scalars, 350.
template <class Stored>
size_t gather_rows(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following, size_t I,
                   Real* out) {
    if (data.starts != nullptr)
        return for_sparse_rows<Stored>(data, rows, B, I, out,
                                       [](Stored x, size_t) { return static_cast<Real>(x); });
    for_rows<Stored>(data, rows, B, following, I, out, 0.1,
                     [I](const Stored* __restrict from, Real* __restrict to) {
                         if constexpr (std::is_same_v<Stored, Real>)
                             copy_row(from, I, to);
                         else
                             for (size_t j = 0; j < I; ++j) to[j] = static_cast<Real>(from[j]);
                     });
    return fastnn::kFine;
}

size_t gather(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following, size_t I,
              Real* out) {
    return with_stored(data.stored, [&](auto stored) {
        return gather_rows<decltype(stored)>(data, rows, B, following, I, out);
    });
}

}  // namespace
