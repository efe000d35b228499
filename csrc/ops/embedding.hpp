// embedding: a = row x of the table w; zeros for the id `padding`.
#pragma once

#include <algorithm>

#include "../kernels/column_sums.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct embedding : Operation {
    static constexpr Spec spec{.name = "embedding",
                               .params = "w:VO",
                               .settings = "ids padding",
                               .forward = "x w ids padding -> a",
                               .backward = "x ids padding da -> dx? dw",
                               .x = "BF",
                               .a = "BPO"};
    // As many positions go out as values come in. A call from Python says both of both.
    static bool fits(const fastnn::Passage& p) {
        const double ids = p.settings[0], padding = p.settings[1];
        const auto whole = [](double x) { return x == __builtin_trunc(x); };
        return (p.from * p.I == p.to || (p.from == p.to && p.I == p.to)) && ids >= 1 &&
               ids < 9007199254740992.0 && whole(ids) && padding >= -1 && padding < ids && whole(padding);
    }

    static constexpr size_t kNone = static_cast<size_t>(-1);
    // What x stands for: a row of the table, or kNone. An id beyond it is no address, though the source lets none through.
    static FASTNN_INLINE size_t row_of(Real x, double ids) {
        const double id = static_cast<double>(x);
        return id >= 0 && id < ids && id == __builtin_trunc(id) ? static_cast<size_t>(id) : kNone;
    }

    static void forward(const Call& c, Range rows) {
        const size_t O = c.O;
        const double ids = c.settings[0];
        const Real padding = static_cast<Real>(c.settings[1]);
        for (size_t i = rows.begin; i < rows.end; ++i)
            for (size_t t = 0; t < c.P; ++t) {
                const Real id = c.x[i * c.F + t];
                const size_t row = row_of(id, ids);
                Real* const a = c.a + (i * c.P + t) * O;
                const Real none = row == kNone ? static_cast<Real>(__builtin_nan("")) : Real(0);
                if (row == kNone || id == padding)
                    std::fill_n(a, O, none);
                else
                    for_vectors(O, [&](size_t j, auto lanes) {
                        store(a + j, load(c.params[0] + row * O + j, lanes), lanes);
                    });
            }
    }

    // An id has no slope.
    static void backward(const Call& c, Range rows) {
        std::fill_n(c.dx + rows.begin * c.F, rows.size() * c.F, Real(0));
    }

    // Rows of the table: zeros, and what da has at the positions of their ids, in the order of the batch. The part of a table
    // that a task has stays in its cache until it is updated: of each step only the parameters and slots pass through memory,
    // which Adam changes in every row.
    static void gradient(const Call& c, int, const Range& rows, Real* g) {
        const size_t O = c.O;
        const double ids = c.settings[0];
        const Real padding = static_cast<Real>(c.settings[1]);
        sum_of_runs(c.B * c.P, rows.size() * O, g, [&](size_t begin, size_t end, Real* values) {
            std::fill_n(values, rows.size() * O, Real(0));
            size_t i = begin / c.P, t = begin % c.P;
            for (size_t n = begin; n < end; ++n) {
                const Real id = c.x[i * c.F + t];
                if (++t == c.P) ++i, t = 0;
                const size_t row = row_of(id, ids);
                if (row < rows.begin || row >= rows.end || id == padding) continue;
                Real* const to = values + (row - rows.begin) * O;
                for_vectors(O, [&](size_t j, auto lanes) {
                    store(to + j, load(to + j, lanes) + load(c.da + n * O + j, lanes), lanes);
                });
            }
        });
    }
};

}  // namespace
}  // namespace ops
