// Picking rows out of a data set, cast to Real; normalised on the way where the network begins so. No shuffling: the
// order is given.
#pragma once

#include "parallel.hpp"
#include "table.hpp"

namespace {

// A shuffled row is a cache miss of 80 ns, copying 64 floats takes 10: rows are fetched ahead. Short ones into L1, 4 kB of
// them, so that a small network finds those of its next batch there; long ones whole, 8 kB ahead, into L2: 128 of 784
// float32 out of 100 MB take 26 us instead of 50.
constexpr size_t kLongRow = 512;  // bytes
FASTNN_INLINE size_t rows_ahead(size_t bytes) {
    const size_t ahead = (bytes < kLongRow ? 4096 : 8192) / (bytes + 1);
    return ahead < 2 ? 2 : ahead > 32 ? 32 : ahead;
}

// row(from, to) for each of the rows, `ns` an element. `following` more numbers of rows stand behind those.
template <class Stored, class Row>
FASTNN_INLINE void for_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t following,
                            size_t I, Real* out, double ns, Row row) {
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

// The last vector overlaps the one before it: a masked store takes twice as long (Zen 4).
FASTNN_INLINE void copy_row(const Real* from, size_t I, Real* to) {
    if (I < W) return store_part(to, load_part(from, I), I);
    for (size_t j = 0; j + W <= I; j += W) store(to + j, load(from + j));
    store(to + I - W, load(from + I - W));
}

// Loops over two types are the compiler's to vectorise: 784 uint8 take 45 ns and, with __builtin_convertvector, which
// GCC 12 takes apart into scalars, 350.
template <class Stored>
void gather_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t following, size_t I,
                 Real* out) {
    for_rows<Stored>(x, stride, rows, B, following, I, out, 0.1,
                     [I](const Stored* __restrict from, Real* __restrict to) {
                         if constexpr (sizeof(Stored) == sizeof(Real))
                             copy_row(reinterpret_cast<const Real*>(from), I, to);
                         else
                             for (size_t j = 0; j < I; ++j) to[j] = static_cast<Real>(from[j]);
                     });
}

void gather(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following, size_t I, Real* out) {
    const char* bytes = static_cast<const char*>(data.data);
    if (data.stored == fastnn::kFloat32)
        gather_rows<float>(bytes, data.stride, rows, B, following, I, out);
    else if (data.stored == fastnn::kFloat64)
        gather_rows<double>(bytes, data.stride, rows, B, following, I, out);
    else
        gather_rows<uint8_t>(bytes, data.stride, rows, B, following, I, out);
}

// In double whatever x is stored in. In float32 the shift would have to be in two parts (float32 data around 1e9 lie 64
// apart, and their mean does not lie on that grid), for an error of 5 roundings instead of 1. Double costs 0.18 ns an
// element of float32 (AVX-512), a cast and a second pass in float32 0.15 to 0.18; of float64 0.16 and 0.22. Nothing here
// can be contracted to a multiply-add, so every instruction set and every backend has the same bits.
template <class Stored>
void gather_normalized_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t following,
                            size_t I, const double* __restrict shift, const double* __restrict scale,
                            Real* out) {
    for_rows<Stored>(x, stride, rows, B, following, I, out, 0.2,
                     [=](const Stored* __restrict from, Real* __restrict to) {
                         for (size_t j = 0; j < I; ++j)
                             to[j] = static_cast<Real>((static_cast<double>(from[j]) - shift[j]) * scale[j]);
                     });
}

void gather_normalized(const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following, size_t I,
                       const double* shift, const double* scale, Real* out) {
    const char* bytes = static_cast<const char*>(data.data);
    if (data.stored == fastnn::kFloat32)
        gather_normalized_rows<float>(bytes, data.stride, rows, B, following, I, shift, scale, out);
    else if (data.stored == fastnn::kFloat64)
        gather_normalized_rows<double>(bytes, data.stride, rows, B, following, I, shift, scale, out);
    else
        gather_normalized_rows<uint8_t>(bytes, data.stride, rows, B, following, I, shift, scale, out);
}

}  // namespace
