// activation: a = f(x), element by element.
#pragma once

#include "../kernels/activations.hpp"
#include "operation.hpp"

namespace ops {
namespace {

void activate(fastnn::Activated f, size_t n, const Real* z, Real* a) {
    share(n, 0.5, kGrain, [&](size_t begin, size_t end) {
        forward_of(f.code)(1, end - begin, z + begin, 0, nullptr, 0, a + begin, 0,
                           parameter_of(f.code, f.alpha));
    });
}

void derive(fastnn::Activated f, size_t n, const Real* saved, const Real* da, Real* dz) {
    share(n, 0.5, kGrain, [&](size_t begin, size_t end) {
        backward_of(f.code)(1, end - begin, saved + begin, 0, da + begin, 0, dz + begin, 0,
                            parameter_of(f.code, f.alpha));
    });
}

struct activation : Operation {
    static constexpr Spec spec{
        .name = "activation", .forward = "x activation -> a~x", .backward = "below saved dz -> dx~dz"};

    static void forward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        activate(c.activation, rows.size() * width, c.x + first, c.a + first);
    }
    static void backward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        derive(c.below, rows.size() * width, c.saved + first, c.da + first, c.dx + first);
    }
};

}  // namespace
}  // namespace ops
