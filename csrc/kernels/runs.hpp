// Products whose k goes in runs, the one a stride away from the other: what a convolution makes of rows of an image that lie
// there as they are, without a copy of each patch. Tiles as in tiles.hpp, for panels of kPanel columns and no wider.
#pragma once

#include "packing.hpp"

namespace {

// k: `outer` times `inner` runs of K. Where each run begins, in a and in b.
struct Runs {
    size_t outer, inner, K;
    ptrdiff_t a_outer, a_inner, b_outer, b_inner;
};

// As Micro, but for the runs.
using MicroRuns = void (*)(const Runs& runs, const Real* a, size_t lda, const Real* b, size_t ldb,
                           const Real* bias, bool first, Real* c, size_t ldc, size_t lanes);

template <size_t R, size_t C, bool across, bool partial>
void micro_runs(const Runs& runs, const Real* a, size_t lda, const Real* b, size_t ldb, const Real* bias,
                bool first, Real* c, size_t ldc, size_t lanes) {
    Tile<R, C, partial> tile(bias, first, c, ldc, lanes);
    for (size_t o = 0; o < runs.outer; ++o, a += runs.a_outer, b += runs.b_outer) {
        const Real *ai = a, *bi = b;
        for (size_t i = 0; i < runs.inner; ++i, ai += runs.a_inner, bi += runs.b_inner)
            tile.template add<across>(runs.K, ai, lda, bi, ldb);
    }
    tile.end(c, ldc);
}

struct RunsRow {
    MicroRuns tile[MR + 1][NR + 1];  // [rows][vectors]
};
template <bool across, bool partial, size_t R, size_t C>
constexpr void fill_runs(RunsRow& t) {
    t.tile[R][C] = micro_runs<R, C, across, partial>;
    if constexpr (C < NR)
        fill_runs<across, partial, R, C + 1>(t);
    else if constexpr (R < MR)
        fill_runs<across, partial, R + 1, 1>(t);
}
template <bool across, bool partial>
constexpr RunsRow runs_row() {
    RunsRow t{};
    fill_runs<across, partial, 1, 1>(t);
    return t;
}
constexpr RunsRow kRuns[2][2] = {{runs_row<false, false>(), runs_row<false, true>()},
                                 {runs_row<true, false>(), runs_row<true, true>()}};

// The right matrix of such products: as it lies, where it is one panel, or packed.
struct Panels {
    const Real* data;
    size_t ld, stride;  // of rows, and from one panel to the next
    bool partial;       // its last vector ends where the matrix ends
};

// c (M, N) = (first ? bias : c) + a b: rows of a `lda` apart, or side by side if `across`; panels of b.
template <bool across>
void multiply_runs(const Runs& runs, size_t M, size_t N, const Real* a, size_t lda, const Panels& b,
                   const Real* bias, bool first, Real* c, size_t ldc) {
    for (size_t n = 0; n < N; n += kPanel) {
        const size_t cols = N - n < kPanel ? N - n : kPanel;
        const size_t used = (cols + W - 1) / W, lanes = cols - (used - 1) * W;
        const auto& tiles = kRuns[across][b.partial && lanes < W].tile;
        const Real* const panel = b.data + n / kPanel * b.stride;
        for (size_t m = 0; m < M;) {
            const size_t rows = tile_rows(M - m);
            tiles[rows][used](runs, a + m * (across ? 1 : lda), lda, panel, b.ld, bias ? bias + n : nullptr,
                              first, c + m * ldc + n, ldc, lanes);
            m += rows;
        }
    }
}

}  // namespace
