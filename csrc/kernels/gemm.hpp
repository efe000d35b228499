// Matrix products c = a b (+ bias), tiled in registers and blocked for the caches, with something done to
// each block of c while it is in the L1 cache. No activations by name, no public entry points: ops/dense.hpp has
// those.
//
// Every element of c is one sum, bias + a(m,0) b(0,n) + a(m,1) b(1,n) + ..., added in that order (blocks of k
// go through c, which loses nothing), whatever the tile, the row, the packing and the thread. So a row has
// the same bits in any batch. The one exception, products with one or two columns, depends on K and N alone:
// see `is_narrow`.
#pragma once

#include "activations.hpp"
#include "packing.hpp"
#include "parallel.hpp"

namespace {

constexpr size_t NC = 1024;     // columns of b packed at a time: 1024 x KC float = 1.5 MB of L3
constexpr size_t MC = 16 * MR;  // rows of a packed at a time: 96 x KC float = 144 kB of L2
// An NR panel of b: 384 x 16 float = 24 kB of L1. With AVX-512 it is in L2 anyway, 1 MB on every CPU that has it: 512
// instead of 384, with fewer passes over c, takes 512 x 2048 x 2048 from 80 to 87 % of the peak (Zen 4).
constexpr size_t KC = (FASTNN_VECTOR_BYTES == 64 ? 512 : 384) / (kFloat ? 1 : 2);
// Rows of b that few-row products sweep at a time, all columns in turn. Rows a page apart (2048 floats) fall into one set
// of L1, which holds 8 lines: 8 rows make 20 GFLOP/s of a 1x2048x2048 product, 32 rows 12; with short rows it is 20 to 30.
FASTNN_INLINE size_t streamed_rows(size_t ldb) { return ldb * sizeof(Real) >= 4096 ? 8 : 32; }

enum class Form { NN, NT, TN };  // which of a, b is stored transposed

// Handed down by reference, never copied on the way: a copy reads in one vector what was written field by field a moment
// ago, and waits until all of it has left the store buffer. 40 cycles a product, 3 % of a step of 10-32-1.
struct Product {
    Form form;
    size_t M, N, K;
    const Real* a;  // (M, K); TN: (K, M)
    size_t lda;
    const Real* b;  // (K, N); NT: (N, K)
    size_t ldb;
    const Real* bias;  // (N,) or null: zeros
    Real* c;           // (M, N)
    size_t ldc;
    const Real* panels = nullptr;  // b packed for all of K, see pack_rows and pack_columns; null: not packed
};

// What happens to a finished block of c: out = block(in, c), in or out being matrices of c's shape.
struct Epilogue {
    Block block = nullptr;
    const Real* in = nullptr;  // null: c
    size_t ldin = 0;
    Real* out = nullptr;
    size_t ldout = 0;
    Parameter parameter;

