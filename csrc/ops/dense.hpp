// dense: a = f(x w + b). The three products of a layer, each fused with what surrounds it; blocking and tiles are gemm.hpp's.
#pragma once

#include "../kernels/gemm.hpp"
#include "../kernels/serve.hpp"
#include "../kernels/serve_int8.hpp"
#include "../kernels/sparse.hpp"
#include "operation.hpp"

namespace ops {
namespace {

// Copies that products read their right matrix from: panels of w and of dz as they are, and of w transposed. Packing is a
// tenth of a product that packs for itself; it pays where the matrix would not stay in half of L1, or would have to be
// transposed by every task.
struct dense : Operation {
    static constexpr Spec spec{.name = "dense",
                               .params = "w:IO b:O",
                               .forward = "x w b activation -> z a~z",
                               .backward = "x w below saved dz -> dx? dw db",
                               .x = "NI"};
    static constexpr bool sparse = true;
    enum { kWeight, kTransposed, kGradient, kServed };

    static bool large(size_t elements) { return elements * sizeof(Real) > 16384; }

    static size_t packed(const Call& c, const fastnn::Use& use, int which) {
        if (c.whole) return 0;
        const auto panels = [](bool wanted, size_t columns, size_t depth) {
            return wanted ? (columns + kPanel - 1) / kPanel * kPanel * depth : 0;
        };
        const bool learns = use.training && use.learns, reads_x = !use.sparse;
        const Served served{c.I, c.O};
        if (use.serving) {
            if (which == kServed) return served.elements();
            return panels(which == kWeight && !served.narrow(), c.O, c.I);
        }
        switch (which) {
            case kWeight:
                return panels(reads_x && (learns ? large(c.I * c.O) : packs_to_predict(c, use)), c.O, c.I);
            case kTransposed:
                return panels(learns && use.wants_dx, c.I, c.O);
            case kGradient:
                return panels(reads_x && learns && large(use.rows * c.P * c.O) && c.I >= 3 * kPanel, c.O,
                              use.rows * c.P);
        }
        return 0;
    }
    // A prediction of so many rows would pack w for every 512 of them: 0.75 to 0.88 of onnxruntime on 784-128-10.
    static bool packs_to_predict(const Call& c, const fastnn::Use& use) {
        return !use.training && use.rows * c.P > 512 && large(c.I * c.O);
    }

    static void pack(const Call& c, int, Range rows) {
        const Real* w = c.params[0] + rows.begin * c.O;
        const size_t n = rows.size();
        if (c.packed[kWeight])
            pack_rows(w, c.O, n, c.O, kPanel, c.packed[kWeight] + rows.begin * kPanel, c.I * kPanel,
                      c.streaming);
        if (c.packed[kTransposed])
            (c.streaming ? stream_columns : pack_columns)(w, c.O, c.O, n, kPanel,
                                                          c.packed[kTransposed] + rows.begin * c.O);
        if (c.packed[kServed]) Served{c.I, c.O}.pack(c.params[0], c.params[1], c.packed[kServed], rows);
    }

    static void forward(const Call& c, Range rows) {
        const size_t first = rows.begin * c.P, N = rows.size() * c.P;
        if (c.whole) return forward_whole(c, first, N);
        Real *z = c.z + first * c.O, *a = c.a + first * c.O;
        Epilogue e;
        if (c.activation.code != kActivation_identity || a != z) {
            e.block = forward_of(c.activation.code);
            e.out = a, e.ldout = c.O, e.parameter = parameter_of(c.activation.code, c.activation.alpha);
        }
        const Real* x = c.sparse ? nullptr : c.x + first * c.I;
        const Product p{Form::NN,    N,   c.O,         c.I, x,   c.I,
                        c.params[0], c.O, c.params[1], z,   c.O, c.packed[kWeight]};
        if (c.sparse) return multiply_sparse(*c.sparse, c.order + first, p, e);
        multiply(p, e);
    }

