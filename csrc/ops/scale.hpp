// scale: a = factor x, one learned factor a channel.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct scale : Operation {
    static constexpr Spec spec{.name = "scale",
                               .params = "factor:O",
                               .forward = "x factor -> a~x",
                               .backward = "x factor da -> dx~da dfactor"};

    static void forward(const Call& c, Range rows) { multiply_rows(c, rows, c.x, c.a); }
    static void backward(const Call& c, Range rows) { multiply_rows(c, rows, c.da, c.dx); }

    static void multiply_rows(const Call& c, Range rows, const Real* x, Real* a) {
        const size_t O = c.O, first = rows.begin * c.P * O;
        share(rows.size() * c.P, 0.2 * static_cast<double>(O), 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real* from = x + first + i * O;
                Real* to = a + first + i * O;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(to + j, load(from + j, lanes) * load(c.params[0] + j, lanes), lanes);
                });
            }
        });
    }

    static void gradient(const Call& c, int, const Range&, Real*) {
        const size_t O = c.O, N = c.B * c.P;
        for_columns(N, O, 0.3, [&](size_t j, auto lanes) {
            store(c.dparams[0] + j,
                  rows_sum(
                      N,
                      [&](size_t i) { return load(c.da + i * O + j, lanes) * load(c.x + i * O + j, lanes); }),
                  lanes);
        });
    }
};

}  // namespace
}  // namespace ops
