// Picking rows out of a data set, cast to Real; normalised on the way where the network begins so. No shuffling: the
// order is given.
#pragma once

#include "parallel.hpp"
#include "table.hpp"

namespace {

constexpr size_t kAhead =
    8;  // rows prefetched: a shuffled row is a cache miss of 80 ns, copying 64 floats takes 10

// row(from, to) for each of the rows, `ns` an element.
template <class Stored, class Row>
FASTNN_INLINE void for_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t I,
                            Real* out, double ns, Row row) {
    share(B, ns * static_cast<double>(I) + 10, 16, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            if (i + kAhead < end) {
                const char* next = x + rows[i + kAhead] * stride;
                // The first lines only: the hardware follows once a row is being read.
                const size_t bytes = I * sizeof(Stored) < 256 ? I * sizeof(Stored) : 256;
                for (size_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(next + byte);
            }
            row(reinterpret_cast<const Stored*>(x + rows[i] * stride), out + i * I);
        }
    });
}

// Loops over two types are the compiler's to vectorise: 784 uint8 take 45 ns and, with __builtin_convertvector, which
// GCC 12 takes apart into scalars, 350.
template <class Stored>
void gather_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t I, Real* out) {
    for_rows<Stored>(x, stride, rows, B, I, out, 0.1,
                     [I](const Stored* __restrict from, Real* __restrict to) {
                         if constexpr (sizeof(Stored) == sizeof(Real))
                             for_vectors(I, [&](size_t j, auto lanes) {
                                 store(to + j, load(reinterpret_cast<const Real*>(from) + j, lanes), lanes);
                             });
                         else
                             for (size_t j = 0; j < I; ++j) to[j] = static_cast<Real>(from[j]);
                     });
}

void gather(const void* x, fastnn::Stored stored, ptrdiff_t stride, const int64_t* rows, size_t B, size_t I,
            Real* out) {
    const char* bytes = static_cast<const char*>(x);
    if (stored == fastnn::kFloat32)
        gather_rows<float>(bytes, stride, rows, B, I, out);
    else if (stored == fastnn::kFloat64)
        gather_rows<double>(bytes, stride, rows, B, I, out);
    else
        gather_rows<uint8_t>(bytes, stride, rows, B, I, out);
}

// In double whatever x is stored in. In float32 the shift would have to be in two parts (float32 data around 1e9 lie 64
// apart, and their mean does not lie on that grid), for an error of 5 roundings instead of 1. Double costs 0.18 ns an
// element of float32 (AVX-512), a cast and a second pass in float32 0.15 to 0.18; of float64 0.16 and 0.22. Nothing here
// can be contracted to a multiply-add, so every instruction set and every backend has the same bits.
template <class Stored>
void gather_normalized_rows(const char* x, ptrdiff_t stride, const int64_t* rows, size_t B, size_t I,
                            const double* __restrict shift, const double* __restrict scale, Real* out) {
    for_rows<Stored>(x, stride, rows, B, I, out, 0.2,
                     [=](const Stored* __restrict from, Real* __restrict to) {
                         for (size_t j = 0; j < I; ++j)
                             to[j] = static_cast<Real>((static_cast<double>(from[j]) - shift[j]) * scale[j]);
                     });
}

void gather_normalized(const void* x, fastnn::Stored stored, ptrdiff_t stride, const int64_t* rows, size_t B,
                       size_t I, const double* shift, const double* scale, Real* out) {
    const char* bytes = static_cast<const char*>(x);
    if (stored == fastnn::kFloat32)
        gather_normalized_rows<float>(bytes, stride, rows, B, I, shift, scale, out);
    else if (stored == fastnn::kFloat64)
        gather_normalized_rows<double>(bytes, stride, rows, B, I, shift, scale, out);
    else
        gather_normalized_rows<uint8_t>(bytes, stride, rows, B, I, shift, scale, out);
}

}  // namespace
