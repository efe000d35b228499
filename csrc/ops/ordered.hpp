// ordered: a_1 = x_1, a_j = a_{j-1} + log(1 + exp(x_j)) over the channels, which ascend: quantiles that do not cross.
#pragma once

#include "../kernels/math.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct ordered : Operation {
    static constexpr Spec spec{.name = "ordered", .forward = "x -> a", .backward = "x da -> dx~da"};

    // The steps in vectors, their sums one by one: channels are few.
    static void forward(const Call& c, Range rows) {
        const size_t O = c.O;
        each_row(c, rows, [&](size_t first) {
            const Real* x = c.x + first;
            Real* a = c.a + first;
            for_vectors(O, [&](size_t j, auto lanes) { store(a + j, softplus(load(x + j, lanes)), lanes); });
            a[0] = x[0];
            for (size_t j = 1; j < O; ++j) a[j] += a[j - 1];
        });
    }

    static void backward(const Call& c, Range rows) {
        const size_t O = c.O;
        each_row(c, rows, [&](size_t first) {
            const Real *x = c.x + first, *da = c.da + first;
            Real* dx = c.dx + first;
            Real sum = 0;  // of the outputs that a step is part of
            for (size_t j = O; j-- > 0;) dx[j] = sum += da[j];
            const Real whole = dx[0];
            for_vectors(O, [&](size_t j, auto lanes) {
                store(dx + j, load(dx + j, lanes) * sigmoid(load(x + j, lanes)), lanes);
            });
            dx[0] = whole;
        });
    }

    static double ns(size_t N, size_t, size_t O) {
        return (2.0 * static_cast<double>(O) + 5) * static_cast<double>(N);
    }

  private:
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
