// The matrices of a product, copied into the order in which the micro-kernel reads them.
#pragma once

#include "tiles.hpp"

namespace {

// b's rows k0 .. k0+kc, columns n0 .. n0+nc as panels of `width` columns (whole vectors), zeros
// beyond: panel p at p * stride, kc * width where nothing else is in the panel.
// Eight rows of all panels before the next eight: read along b's rows, which lie a page or more apart in large
// matrices, written in chunks of 8 * width. streaming: past the caches, `to` being aligned to vectors.
void pack_rows(const Real* b, size_t ldb, size_t kc, size_t nc, size_t width, Real* to, size_t stride,
               bool streaming = false) {
    for (size_t k0 = 0; k0 < kc; k0 += 8) {
        const size_t k1 = kc - k0 < 8 ? kc : k0 + 8;
        for (size_t n = 0; n < nc; n += width)
            for (size_t k = k0; k < k1; ++k) {
                const Real* from = b + k * ldb + n;
                Real* panel = to + n / width * stride + k * width;
                for (size_t j = 0; j < width; j += W) {
                    const size_t left = n + j < nc ? nc - n - j : 0;
                    const V v = left >= W ? load(from + j) : left > 0 ? load_part(from + j, left) : V{};
                    streaming ? stream(panel + j, v) : store(panel + j, v);
                }
            }
    }
    if (streaming) streamed();
}

// T rows by Q columns at `from` (rows ld apart), transposed: Q vectors of T. 16 bytes of each row at a time.
#if defined(__AVX2__)
constexpr size_t T = 2 * Q;  // half the shuffles of T = Q: rows i and i + Q side by side in one ymm
#else
constexpr size_t T = Q;
#endif
typedef Real VT __attribute__((vector_size(T * sizeof(Real))));
struct Columns {
    VT c[Q];
};

FASTNN_INLINE Columns transpose(const Real* from, size_t ld) {
    Columns t;
#if defined(__AVX2__) && FASTNN_FLOAT
    __m256 q[4];
    for (size_t i = 0; i < 4; ++i)
        q[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * ld)),
                                    _mm_loadu_ps(from + (i + 4) * ld), 1);
    const __m256 t0 = _mm256_unpacklo_ps(q[0], q[1]), t1 = _mm256_unpacklo_ps(q[2], q[3]);
    const __m256 t2 = _mm256_unpackhi_ps(q[0], q[1]), t3 = _mm256_unpackhi_ps(q[2], q[3]);
    t.c[0] = (VT)_mm256_shuffle_ps(t0, t1, 0x44);
    t.c[1] = (VT)_mm256_shuffle_ps(t0, t1, 0xee);
    t.c[2] = (VT)_mm256_shuffle_ps(t2, t3, 0x44);
    t.c[3] = (VT)_mm256_shuffle_ps(t2, t3, 0xee);
#elif defined(__AVX2__)
    __m256d q[2];
    for (size_t i = 0; i < 2; ++i)
        q[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from + i * ld)),
                                    _mm_loadu_pd(from + (i + 2) * ld), 1);
    t.c[0] = (VT)_mm256_unpacklo_pd(q[0], q[1]);
    t.c[1] = (VT)_mm256_unpackhi_pd(q[0], q[1]);
#else
    Quad q[Q];
    for (size_t i = 0; i < Q; ++i) __builtin_memcpy(&q[i], from + i * ld, sizeof(Quad));
#if FASTNN_FLOAT
    const Quad t0 = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5);
    const Quad t1 = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5);
    const Quad t2 = __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
    const Quad t3 = __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
    t.c[0] = __builtin_shufflevector(t0, t1, 0, 1, 4, 5);
    t.c[1] = __builtin_shufflevector(t0, t1, 2, 3, 6, 7);
    t.c[2] = __builtin_shufflevector(t2, t3, 0, 1, 4, 5);
    t.c[3] = __builtin_shufflevector(t2, t3, 2, 3, 6, 7);
#else
    t.c[0] = __builtin_shufflevector(q[0], q[1], 0, 2);
    t.c[1] = __builtin_shufflevector(q[0], q[1], 1, 3);
#endif
#endif
    return t;
}

FASTNN_INLINE void transpose_block(const Real* from, size_t ld, Real* to, size_t ldto) {
    const Columns t = transpose(from, ld);
    for (size_t i = 0; i < Q; ++i) __builtin_memcpy(to + i * ldto, &t.c[i], sizeof(VT));
}

// The same panels from b stored transposed: b(k, n) = b[n * ldb + k].
void pack_columns(const Real* b, size_t ldb, size_t kc, size_t nc, size_t width, Real* to) {
    for (size_t n = 0; n < nc; n += width, to += kc * width) {
        const size_t cols = nc - n < width ? nc - n : width, blocks = cols / T * T;
        const Real* from = b + n * ldb;
        for (size_t j = 0; j < blocks; j += T) {
            size_t k = 0;
            for (; k + Q <= kc; k += Q) transpose_block(from + j * ldb + k, ldb, to + k * width + j, width);
            for (; k < kc; ++k)
                for (size_t i = 0; i < T; ++i) to[k * width + j + i] = from[(j + i) * ldb + k];
        }
        if (blocks < width)
            for (size_t k = 0; k < kc; ++k)
                for (size_t j = blocks; j < width; ++j)
                    to[k * width + j] = j < cols ? from[j * ldb + k] : Real(0);
    }
}

// Past the caches, a cache line of each of b's rows at a time.
void stream_columns(const Real* b, size_t ldb, size_t kc, size_t nc, size_t width, Real* to) {
    constexpr size_t kLine = 64 / sizeof(Real);
    alignas(64) Real lines[kLine * NR * W];
    for (size_t n = 0; n < nc; n += width, to += kc * width)
        for (size_t k = 0; k < kc; k += kLine) {
            const size_t rows = kc - k < kLine ? kc - k : kLine;
            pack_columns(b + n * ldb + k, ldb, rows, nc - n < width ? nc - n : width, width, lines);
            for (size_t i = 0; i < rows * width; i += W) stream(to + k * width + i, load(lines + i));
        }
    streamed();
}

// a's rows, copied kc + kPad apart: what was a power-of-two stride now falls into all sets of the cache. The tile kernel
// reads rows as they are, so this runs at the speed of memcpy.
constexpr size_t kPad = 64 / sizeof(Real);
void pack_a_rows(const Real* a, size_t lda, size_t mc, size_t kc, Real* to) {
    for (size_t m = 0; m < mc; ++m)
        for_vectors(kc, [&](size_t k, auto lanes) {
            store(to + m * (kc + kPad) + k, load(a + m * lda + k, lanes), lanes);
        });
}

// a stored transposed, as the tiles of tile_rows, each k-major: the tile of row m at m * kc, a(i, k) at k * rows + i.
void pack_a_columns(const Real* a, size_t lda, size_t mc, size_t kc, Real* to) {
    for (size_t m = 0; m < mc;) {
        const size_t rows = tile_rows(mc - m);
        Real* out = to + m * kc;
        // Whole vectors are stored: what they write beyond their rows, the next k or the next tile overwrites.
        for (size_t k = 0; k < kc; ++k, out += rows)
            for_vectors(rows,
                        [&](size_t i, auto lanes) { store(out + i, load(a + k * lda + m + i, lanes)); });
        m += rows;
    }
}

}  // namespace
