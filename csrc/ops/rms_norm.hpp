// rms_norm: the channels of each row to root mean square 1, then scaled. Zhang & Sennrich 2019.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct rms_norm : Operation {
    static constexpr Spec spec{.name = "rms_norm",
                               .params = "gamma:O",
                               .settings = "epsilon",
                               .scratch = "inv_rms:N",
                               .forward = "x gamma epsilon -> inv_rms a",
                               .backward = "x gamma inv_rms da -> dx~da dgamma"};

    static void forward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real *x = c.x + first * O, *gamma = c.params[0];
        Real *inv_rms = scratch<Real>(c, 0) + first, *a = c.a + first * O;
        const Real epsilon = static_cast<Real>(c.settings[0]), outputs = static_cast<Real>(O);
        share(rows.size() * c.P, 0.4 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real* xi = x + i * O;
                Real* ai = a + i * O;
                const Real square = row_sum(O,
                                            [&](size_t j, auto lanes) {
                                                const V v = load(xi + j, lanes);
                                                return v * v;
                                            }) /
                                    outputs;
                if (!is_finite(square)) {
                    large_row(c, xi, ai, &inv_rms[i]);
                    continue;
                }
                const Real scale = 1 / sqrt(square + epsilon);
                inv_rms[i] = scale;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(ai + j, load(gamma + j, lanes) * (load(xi + j, lanes) * scale), lanes);
                });
            }
        });
    }

    // A row again, whose squares are beyond Real's range. Not inlined, as in layer_norm.
    [[gnu::noinline, gnu::cold]] static void large_row(const Call& c, const Real* x, Real* a, Real* inv_rms) {
        const LargeMoments m(c.O, 1, x);
        const double rms = __builtin_sqrt(m.var + m.mean * m.mean + c.settings[0] / m.peak / m.peak);
        for (size_t j = 0; j < c.O; ++j) a[j] = c.params[0][j] * static_cast<Real>(x[j] / m.peak / rms);
        *inv_rms = static_cast<Real>(1 / rms / m.peak);
    }

    static void backward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real *x = c.x + first * O, *gamma = c.params[0], *da = c.da + first * O;
        const Real* inv_rms = scratch<Real>(c, 0) + first;
        Real* dx = c.dx + first * O;
        const Real outputs = static_cast<Real>(O);
        share(rows.size() * c.P, 0.5 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real *xi = x + i * O, *di = da + i * O;
                Real* out = dx + i * O;
                const Real scale = inv_rms[i];
                const auto x_hat = [&](size_t j, auto lanes) { return load(xi + j, lanes) * scale; };
                const auto dx_hat = [&](size_t j, auto lanes) {
                    return load(di + j, lanes) * load(gamma + j, lanes);
                };
                const Real slope =
                    row_sum(O, [&](size_t j, auto lanes) { return dx_hat(j, lanes) * x_hat(j, lanes); }) /
                    outputs;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(out + j, scale * (dx_hat(j, lanes) - x_hat(j, lanes) * slope), lanes);
                });
            }
        });
    }

    static void gradient(const Call& c, int, const Range&, Real*) {
        const size_t O = c.O, N = c.B * c.P;
        const Real *x = c.x, *da = c.da, *inv_rms = scratch<Real>(c, 0);
        for_columns(N, O, 0.3, [&](size_t j, auto lanes) {
            store(c.dparams[0] + j,
                  rows_sum(N,
                           [&](size_t i) {
                               return load(da + i * O + j, lanes) * (load(x + i * O + j, lanes) * inv_rms[i]);
                           }),
                  lanes);
        });
    }
};

}  // namespace
}  // namespace ops
