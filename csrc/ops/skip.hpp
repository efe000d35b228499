// fork, turn, join: skips, in a plan that stays flat; ops/skip.py says which hands what to whom.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

void copy_values(size_t n, const Real* from, Real* to) {
    share(n, 0.1, kGrain, [&](size_t begin, size_t end) {
        for_vectors(end - begin, [&](size_t j, auto lanes) {
            store(to + begin + j, load(from + begin + j, lanes), lanes);
        });
    });
}

void add_values(size_t n, const Real* x, const Real* y, Real* sum) {
    share(n, 0.15, kGrain, [&](size_t begin, size_t end) {
        for_vectors(end - begin, [&](size_t j, auto lanes) {
            store(sum + begin + j, load(x + begin + j, lanes) + load(y + begin + j, lanes), lanes);
        });
    });
}

struct fork : Operation {
    static constexpr Spec spec{.name = "fork", .forward = "x -> x", .backward = "da dother -> dx~da"};
    static constexpr void (*forward)(const Call&, Range) = nullptr;

    static void backward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        add_values(rows.size() * width, c.da + first, c.dother + first, c.dx + first);
    }
};

struct turn : Operation {
    static constexpr Spec spec{
        .name = "turn", .forward = "other -> a", .backward = "dother -> dx", .x = "BF", .a = "BG"};

    static void forward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        copy_values(rows.size() * width, c.other + first, c.a + first);
    }
    static void backward(const Call& c, Range rows) {
        copy_values(rows.size() * c.F, c.dother + rows.begin * c.F, c.dx + rows.begin * c.F);
    }
};

struct join : Operation {
    static constexpr Spec spec{.name = "join", .forward = "x other -> a~x", .backward = "da -> dx~da"};

    static void forward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        add_values(rows.size() * width, c.x + first, c.other + first, c.a + first);
    }
    static void backward(const Call& c, Range rows) {
        const size_t width = c.P * c.O, first = rows.begin * width;
        copy_values(rows.size() * width, c.da + first, c.dx + first);
    }
};

}  // namespace
}  // namespace ops
