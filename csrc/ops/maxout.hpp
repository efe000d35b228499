// maxout: a_o = max of the k pieces x_{ko} .. x_{ko + k - 1} (Goodfellow et al. 2013). The pieces of an output are neighbours
// in memory, so a lane would have to gather: scalars, with the comparison compiled to a conditional move.
#pragma once

#include "operation.hpp"

namespace ops {
namespace {

struct maxout : Operation {
    static constexpr Spec spec{.name = "maxout",
                               .scratch = "winner:NO:int32",
                               .forward = "x -> a winner",
                               .backward = "winner da -> dx",
                               .x = "NI"};
    static bool fits(const fastnn::Passage& p) { return p.O > 0 && p.I % p.O == 0; }

    static void forward(const Call& c, Range rows) {
        const size_t pieces = c.I / c.O, first = rows.begin * c.P * c.O;
        const Real* x = c.x + first * pieces;
        Real* a = c.a + first;
        int32_t* winner = scratch<int32_t>(c, 0) + first;
        share(rows.size() * c.P * c.O, 0.5 * static_cast<double>(pieces), kGrain,
              [&](size_t begin, size_t end) {
                  for (size_t o = begin; o < end; ++o) {
                      const Real* xo = x + o * pieces;
                      Real best = xo[0];
                      int32_t at = 0;
                      for (size_t k = 1; k < pieces; ++k) {
                          // the first of the largest; a NaN counts as the largest, as in NumPy
                          const bool better = !(xo[k] <= best) && best == best;
                          best = better ? xo[k] : best;
                          at = better ? static_cast<int32_t>(k) : at;
                      }
                      a[o] = best, winner[o] = at;
                  }
              });
    }

    static void backward(const Call& c, Range rows) {
        const size_t pieces = c.I / c.O, first = rows.begin * c.P * c.O;
        const int32_t* winner = scratch<int32_t>(c, 0) + first;
        const Real* da = c.da + first;
        Real* dx = c.dx + first * pieces;
        share(rows.size() * c.P * c.O, 0.5 * static_cast<double>(pieces), kGrain,
              [&](size_t begin, size_t end) {
                  for (size_t o = begin; o < end; ++o)
                      for (size_t k = 0; k < pieces; ++k)
                          dx[o * pieces + k] = winner[o] == static_cast<int32_t>(k) ? da[o] : Real(0);
              });
    }
};

}  // namespace
}  // namespace ops