    void run(const Product& p, size_t m, size_t n, size_t rows, size_t cols) const {
        if (block == nullptr) return;
        const Real* c = p.c + m * p.ldc + n;
        const Real* from = in ? in + m * ldin + n : c;
        block(rows, cols, from, in ? ldin : p.ldc, c, p.ldc, out + m * ldout + n, ldout, parameter);
    }
    Epilogue at(size_t m, size_t n) const {
        Epilogue e = *this;
        if (in) e.in += m * ldin + n;
        if (out) e.out += m * ldout + n;
        return e;
    }
};

// A few columns, by dot products: vectors along k instead of a vector along n that is mostly empty. Two loads a vector
// of a product, and 3 instructions to add up its lanes: 32 x 30 x 2 takes 0.21 us instead of 0.34.
FASTNN_INLINE bool is_narrow(const Product& p) {
    return p.form != Form::TN && p.N <= 4 && p.N * (2 * (p.K / W) + 4) <= p.K;
}

// c(m .. m + rows, n) = what the lanes of each product add up to + bias(n)
FASTNN_INLINE void store_narrow(const Product& p, size_t m, size_t n, size_t rows, V (&products)[W]) {
    const V total = sums<W / 2>(products) + (p.bias ? p.bias[n] : Real(0));
    Real* c = p.c + m * p.ldc + n;
    if (p.ldc == 1)
        rows == W ? store(c, total) : store_part(c, total, rows);
    else
        for (size_t r = 0; r < rows; ++r) c[r * p.ldc] = total[r];
}

void narrow(const Product& p, const Epilogue& e) {
    const Real* columns = p.b;  // N rows of K
    size_t ld = p.ldb;
    if (p.form == Form::NN) {
        ld = p.K;
        if (p.N > 1 || p.ldb > 1) {
            Real* copy = static_cast<Real*>(fastnn::scratch(fastnn::kPackB, p.N * p.K * sizeof(Real)));
            for (size_t k = 0; k < p.K; ++k)
                for (size_t n = 0; n < p.N; ++n) copy[n * p.K + k] = p.b[k * p.ldb + n];
            columns = copy;
        }
    }
    const size_t whole = p.K / W * W, tail = p.K - whole;
    for (size_t m = 0; m < p.M; m += W) {
        const size_t rows = p.M - m < W ? p.M - m : W;
        for (size_t n = 0; n < p.N; ++n) {
            const Real* y = columns + n * ld;
            const V y_tail = tail > 0 ? load_part(y + whole, tail) : V{};
            V products[W];
            for (size_t r = rows; r < W; ++r) products[r] = V{};
            for (size_t r = 0; r < rows; ++r) {
                const Real* x = p.a + (m + r) * p.lda;
                V s{};
                for (size_t k = 0; k < whole; k += W) s += load(x + k) * load(y + k);
                if (tail > 0) s += load_part(x + whole, tail) * y_tail;
                products[r] = s;
            }
            store_narrow(p, m, n, rows, products);
        }
    }
    e.run(p, 0, 0, p.M, p.N);
}

void multiply_packed(const Product& p, const Epilogue& e);

// A gradient with few columns, x^T dz, is dz^T x transposed: the same sums, in whole vectors along the inputs. 32 rows
// of 30 x 2 take 0.14 us instead of 0.33.
FASTNN_INLINE bool is_thin(const Product& p) { return p.form == Form::TN && 2 * p.N <= W && p.M >= p.N; }

void thin(const Product& p) {
    const bool in_place = p.N == 1 && p.ldc == 1;
    Real* const c =
        in_place ? p.c : static_cast<Real*>(fastnn::scratch(fastnn::kThin, p.M * p.N * sizeof(Real)));
    multiply_packed({Form::TN, p.N, p.M, p.K, p.b, p.ldb, p.a, p.lda, nullptr, c, p.M}, {});
    if (in_place) return;
    for (size_t m = 0; m < p.M; ++m)
        for (size_t n = 0; n < p.N; ++n) p.c[m * p.ldc + n] = c[n * p.M + m];
}

void multiply_packed(const Product& p, const Epilogue& e) {
    // Packing b costs a pass over it: paid back by tall products, and where the rows of an unpacked panel
    // would fall into few cache sets (a power-of-two row stride) or out of L1.
    const bool across = p.form == Form::TN;
    const bool packed = p.panels != nullptr && p.M >= MR;  // already
    const bool pack_b = packed || p.form == Form::NT || (p.M > 3 * MR && p.K * p.N * sizeof(Real) > 16384);
    // Packing a: only where many panels of b pass over it, and where its own rows are far apart; twice as many where rows
    // lie in one piece already. 2000 x 784 x 128 without it: 0.90 of the peak instead of 0.78.
    const bool pack_a =
        pack_b && p.N >= (across ? 4 : 8) * NR * W && p.K >= 32 && p.M * p.K * sizeof(Real) > 32768;

    // Blocks of k of equal size.
    const size_t most = pack_b ? KC : p.K * p.N * sizeof(Real) > 24576 ? streamed_rows(p.ldb) : p.K;
    const size_t blocks = p.K > most ? (p.K + most - 1) / most : 1;
    const size_t kc_each =
        blocks > 1 ? (p.K + blocks - 1) / blocks : p.K;  // a division is 5 ns, a small product 100
    // Few rows use a packed panel once or twice: it then stays in L1 instead of passing through L2.
    const size_t vectors = p.M >= MR               ? NR
                           : MR * NR / p.M < kWide ? MR * NR / p.M
                                                   : kWide,
                 width = vectors * W;
    const size_t nc_each = packed || !pack_b ? p.N : p.M <= 2 * MR ? width : NC;

    for (size_t n0 = 0; n0 < p.N; n0 += nc_each) {
        const size_t nc = p.N - n0 < nc_each ? p.N - n0 : nc_each;
        for (size_t k0 = 0, block = 0; block < blocks; ++block, k0 += kc_each) {
            const size_t kc = k0 + kc_each < p.K ? kc_each : p.K - k0;
            const bool first = block == 0, finished = block + 1 == blocks;

            // pack b
            const Real* b = p.b + k0 * p.ldb + n0;
            size_t stride = kc * width;
            if (packed) {
                b = p.panels + k0 * width;
                stride = p.K * width;
            } else if (pack_b) {
                const size_t padded = (nc + width - 1) / width * width;
                Real* to =
                    static_cast<Real*>(fastnn::scratch(fastnn::kPackB, padded * kc * sizeof(Real) + 64));
                if (p.form == Form::NT)
                    pack_columns(p.b + n0 * p.ldb + k0, p.ldb, kc, nc, width, to);
                else
                    pack_rows(b, p.ldb, kc, nc, width, to, stride);
                b = to;
            }

            for (size_t m0 = 0; m0 < p.M; m0 += MC) {
                // pack a
                const size_t mc = p.M - m0 < MC ? p.M - m0 : MC;
                const Real* a = across ? p.a + k0 * p.lda + m0 : p.a + m0 * p.lda + k0;
                size_t lda = p.lda;
                if (pack_a) {
                    Real* to = static_cast<Real*>(
                        fastnn::scratch(fastnn::kPackA, (mc * (kc + kPad) + 2 * W) * sizeof(Real)));
                    across ? pack_a_columns(a, lda, mc, kc, to) : pack_a_rows(a, lda, mc, kc, to);
                    a = to;
                    lda = kc + kPad;
                }

                // micro-kernels, panel by panel; then the panel's epilogue, while its rows are in L1
                const Real* panel = b;
                const size_t next = pack_b ? stride : width;
                for (size_t n = 0; n < nc; n += width, panel += next) {
                    const size_t cols = nc - n < width ? nc - n : width;
                    const size_t used = (cols + W - 1) / W, lanes = cols - (used - 1) * W;
                    const size_t ldb = pack_b ? width : p.ldb;
                    const auto& tiles = kMicro[across][!pack_b && lanes < W].tile;
                    for (size_t m = 0; m < mc;) {
                        const size_t rows = tile_rows(mc - m);
                        const Real* tile = !across ? a + m * lda : pack_a ? a + m * kc : a + m;
                        tiles[rows][used](kc, tile, across && pack_a ? rows : lda, panel, ldb,
                                          p.bias ? p.bias + n0 + n : nullptr, first,
                                          p.c + (m0 + m) * p.ldc + n0 + n, p.ldc, lanes);
                        m += rows;
                    }
                    if (finished) e.run(p, m0, n0 + n, mc, cols);
                }
            }
        }
    }
}

// One row times a transposed matrix, c(n) = sum over k of a(k) b(n, k) in the order of k, without packing: b is read once,
// along its rows, and transposed in registers.
void row_times_transposed(const Product& p) {
    constexpr size_t G =
        2;  // groups of T rows: as many rows as a set of L1 has lines, should b's rows share one
    size_t n = 0;
    for (; n + G * T <= p.N; n += G * T) {
        VT acc[G] = {};
        if (p.bias)
            for (size_t g = 0; g < G; ++g) __builtin_memcpy(&acc[g], p.bias + n + g * T, sizeof(VT));
        const Real* b = p.b + n * p.ldb;
        size_t k = 0;
        for (; k + Q <= p.K; k += Q) {
            if (k % kPad == 0)  // a cache line of each row, 8 ahead: more rows than the hardware follows
                for (size_t r = 0; r < G * T; ++r) __builtin_prefetch(b + r * p.ldb + k + 8 * kPad);
            FASTNN_UNROLL
            for (size_t g = 0; g < G; ++g) {
                const Columns t = transpose(b + g * T * p.ldb + k, p.ldb);
                FASTNN_UNROLL
                for (size_t i = 0; i < Q; ++i) acc[g] += (p.a[k + i] - VT{}) * t.c[i];
            }
        }
        for (; k < p.K; ++k)
            for (size_t g = 0; g < G; ++g) {
                VT column;
                for (size_t i = 0; i < T; ++i) column[i] = b[(g * T + i) * p.ldb + k];
                acc[g] += (p.a[k] - VT{}) * column;
            }
        for (size_t g = 0; g < G; ++g) __builtin_memcpy(p.c + n + g * T, &acc[g], sizeof(VT));
    }
    if (n == p.N) return;
    Product rest = p;
    rest.N = p.N - n, rest.b += n * p.ldb, rest.c += n;
    if (rest.bias) rest.bias += n;
    multiply_packed(rest, {});
}

// by_dots: is_narrow of the whole product, of which p may be a part
void multiply_on_one_thread(const Product& p, const Epilogue& e, bool by_dots) {
    if (by_dots) return narrow(p, e);
    if (is_thin(p) && e.block == nullptr) return thin(p);
    if (p.form != Form::NT || p.M > 1) return multiply_packed(p, e);
    row_times_transposed(p);
    e.run(p, 0, 0, 1, p.N);
}

// c cut into rows x columns rectangles, one a thread: no two threads write to the same element, none shares a
// sum.
struct Parallel {
    Product p;
    Epilogue e;
    bool by_dots;
    size_t rows, cols;

