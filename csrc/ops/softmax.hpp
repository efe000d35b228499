// softmax: a_j = exp(x_j) / sum_k exp(x_k) over the channels.
#pragma once

#include "../kernels/losses.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct softmax : Operation {
    static constexpr Spec spec{.name = "softmax", .forward = "x -> a~x", .backward = "a da -> dx~da"};

    static void forward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real* z = c.x + first * O;
        Real* a = c.a + first * O;
        share(rows.size() * c.P, 1.5 * static_cast<double>(O) + 5, 1, [&](size_t begin, size_t end) {
            Real* e = losses::padded_row(O);
            for (size_t i = begin; i < end; ++i) {
                const Real* zi = z + i * O;
                Real* ai = a + i * O;
                const V total = broadcast(losses::exp_row(O, zi, row_max(O, zi), e));
                for_vectors(O, [&](size_t j, auto lanes) { store(ai + j, load(e + j) / total, lanes); });
            }
        });
    }

    static void backward(const Call& c, Range rows) {
        const size_t O = c.O, first = rows.begin * c.P;
        const Real *a = c.a + first * O, *da = c.da + first * O;
        Real* dx = c.dx + first * O;
        share(rows.size() * c.P, 0.5 * static_cast<double>(O) + 5, 1, [&](size_t begin, size_t end) {
            for (size_t i = begin; i < end; ++i) {
                const Real *ai = a + i * O, *di = da + i * O;
                Real* out = dx + i * O;
                const V mean = broadcast(row_sum(
                    O, [&](size_t j, auto lanes) { return load(ai + j, lanes) * load(di + j, lanes); }));
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(out + j, load(ai + j, lanes) * (load(di + j, lanes) - mean), lanes);
                });
            }
        });
    }
};

}  // namespace
}  // namespace ops
