// ordered: a_1 = x_1, a_j = a_{j-1} + log(1 + exp(x_j)) over the channels, which ascend: quantiles that do not cross.
#pragma once

#include "../kernels/math.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct ordered : Operation {
    static constexpr Spec spec{.name = "ordered",
                               .settings = "targets",
                               .forward = "x targets -> a",
                               .backward = "x targets da -> dx~da"};

    // The steps in vectors, their sums one by one: channels are few.
    static void forward(const Call& c, Range rows) {
        const size_t O = c.O, T = targets_of(c);
        each_row(c, rows, [&](size_t first) {
            const Real* x = c.x + first;
            Real* a = c.a + first;
            for_vectors(O, [&](size_t j, auto lanes) { store(a + j, softplus(load(x + j, lanes)), lanes); });
            for (size_t j = 0; j < T; ++j) a[j] = x[j];
            for (size_t j = T; j < O; ++j) a[j] += a[j - T];
        });
    }

    // dx of a step: the sum of da over the outputs that it is part of, times its slope
    static void backward(const Call& c, Range rows) {
        const size_t O = c.O, T = targets_of(c);
        each_row(c, rows, [&](size_t first) {
            const Real *x = c.x + first, *da = c.da + first;
            Real* dx = c.dx + first;
            for (size_t j = O; j-- > 0;) dx[j] = j + T < O ? dx[j + T] + da[j] : da[j];
            for_vectors(O - T, [&](size_t j, auto lanes) {
                store(dx + T + j, load(dx + T + j, lanes) * sigmoid(load(x + T + j, lanes)), lanes);
            });
        });
    }

    static double ns(size_t N, size_t, size_t O, const double*) {
        return (2.0 * static_cast<double>(O) + 5) * static_cast<double>(N);
    }

  private:
    static size_t targets_of(const Call& c) {
        const double targets = c.settings[0];
        return targets >= static_cast<double>(c.O) ? c.O : targets >= 1 ? static_cast<size_t>(targets) : 1;
    }
    template <class F>
    static void each_row(const Call& c, Range rows, F&& f) {
        const size_t begin = rows.begin * c.P;
        share(rows.size() * c.P, 2.0 * static_cast<double>(c.O) + 5, 1, [&](size_t from, size_t to) {
            for (size_t i = from; i < to; ++i) f((begin + i) * c.O);
        });
    }
};

}  // namespace
}  // namespace ops