    static void serve(const Call& c, size_t rows) {
        const size_t N = rows * c.P;
        if (c.whole || N > kFew) return forward(c, {0, rows});
        serve_product({c.I, c.O}, N, c.x, c.packed[kWeight], c.packed[kServed], c.a);
        activate_rows(c, N, c.a);
    }
    static void activate_rows(const Call& c, size_t N, Real* a) {
        if (c.activation.code != kActivation_identity)
            forward_of(c.activation.code)(N, c.O, a, c.O, nullptr, 0, a, c.O,
                                          parameter_of(c.activation.code, c.activation.alpha));
    }

    // Rows `first` .. first + N - 1, with the matrix in whole numbers: so many at a time that the activation finds them in L2,
    // 48 x 1024 floats being 192 kB.
    static constexpr size_t kWholeRows = 48;
    static void forward_whole(const Call& c, size_t first, size_t N) {
        for (size_t n = 0; n < N; n += kWholeRows) {
            const size_t rows = N - n < kWholeRows ? N - n : kWholeRows;
            Real* const a = c.a + (first + n) * c.O;
            c.whole->multiply(*c.whole, rows, c.x + (first + n) * c.I, a);
            activate_rows(c, rows, a);
        }
    }

    // dx = (dz w^T) * f'(saved)
    static void backward(const Call& c, Range rows) {
        const size_t first = rows.begin * c.P, N = rows.size() * c.P;
        Real* dx = c.dx + first * c.I;
        Epilogue e;
        if (c.below.code != kActivation_identity) {
            e.block = backward_of(c.below.code);
            e.in = c.saved + first * c.I, e.ldin = c.I, e.out = dx, e.ldout = c.I;
            e.parameter = parameter_of(c.below.code, c.below.alpha);
        }
        multiply({Form::NT, N, c.I, c.O, c.da + first * c.O, c.O, c.params[0], c.O, nullptr, dx, c.I,
                  c.packed[kTransposed]},
                 e);
    }

    // dz packed for the gradient: the panels of a run of rows, then those of the next.
    static Real* panels_of(const Call& c, size_t run) {
        return c.packed[kGradient] + run * ((c.O + kPanel - 1) / kPanel * kPanel);
    }
    static void prepare(const Call& c, Range rows) {
        if (!c.packed[kGradient]) return;
        const size_t N = c.B * c.P, last = rows.end * c.P;
        for (size_t first = rows.begin * c.P, end; first < last; first = end) {
            const size_t run = first / kRun * kRun;
            end = run_end(run, last);
            pack_rows(c.da + first * c.O, c.O, end - first, c.O, kPanel,
                      panels_of(c, run) + (first - run) * kPanel, (run_end(run, N) - run) * kPanel, false);
        }
    }

    // dw = x^T dz, db = column sums of dz
    static void gradient(const Call& c, int tensor, const Range& rows, Real* g) {
        const size_t N = c.B * c.P, first = rows.begin, M = rows.size();
        if (tensor < 0) return column_sums(N, c.O, c.da, c.O, c.dparams[1]);
        sum_of_runs(N, M * c.O, g, [&c, first, M](size_t begin, size_t end, Real* values) {
            gradient_of_run(c, begin, end - begin, first, M, values);
        });
    }

    // What K rows of the batch, from `run`, have in M rows of dw, from `first`.
    static void gradient_of_run(const Call& c, size_t run, size_t K, size_t first, size_t M, Real* g) {
        const Real* dz = c.da + run * c.O;
        if (c.sparse)
            return multiply_sparse_transposed(*c.sparse, c.order + run, K, {first, first + M}, dz, c.O, g);
        multiply({Form::TN, M, c.O, K, c.x + run * c.I + first, c.I, dz, c.O, nullptr, g, c.O,
                  c.packed[kGradient] ? panels_of(c, run) : nullptr},
                 {});
    }

    static double ns(size_t N, size_t I, size_t O, const double* settings) {
        return Operation::ns(N, I, O, settings) +
               static_cast<double>(N) * static_cast<double>(O) * static_cast<double>(I) / (3.0 * W);
    }
};

}  // namespace
}  // namespace ops
