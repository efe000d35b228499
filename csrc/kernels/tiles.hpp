// The micro-kernel of a product: tiles of c that stay in registers. No blocking, no packing: gemm.hpp and packing.hpp have
// those.
#pragma once

#include "simd.hpp"

namespace {

// Register tiles of MR rows by NR vectors: accumulators + vectors of b + a broadcast <= registers.
#if FASTNN_VECTOR_BYTES == 64
constexpr size_t MR = 12, NR = 2;  // 12x32 float: 24 + 2 + 1 = 27 of 32 zmm
#elif defined(__aarch64__)
constexpr size_t MR = 8, NR = 3;  // 8x12 float: 24 + 3 + 2 = 29 of 32
#else
constexpr size_t MR = 6, NR = 2;  // 6x16 float: 12 + 2 + 1 = 15 of 16 ymm; 6x8: the same of 16 xmm
#endif
constexpr size_t kPanel = NR * W;  // columns of a panel
constexpr size_t kWide = 8;  // vectors a few-row tile may span: 1x64 float has 8 independent chains, not 2

// c (R, C vectors, the last with `lanes` of W) = (first ? bias : c) + a b over K.
// a(i, k) is a[k * lda + i] if across (packed, or transposed), else a[i * lda + k].
// b(k, :) is b + k * ldb; partial: its last vector must be loaded in part (it is not packed and padded).
using Micro = void (*)(size_t K, const Real* a, size_t lda, const Real* b, size_t ldb, const Real* bias,
                       bool first, Real* c, size_t ldc, size_t lanes);

// A tile of c in registers: begun, made of runs of k, stored.
template <size_t R, size_t C, bool partial>
struct Tile {
    V acc[R][C];
    size_t lanes;

    FASTNN_INLINE V last(const Real* p) const { return lanes == W ? load(p) : load_part(p, lanes); }

    FASTNN_INLINE Tile(const Real* bias, bool first, const Real* c, size_t ldc, size_t lanes_)
        : lanes(lanes_) {
        if (first) {
            FASTNN_UNROLL
            for (size_t j = 0; j < C; ++j) {
                const V start = bias == nullptr ? V{} : j + 1 < C ? load(bias + j * W) : last(bias + j * W);
                FASTNN_UNROLL
                for (size_t i = 0; i < R; ++i) acc[i][j] = start;
            }
        } else {
            FASTNN_UNROLL
            for (size_t i = 0; i < R; ++i) FASTNN_UNROLL
            for (size_t j = 0; j < C; ++j)
                acc[i][j] = j + 1 < C ? load(c + i * ldc + j * W) : last(c + i * ldc + j * W);
        }
    }

    template <bool across>
    FASTNN_INLINE void add(size_t K, const Real* __restrict a, size_t lda, const Real* __restrict b,
                           size_t ldb) {
        // By 4: of the 25 instructions around 12 FMAs, a fifth only count.
        FASTNN_UNROLL_BY_4
        for (size_t k = 0; k < K; ++k, b += ldb) {
            V row[C];
            FASTNN_UNROLL
            for (size_t j = 0; j < C; ++j)
                row[j] = partial && j + 1 == C ? load_part(b + j * W, lanes) : load(b + j * W);
            FASTNN_UNROLL
            for (size_t i = 0; i < R; ++i) {
                const V x = broadcast(across ? a[i] : a[i * lda]);
                FASTNN_UNROLL
                for (size_t j = 0; j < C; ++j) acc[i][j] += x * row[j];
            }
            a += across ? lda : 1;
        }
    }

    FASTNN_INLINE void end(Real* c, size_t ldc) const {
        FASTNN_UNROLL
        for (size_t i = 0; i < R; ++i) FASTNN_UNROLL
        for (size_t j = 0; j < C; ++j)
            if (j + 1 < C || lanes == W)
                store(c + i * ldc + j * W, acc[i][j]);
            else
                store_part(c + i * ldc + j * W, acc[i][j], lanes);
    }
};

template <size_t R, size_t C, bool across, bool partial>
void micro(size_t K, const Real* __restrict a, size_t lda, const Real* __restrict b, size_t ldb,
           const Real* bias, bool first, Real* c, size_t ldc, size_t lanes) {
    Tile<R, C, partial> tile(bias, first, c, ldc, lanes);
    tile.template add<across>(K, a, lda, b, ldb);
    tile.end(c, ldc);
}

template <size_t R, size_t C>
constexpr bool kHasTile = R >= 1 && C >= 1 && (C <= NR || R * C <= MR * NR);

struct MicroRow {
    Micro tile[MR + 1][kWide + 1];  // [rows][vectors]
};
template <bool across, bool partial, size_t R, size_t C>
constexpr void fill(MicroRow& t) {
    if constexpr (kHasTile<R, C>) t.tile[R][C] = micro<R, C, across, partial>;
    if constexpr (C < kWide)
        fill<across, partial, R, C + 1>(t);
    else if constexpr (R < MR)
        fill<across, partial, R + 1, 1>(t);
}
template <bool across, bool partial>
constexpr MicroRow micro_row() {
    MicroRow t{};
    fill<across, partial, 1, 1>(t);
    return t;
}
constexpr MicroRow kMicro[2][2] = {{micro_row<false, false>(), micro_row<false, true>()},
                                   {micro_row<true, false>(), micro_row<true, true>()}};

// Rows of the next tile when `left` remain: 8 rows are 4 + 4, not 6 + 2, whose second tile would starve the
// FMA units.
FASTNN_INLINE size_t tile_rows(size_t left) {
    return left >= 2 * MR || left == MR ? MR : left > MR ? (left + 1) / 2 : left;
}

}  // namespace