    static void task(void* context, int t) {
        const Parallel& all = *static_cast<Parallel*>(context);
        const size_t r = static_cast<size_t>(t) / all.cols, s = static_cast<size_t>(t) % all.cols;
        // cuts at whole tiles
        const size_t m_step = ((all.p.M + all.rows - 1) / all.rows + MR - 1) / MR * MR;
        const size_t n_step = ((all.p.N + all.cols - 1) / all.cols + NR * W - 1) / (NR * W) * (NR * W);
        const size_t m = r * m_step, n = s * n_step;
        if (m >= all.p.M || n >= all.p.N) return;
        Product p = all.p;
        p.M = p.M - m < m_step ? p.M - m : m_step;
        p.N = p.N - n < n_step ? p.N - n : n_step;
        p.a += p.form == Form::TN ? m : m * p.lda;
        p.b += p.form == Form::NT ? n * p.ldb : n;
        if (p.panels) p.panels += n * p.K;
        if (p.bias) p.bias += n;
        p.c += m * p.ldc + n;
        multiply_on_one_thread(p, all.e.at(m, n), all.by_dots);
    }
};

void multiply(const Product& p, const Epilogue& e) {
    if (p.M == 0 || p.N == 0) return;
    const bool by_dots = is_narrow(p);
    // 2 FMA units of W lanes at 3 GHz; half of that for what is not a product. No division: it takes 14 cycles.
    constexpr double ns_each = 1 / (3.0 * W);
    const double ns =
        static_cast<double>(p.M) * static_cast<double>(p.N) * static_cast<double>(p.K + 4) * ns_each;
    const int threads = fastnn::threads_for(ns);
    if (threads == 1) return multiply_on_one_thread(p, e, by_dots);
    // Each row cut packs b once more, each column cut a: as little packing as the shape allows, tiles for
    // everyone.
    Parallel all{p, e, by_dots, 1, 1};
    double best = -1;
    for (size_t cols = 1; cols <= static_cast<size_t>(threads); ++cols) {
        if (threads % cols != 0) continue;
        const size_t rows = threads / cols;
        if (cols > 1 && (p.N < cols * NR * W || by_dots)) continue;
        const double packing = static_cast<double>(rows) * p.N + static_cast<double>(cols) * p.M;
        const double idle = rows > 1 && p.M < rows * MR ? 1e12 : 0;
        if (best < 0 || packing + idle < best) best = packing + idle, all.rows = rows, all.cols = cols;
    }
    fastnn::run_tasks(threads, ns, Parallel::task, &all);
}

}  // namespace
