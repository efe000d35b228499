// last: the last position of a row.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct last : Operation {
    static constexpr Spec spec{
        .name = "last", .forward = "x -> a", .backward = "da -> dx", .x = "BF", .a = "BG"};
    // Of a plan I is O; a call from Python knows no positions, but that whole ones make a row.
    static bool fits(const fastnn::Passage& p) {
        return p.to == 1 && p.O > 0 && (p.from * p.I) % p.O == 0 && (p.I == p.O || p.from == 1);
    }

    static void forward(const Call& c, Range rows) {
        for (size_t i = rows.begin; i < rows.end; ++i)
            for_vectors(c.O, [&](size_t j, auto lanes) {
                store(c.a + i * c.O + j, load(c.x + (i + 1) * c.F - c.O + j, lanes), lanes);
            });
    }

    static void backward(const Call& c, Range rows) {
        const size_t before = c.F - c.O;
        for (size_t i = rows.begin; i < rows.end; ++i) {
            Real* dx = c.dx + i * c.F;
            for_vectors(before, [&](size_t j, auto lanes) { store(dx + j, V{}, lanes); });
            for_vectors(c.O, [&](size_t j, auto lanes) {
                store(dx + before + j, load(c.da + i * c.O + j, lanes), lanes);
            });
        }
    }
};

}  // namespace
}  // namespace ops
