// prelu: a = x where x > 0, else slope x, one learned slope a channel. He et al. 2015.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct prelu : Operation {
    static constexpr Spec spec{.name = "prelu",
                               .params = "slope:O",
                               .forward = "x slope -> a",
                               .backward = "x slope da -> dx~da dslope"};

    static void forward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P * O;
        const Real *x = c.x + first, *slope = c.params[0];
        Real* a = c.a + first;
        share(rows.size() * c.P, 0.2 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i)
                for_vectors(O, [&](size_t j, auto lanes) {
                    const V v = load(x + i * O + j, lanes);
                    store(a + i * O + j, select(v > Real(0), v, load(slope + j, lanes) * v), lanes);
                });
        });
    }

    static void backward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P * O;
        const Real *x = c.x + first, *slope = c.params[0], *da = c.da + first;
        Real* dx = c.dx + first;
        share(rows.size() * c.P, 0.3 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i)
                for_vectors(O, [&](size_t j, auto lanes) {
                    const V v = load(x + i * O + j, lanes), factor = load(slope + j, lanes);
                    store(dx + i * O + j,
                          load(da + i * O + j, lanes) * select(v > Real(0), broadcast(1), factor), lanes);
                });
        });
    }

    static void gradient(const Call& c, int, const Range&, Real*) {
        const size_t O = c.O, N = c.B * c.P;
        for_columns(N, O, 0.3, [&](size_t j, auto lanes) {
            const V total = sum_of_runs(N, [&](size_t i, size_t end) {
                V sum{};
                for (; i < end; ++i)
                    sum += load(c.da + i * O + j, lanes) * min(V{}, load(c.x + i * O + j, lanes));
                return sum;
            });
            store(c.dparams[0] + j, total, lanes);
        });
    }
};

}  // namespace
}  // namespace ops
