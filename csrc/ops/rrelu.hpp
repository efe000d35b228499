// rrelu: a = x where x > 0, else slope x, the slope drawn for each value from U(lower, upper) in training, their mean in
// inference. Xu et al. 2015.
#pragma once

#include "../kernels/random.hpp"
#include "activation.hpp"
#include "operation.hpp"

namespace ops {
namespace {

// slope = lower + (upper - lower) * bits / 2^32.  float32: of the bits, the upper 31, as float32 has only 24.
struct RandomSlope {
    V lower, range;
    explicit RandomSlope(const Call& c)
        : lower(broadcast(static_cast<Real>(c.settings[0]))),
          range(broadcast(static_cast<Real>(c.settings[1] - c.settings[0]))) {}
    FASTNN_INLINE V operator()(VU bits) const {
        V unit;
        if constexpr (kFloat)
            unit = __builtin_convertvector((VI)(bits >> 1), V) * Real(1.0 / 2147483648.0);
        else  // 2^52 + bits is bits in the low bits of the mantissa
            unit = ((V)((VI)bits | bits_as<Int>(Real(4503599627370496.0))) - Real(4503599627370496.0)) *
                   Real(1.0 / 4294967296.0);
        return lower + range * unit;
    }
};

struct rrelu : Operation {
    static constexpr Spec spec{.name = "rrelu",
                               .settings = "lower upper",
                               .forward = "x lower upper key -> a",
                               .backward = "x lower upper key da -> dx~da",
                               .predict = "x lower upper -> a"};

    static void forward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        const Real* x = c.x + first;
        Real* a = c.a + first;
        const RandomSlope slope(c);
        const fastnn::RandomKey key = c.key();
        share(rows.size() * width, 0.5, kGrain, [&](size_t begin, size_t end) {
            const Real* from = x + begin;
            Real* to = a + begin;
            for_bits(first + begin, end - begin, key, [&](size_t i, auto lanes, VU bits) {
                const V v = load(from + i, lanes);
                store(to + i, select(v > Real(0), v, slope(bits) * v), lanes);
            });
        });
    }

    static void backward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        const Real *x = c.x + first, *da = c.da + first;
        Real* dx = c.dx + first;
        const RandomSlope slope(c);
        const fastnn::RandomKey key = c.key();
        share(rows.size() * width, 0.5, kGrain, [&](size_t begin, size_t end) {
            for_bits(first + begin, end - begin, key, [&](size_t i, auto lanes, VU bits) {
                const V factor = select(load(x + begin + i, lanes) > Real(0), broadcast(1), slope(bits));
                store(dx + begin + i, load(da + begin + i, lanes) * factor, lanes);
            });
        });
    }

    static void predict(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        activate({kActivation_leaky_relu, 0.5 * (c.settings[0] + c.settings[1])}, rows.size() * width,
                 c.x + first, c.a + first);
    }
};

}  // namespace
}  // namespace ops
