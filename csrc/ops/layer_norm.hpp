// layer_norm: the channels of each row to mean 0 and variance 1, then scaled and shifted. Ba et al. 2016.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct layer_norm : Operation {
    static constexpr Spec spec{.name = "layer_norm",
                               .params = "gamma:O beta:O",
                               .settings = "epsilon",
                               .scratch = "mean:N inv_std:N",
                               .forward = "x gamma beta epsilon -> mean inv_std a",
                               .backward = "x gamma mean inv_std da -> dx~da dgamma dbeta"};

    static void forward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real *x = c.x + first * O, *gamma = c.params[0], *beta = c.params[1];
        Real *mean = scratch<Real>(c, 0) + first, *inv_std = scratch<Real>(c, 1) + first,
             *a = c.a + first * O;
        const double epsilon = c.settings[0];
        const Real outputs = static_cast<Real>(O);
        share(rows.size() * c.P, 0.5 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real* xi = x + i * O;
                Real* ai = a + i * O;
                const Real mu =
                    row_sum(O, [&](size_t j, auto lanes) { return load(xi + j, lanes); }) / outputs;
                const Real var = row_sum(O,
                                         [&](size_t j, auto lanes) {
                                             const V d = load(xi + j, lanes) - mu;
                                             return d * d;
                                         }) /
                                 outputs;
                if (!is_finite(var)) {
                    large_row(c, xi, ai, &mean[i], &inv_std[i]);
                    continue;
                }
                const Real scale = 1 / sqrt(var + static_cast<Real>(epsilon));
                mean[i] = mu, inv_std[i] = scale;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(
                        ai + j,
                        load(gamma + j, lanes) * ((load(xi + j, lanes) - mu) * scale) + load(beta + j, lanes),
                        lanes);
                });
            }
        });
    }

    // A row again, whose squares are beyond Real's range.
    // Not inlined: GCC 12 for aarch64 ends with an internal error where it vectorises the loop in there.
    [[gnu::noinline, gnu::cold]] static void large_row(const Call& c, const Real* x, Real* a, Real* mean,
                                                       Real* inv_std) {
        const LargeMoments m(c.O, 1, x);
        const double spread = m.spread(c.settings[0]);
        for (size_t j = 0; j < c.O; ++j)
            a[j] = c.params[0][j] * static_cast<Real>((x[j] / m.peak - m.mean) / spread) + c.params[1][j];
        *mean = static_cast<Real>(m.mean * m.peak);
        *inv_std = static_cast<Real>(1 / spread / m.peak);
    }

    static void backward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real *x = c.x + first * O, *gamma = c.params[0], *da = c.da + first * O;
        const Real *mean = scratch<Real>(c, 0) + first, *inv_std = scratch<Real>(c, 1) + first;
        Real* dx = c.dx + first * O;
        const Real outputs = static_cast<Real>(O);
        share(rows.size() * c.P, 0.6 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real *xi = x + i * O, *di = da + i * O;
                Real* out = dx + i * O;
                const Real mu = mean[i], scale = inv_std[i];
                const auto x_hat = [&](size_t j, auto lanes) { return (load(xi + j, lanes) - mu) * scale; };
                const auto dx_hat = [&](size_t j, auto lanes) {
                    return load(di + j, lanes) * load(gamma + j, lanes);
                };
                const Real average = row_sum(O, dx_hat) / outputs;
                const Real slope =
                    row_sum(O, [&](size_t j, auto lanes) { return dx_hat(j, lanes) * x_hat(j, lanes); }) /
                    outputs;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(out + j, scale * (dx_hat(j, lanes) - average - x_hat(j, lanes) * slope), lanes);
                });
            }
        });
    }

    static void gradient(const Call& c, int, const Range&, Real*) {
        const size_t O = c.O, N = c.B * c.P;
        const Real *x = c.x, *da = c.da, *mean = scratch<Real>(c, 0), *inv_std = scratch<Real>(c, 1);
        Real *dgamma = c.dparams[0], *dbeta = c.dparams[1];
        for_columns(N, O, 0.4, [&](size_t j, auto lanes) {
            store(dgamma + j,
                  rows_sum(N,
                           [&](size_t i) {
                               return load(da + i * O + j, lanes) *
                                      ((load(x + i * O + j, lanes) - mean[i]) * inv_std[i]);
                           }),
                  lanes);
            store(dbeta + j, rows_sum(N, [&](size_t i) { return load(da + i * O + j, lanes); }), lanes);
        });
    }
};

}  // namespace
}  // namespace ops
