// dropout: a = 0 with probability rate, else x / (1 - rate); nothing in inference. Srivastava et al. 2014.
#pragma once

#include "../kernels/random.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct dropout : Operation {
    static constexpr Spec spec{.name = "dropout",
                               .settings = "rate",
                               .forward = "x rate key -> a~x",
                               .backward = "rate key da -> dx~da",
                               .predict = "x -> x"};

    static void forward(const Call& c, Range rows) { drop(c, rows, c.x, c.a); }
    static void backward(const Call& c, Range rows) { drop(c, rows, c.da, c.dx); }  // the same values

    // An element is dropped when its bits are below rate * 2^32, rounded to even as Python does.
    static void drop(const Call& c, Range rows, const Real* x, Real* a) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        const double rate = c.settings[0];
        const uint64_t threshold = static_cast<uint64_t>(__builtin_rint(rate * 4294967296.0));
        const V scale = broadcast(static_cast<Real>(1.0 / (1.0 - rate)));
        const VU limit = broadcast_uint(static_cast<Uint>(threshold > 0xffffffffu ? 0xffffffffu : threshold));
        const VI some =
            broadcast_int(threshold > 0xffffffffu ? 0 : -1);  // a rate that rounds to 1 drops everything
        const fastnn::RandomKey key = c.key();
        share(rows.size() * width, 0.5, kGrain, [&](size_t begin, size_t end) {
            const Real* from = x + first + begin;
            Real* to = a + first + begin;
            for_bits(first + begin, end - begin, key, [&](size_t i, auto lanes, VU bits) {
                store(to + i, select((VI)(bits >= limit) & some, load(from + i, lanes) * scale, V{}), lanes);
            });
        });
    }
};

}  // namespace
}  // namespace ops
