// batch_norm: each channel to mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe & Szegedy 2015).
// Statistics are sums over the rows from first to last, a vector of columns at a time.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct batch_norm : Operation {
    static constexpr Spec spec{
        .name = "batch_norm",
        .params = "gamma:O beta:O",
        .statistics = "running_mean:O running_var:O",
        .settings = "momentum epsilon",
        .scratch = "mean:O inv_std:O",
        .phase = "columns",
        .forward = "x gamma beta momentum epsilon -> running_mean running_var mean inv_std a",
        .backward = "x gamma mean inv_std da -> dx~da dgamma dbeta",
        .predict = "x gamma beta epsilon running_mean running_var -> a"};

    static void forward(const Call& c, Range channels) {
        const size_t B = c.B * c.P, ld = c.O, first = channels.begin;
        const Real *x = c.x + first, *gamma = c.params[0] + first, *beta = c.params[1] + first;
        Real *running_mean = statistic(c, 0) + first, *running_var = statistic(c, 1) + first;
        Real *mean = scratch<Real>(c, 0) + first, *inv_std = scratch<Real>(c, 1) + first, *a = c.a + first;
        const double momentum = c.settings[0], epsilon = c.settings[1];
        const Real rows = static_cast<Real>(B), unbias = static_cast<Real>(B > 1 ? B / (B - 1.0) : 1.0);
        const Real keep_ = static_cast<Real>(momentum), take = static_cast<Real>(1.0 - momentum);
        for_columns(B, channels.size(), 0.6, [&](size_t j, auto lanes) {
            // A sum of many rows around 100 loses digits of their spread, one of their distances from the first row
            // does not. Of few rows the distances are from 0, which changes no bit.
            const V pivot = B > kRun ? load(x + j, lanes) : V{};
            const V mu =
                rows_sum(B, [&](size_t i) { return load(x + i * ld + j, lanes) - pivot; }) / rows + pivot;
            const V var = rows_sum(B,
                                   [&](size_t i) {
                                       const V d = load(x + i * ld + j, lanes) - mu;
                                       return d * d;
                                   }) /
                          rows;
            const V scale = 1 / sqrt(var + static_cast<Real>(epsilon));
            const V g = load(gamma + j, lanes), b = load(beta + j, lanes);
            store(mean + j, mu, lanes);
            store(inv_std + j, scale, lanes);
            const V old_mean = load(running_mean + j, lanes), old_var = load(running_var + j, lanes);
            if (B > 1) {
                store(running_mean + j, keep_ * old_mean + rounded(take * mu), lanes);
                store(running_var + j, keep_ * old_var + rounded(take * (var * unbias)), lanes);
            }
            for (size_t i = 0; i < B; ++i)
                store(a + i * ld + j, g * ((load(x + i * ld + j, lanes) - mu) * scale) + b, lanes);
            for (size_t l = 0; l < lane_count(lanes); ++l)
                if (!is_finite(var[l])) large_column(c, first + j + l, old_mean[l], old_var[l]);
        });
    }

    // Channel j again, whose squares are beyond Real's range, and what its running averages were.
    // Not inlined: GCC 12 for aarch64 ends with an internal error where it vectorises the loop in there.
    [[gnu::noinline, gnu::cold]] static void large_column(const Call& c, size_t j, Real old_mean,
                                                          Real old_var) {
        const size_t B = c.B * c.P, ld = c.O;
        const Real* x = c.x + j;
        const LargeMoments m(B, ld, x);
        const double momentum = c.settings[0], spread = m.spread(c.settings[1]);
        for (size_t i = 0; i < B; ++i)
            c.a[i * ld + j] =
                c.params[0][j] * static_cast<Real>((x[i * ld] / m.peak - m.mean) / spread) + c.params[1][j];
        const double mu = m.mean * m.peak;
        scratch<Real>(c, 0)[j] = static_cast<Real>(mu);
        scratch<Real>(c, 1)[j] = static_cast<Real>(1 / spread / m.peak);
        if (B == 1) return;
        const double unbiased =
            m.var * (static_cast<double>(B) / (static_cast<double>(B) - 1)) * m.peak * m.peak;
        statistic(c, 0)[j] = static_cast<Real>(momentum * old_mean + (1 - momentum) * mu);
        statistic(c, 1)[j] = static_cast<Real>(momentum * old_var + (1 - momentum) * unbiased);
    }

    static void predict(const Call& c, Range rows) {
        const size_t O = c.O, B = rows.size() * c.P, first = rows.begin * c.P * O;
        const Real *x = c.x + first, *gamma = c.params[0], *beta = c.params[1];
        const Real *running_mean = statistic(c, 0), *running_var = statistic(c, 1);
        Real* a = c.a + first;
        const double epsilon = c.settings[1];
        for_columns(B, O, 0.3, [&](size_t j, auto lanes) {
            const V mu = load(running_mean + j, lanes);
            const V scale = 1 / sqrt(load(running_var + j, lanes) + static_cast<Real>(epsilon));
            const V g = load(gamma + j, lanes), b = load(beta + j, lanes);
            for (size_t i = 0; i < B; ++i)
                store(a + i * O + j, g * ((load(x + i * O + j, lanes) - mu) * scale) + b, lanes);
        });
    }

    static void backward(const Call& c, Range channels) {
        const size_t B = c.B * c.P, ld = c.O, first = channels.begin;
        const Real *x = c.x + first, *gamma = c.params[0] + first, *da = c.da + first;
        const Real *mean = scratch<Real>(c, 0) + first, *inv_std = scratch<Real>(c, 1) + first;
        Real *dx = c.dx + first, *dgamma = c.dparams[0] + first, *dbeta = c.dparams[1] + first;
        const Real rows = static_cast<Real>(B);
        for_columns(B, channels.size(), 0.8, [&](size_t j, auto lanes) {
            const V mu = load(mean + j, lanes), scale = load(inv_std + j, lanes);
            const auto x_hat = [&](size_t i) { return (load(x + i * ld + j, lanes) - mu) * scale; };
            const V dg = rows_sum(B, [&](size_t i) { return load(da + i * ld + j, lanes) * x_hat(i); });
            const V db = rows_sum(B, [&](size_t i) { return load(da + i * ld + j, lanes); });
            const V factor = load(gamma + j, lanes) * scale;
            store(dgamma + j, dg, lanes);
            store(dbeta + j, db, lanes);
            for (size_t i = 0; i < B; ++i)
                store(dx + i * ld + j, factor * (load(da + i * ld + j, lanes) - (db + x_hat(i) * dg) / rows),
                      lanes);
        });
    }
};

}  // namespace
}  // namespace ops
