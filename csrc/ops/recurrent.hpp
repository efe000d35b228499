// rnn, gru, lstm: a state that goes from position to position, and its gradient back. Formulas: ops/recurrent.py.
//
// The rows of a batch know nothing of each other, so a task takes its own through all steps, forward and in `prepare`
// backward, without a barrier: products of all its inputs with w at once, then at each step one product with u, whose
// panels stay in a cache, and the gates. The states of the step lie in memory of the thread's own: in the batch they are
// P O apart, often a power of two, where 12 rows of a tile share a set of L1 that has 8 to 12 lines.
#pragma once

#include <algorithm>

#include "../kernels/activations.hpp"
#include "../kernels/gemm.hpp"
#include "operation.hpp"

namespace ops {
namespace {

// Rows that go through time together: with 128 units 200 kB of states and products, in L2 beside 200 kB of panels.
constexpr size_t kSlab = 8 * MR;

// What they share. Cell: G, the gates that a product makes, so that w is (I, G O) and u (O, G O); D, the numbers a unit
// that lie in one row of what the gates are kept in; and its steps.
template <class Cell, size_t G, size_t D>
struct Recurrent : Operation {
    enum { kWeight, kRecurrent, kTransposed, kBack, kGradient, kInnerGradient };
    static constexpr bool kInner = D > G;  // of gru: u takes n's q in the place of n

    static size_t packed(const Call& c, const fastnn::Use& use, int which) {
        const auto panels = [](bool wanted, size_t columns, size_t depth) {
            return wanted ? (columns + kPanel - 1) / kPanel * kPanel * depth : 0;
        };
        const bool learns = use.training && use.learns, reads = learns || !use.training;
        switch (which) {
            case kWeight:
                return panels(reads, G * c.O, c.I);
            case kRecurrent:
                return panels(reads, G * c.O, c.O);
            case kTransposed:
                return panels(learns && use.wants_dx, c.I, G * c.O);
            case kBack:
                return panels(learns, c.O, G * c.O);
            case kGradient:
            case kInnerGradient: {
                const size_t N = use.rows * c.P;
                const bool large = N * G * c.O * sizeof(Real) > 16384;
                return panels(learns && large && (kInner || which == kGradient), G * c.O, N);
            }
        }
        return 0;
    }
    static void pack(const Call& c, int tensor, Range rows) {
        const size_t wide = G * c.O, depth = tensor == 0 ? c.I : c.O, n = rows.size();
        const Real* from = c.params[tensor] + rows.begin * wide;
        if (Real* to = c.packed[tensor == 0 ? kWeight : kRecurrent])
            pack_rows(from, wide, n, wide, kPanel, to + rows.begin * kPanel, depth * kPanel, c.streaming);
        if (Real* to = c.packed[tensor == 0 ? kTransposed : kBack])
            (c.streaming ? stream_columns : pack_columns)(from, wide, wide, n, kPanel,
                                                          to + rows.begin * wide);
    }

    static double ns(size_t N, size_t I, size_t O, const double*) {
        const double units = static_cast<double>(N) * static_cast<double>(O);
        return units * (static_cast<double>(G * (I + O)) / (3.0 * W) + 0.5 * G);
    }
    // f(first, n) for slabs of the rows.
    template <class F>
    static void for_slabs(const Call& c, Range rows, F&& f) {
        share(rows.size(), ns(c.P, 0, c.O, nullptr), MR, [&](size_t begin, size_t end) {
            for (size_t n = 0; begin < end; begin += n)
                f(rows.begin + begin, n = std::min(kSlab, end - begin));
        });
    }

    static void forward(const Call& c, Range rows) {
        const size_t first = rows.begin * c.P, ld = D * c.O;
        multiply(inputs(c, first, rows.size() * c.P, c.I, Cell::kept(c) + first * ld, ld), {});
        for_slabs(c, rows, [&](size_t begin, size_t n) { through_time<true>(c, begin, n); });
    }
    // Nothing is kept but what goes out: what the gates of 640 rows of 50 steps are kept in is 16 MB, which passes through
    // memory. The products with w of a few rows are made at once all the same: a call a step costs more than they do.
    static void predict(const Call& c, Range rows) {
        for_slabs(c, rows, [&](size_t begin, size_t n) { through_time<false>(c, begin, n); });
    }
    static constexpr size_t kAtOnce = size_t(1) << 17;  // bytes

    // x w + b of N positions that lie `ldx` apart.
    static Product inputs(const Call& c, size_t first, size_t N, size_t ldx, Real* to, size_t ld) {
        const size_t wide = G * c.O;
        return {Form::NN, N,           wide, c.I, c.x + first * c.I, ldx, c.params[0],
                wide,     c.params[2], to,   ld,  c.packed[kWeight]};
    }

    template <bool training>
    static void through_time(const Call& c, size_t begin, size_t n) {
        const size_t O = c.O, wide = G * O, ld = training ? D * O : wide;
        const bool at_once = training || n * c.P * wide * sizeof(Real) <= kAtOnce;
        const size_t sums_of = training ? 0 : at_once ? n * c.P : n;
        Real* const h = own(n * (2 * O + wide) + wide + sums_of * wide);
        Real *const past = h + n * O, *const products = past + n * O, *const none = products + n * wide;
        Real* const sums = training ? Cell::kept(c) + begin * c.P * ld : none + wide;
        for_vectors(2 * n * O, [&](size_t j, auto lanes) { store(h + j, V{}, lanes); });
        for_vectors(wide, [&](size_t j, auto lanes) { store(none + j, V{}, lanes); });
        const Product p{Form::NN,    n,    wide,
                        O,           h,    O,
                        c.params[1], wide, Cell::inner_bias(c),
                        products,    wide, c.packed[kRecurrent]};
        const bool by_dots = is_narrow(p);
        const Real* const start = p.bias ? p.bias : none;
        if (!training && at_once) product(inputs(c, begin * c.P, n * c.P, c.I, sums, wide));
        for (size_t t = 0; t < c.P; ++t) {
            if (!at_once) product(inputs(c, begin * c.P + t, n, c.P * c.I, sums, wide));
            if (t > 0) multiply_on_one_thread(p, {}, by_dots);
            for (size_t i = 0; i < n; ++i) {
                const size_t at = i * c.P + t;
                Cell::template step<training>(c, begin * c.P + at, t, sums + (at_once ? at : i) * ld,
                                              t > 0 ? products + i * wide : start, h + i * O, past + i * O);
            }
        }
    }
    static void product(const Product& p) { multiply_on_one_thread(p, {}, is_narrow(p)); }

    // dgates, which gradient and backward read, and copies of them as panels: those of a run of rows, then those of the next.
    static void prepare(const Call& c, Range rows) {
        for_slabs(c, rows, [&](size_t begin, size_t n) { back_through_time(c, begin, n); });
        for (const int which : {kGradient, kInnerGradient}) {
            if (c.packed[which] == nullptr) continue;
            const size_t last = rows.end * c.P;
            for (size_t first = rows.begin * c.P, end; first < last; first = end)
                pack_gradients(c, which, first, end = std::min(run_end(first / kRun * kRun, last), last));
        }
    }
    static Real* panels_of(const Call& c, int which, size_t run) {
        return c.packed[which] + run * ((G * c.O + kPanel - 1) / kPanel * kPanel);
    }
    // Positions of one run; where u takes others than lie side by side, eight at a time.
    static void pack_gradients(const Call& c, int which, size_t first, size_t end) {
        const size_t O = c.O, wide = G * O, ld = D * O, run = first / kRun * kRun;
        const size_t stride = (run_end(run, c.B * c.P) - run) * kPanel;
        Real* const to = panels_of(c, which, run);
        const Real* d = Cell::dkept(c) + first * ld;
        if (which == kGradient)
            return pack_rows(d, ld, end - first, wide, kPanel, to + (first - run) * kPanel, stride);
        Real* const some = own(8 * wide);
        for (size_t n; first < end; first += n, d += n * ld) {
            n = std::min<size_t>(8, end - first);
            for (size_t i = 0; i < n; ++i) {
                std::copy_n(d + i * ld, wide - O, some + i * wide);
                std::copy_n(d + i * ld + wide, O, some + (i + 1) * wide - O);
            }
            pack_rows(some, wide, n, wide, kPanel, to + (first - run) * kPanel, stride);
        }
    }

    static void back_through_time(const Call& c, size_t begin, size_t n) {
        const size_t O = c.O, wide = G * O;
        Real* const dh =
            own(n * (2 * O + wide));  // of the products with u, what goes by them, and what they take
        Real *const past = dh + n * O, *const d = past + n * O;
        for_vectors(2 * n * O, [&](size_t j, auto lanes) { store(dh + j, V{}, lanes); });
        const Product p{Form::NT, n, O, wide, d, wide, c.params[1], wide, nullptr, dh, O, c.packed[kBack]};
        const bool by_dots = is_narrow(p);
        for (size_t t = c.P; t-- > 0;) {
            for (size_t i = 0; i < n; ++i)
                Cell::step_back(c, (begin + i) * c.P + t, t, dh + i * O, past + i * O, d + i * wide);
            if (t > 0) multiply_on_one_thread(p, {}, by_dots);
        }
    }

    static void backward(const Call& c, Range rows) {
        const size_t first = rows.begin * c.P, wide = G * c.O, ld = D * c.O;
        multiply({Form::NT, rows.size() * c.P, c.I, wide, Cell::dkept(c) + first * ld, ld, c.params[0], wide,
                  nullptr, c.dx + first * c.I, c.I, c.packed[kTransposed]},
                 {});
    }

    static void gradient(const Call& c, int tensor, const Range& rows, Real* g) {
        const size_t N = c.B * c.P, ld = D * c.O, wide = G * c.O;
        const Real* const d = Cell::dkept(c);
        if (tensor < 0) {
            column_sums(N, wide, d, ld, c.dparams[2]);
            return Cell::inner_sums(c);
        }
        const size_t first = rows.begin, M = rows.size(), ldx = tensor == 0 ? c.I : c.O;
        const Real* const x = tensor == 0 ? c.x : before(c);
        const int which = tensor == 1 && kInner ? kInnerGradient : kGradient;
        const bool panels = c.packed[which] != nullptr && M >= MR && 2 * wide > W;
        sum_of_runs(N, M * wide, g, [&](size_t begin, size_t end, Real* values) {
            // columns of d from `from` on, into those of the gradient from `to` on
            const auto part = [&](size_t from, size_t to, size_t columns) {
                multiply(
                    {Form::TN, M, columns, end - begin, x + begin * ldx + first, ldx, d + begin * ld + from,
                     ld, nullptr, values + to, wide, panels ? panels_of(c, which, begin) : nullptr},
                    {});
            };
            if (panels || tensor == 0 || !kInner) return part(0, 0, wide);
            part(0, 0, wide - c.O), part(wide, wide - c.O, c.O);
        });
    }

  protected:
    static Real* own(size_t n) {
        return static_cast<Real*>(fastnn::scratch(fastnn::kState, n * sizeof(Real)));
    }
    static Real* before(const Call& c) { return scratch<Real>(c, 0); }
    static const Real* inner_bias(const Call&) { return nullptr; }
    static void inner_sums(const Call&) {}

    // The state of position `at`: into the output, to the next step, and where the gradient of u will look for it.
    template <bool training>
    static FASTNN_INLINE void keep_state(const Call& c, size_t at, size_t t, size_t j, V value, Real* h,
                                         auto lanes) {
        store(c.a + at * c.O + j, value, lanes);
        store(h + j, value, lanes);
        if (!training) return;
        Real* const to = before(c) + at * c.O + j;
        if (t == 0) store(to, V{}, lanes);
        if (t + 1 < c.P) store(to + c.O, value, lanes);
    }
};

struct rnn : Recurrent<rnn, 1, 1> {
    static constexpr Spec spec{.name = "rnn",
                               .params = "w:IO u:OO b:O",
                               .settings = "relu",
                               .scratch = "before:BPO dgates:BPO",
                               .forward = "x w u b relu -> before a",
                               .backward = "x w u relu before a da -> dgates dx? dw du db",
                               .predict = "x w u b relu -> a",
                               .x = "BPI",
                               .a = "BPO"};
    static bool fits(const fastnn::Passage& p) { return p.settings[0] == 0 || p.settings[0] == 1; }

    static Real* kept(const Call& c) { return c.a; }
    static Real* dkept(const Call& c) { return scratch<Real>(c, 1); }

    template <bool training>
    static void step(const Call& c, size_t at, size_t t, const Real* sums, const Real* products, Real* h,
                     Real*) {
        const bool relu = c.settings[0] != 0;
        for_vectors(c.O, [&](size_t j, auto lanes) {
            const V sum = load(sums + j, lanes) + load(products + j, lanes);
            keep_state<training>(c, at, t, j, relu ? max(V{}, sum) : tanh(sum), h, lanes);
        });
    }
    static void step_back(const Call& c, size_t at, size_t, const Real* dh, Real*, Real* d) {
        const Real *const a = c.a + at * c.O, *const da = c.da + at * c.O;
        Real* const kept = dkept(c) + at * c.O;
        const bool relu = c.settings[0] != 0;
        for_vectors(c.O, [&](size_t j, auto lanes) {
            const V h = load(a + j, lanes), dz = (load(da + j, lanes) + load(dh + j, lanes)) *
                                                 (relu ? one_where(h > Real(0)) : 1 - h * h);
            store(d + j, dz, lanes), store(kept + j, dz, lanes);
        });
    }
};

struct gru : Recurrent<gru, 3, 4> {
    static constexpr Spec spec{.name = "gru",
                               .params = "w:I3O u:O3O b:3O bu:3O",
                               .scratch = "before:BPO gates:BP4O dgates:BP4O",
                               .forward = "x w u b bu -> before gates a",
                               .backward = "x w u before gates da -> dgates dx? dw du db dbu",
                               .predict = "x w u b bu -> a",
                               .x = "BPI",
                               .a = "BPO"};

    static Real* kept(const Call& c) { return scratch<Real>(c, 1); }
    static Real* dkept(const Call& c) { return scratch<Real>(c, 2); }
    static const Real* inner_bias(const Call& c) { return c.params[3]; }
    static void inner_sums(const Call& c) {
        const size_t N = c.B * c.P, O = c.O;
        column_sums(N, 2 * O, dkept(c), 4 * O, c.dparams[3]);
        column_sums(N, O, dkept(c) + 3 * O, 4 * O, c.dparams[3] + 2 * O);
    }

    template <bool training>
    static void step(const Call& c, size_t at, size_t t, const Real* sums, const Real* products, Real* h,
                     Real*) {
        const size_t O = c.O;
        Real* const gates = training ? kept(c) + at * 4 * O : nullptr;
        for_vectors(O, [&](size_t j, auto lanes) {
            const auto sum = [&](size_t gate) {
                return load(sums + gate * O + j, lanes) + load(products + gate * O + j, lanes);
            };
            const V r = sigmoid(sum(0)), z = sigmoid(sum(1)), q = load(products + 2 * O + j, lanes);
            const V n = tanh(load(sums + 2 * O + j, lanes) + r * q);
            const V value = (1 - z) * n + z * load(h + j, lanes);
            if (training) {
                store(gates + j, r, lanes), store(gates + O + j, z, lanes);
                store(gates + 2 * O + j, n, lanes), store(gates + 3 * O + j, q, lanes);
            }
            keep_state<training>(c, at, t, j, value, h, lanes);
        });
    }
    static void step_back(const Call& c, size_t at, size_t, const Real* dh, Real* past, Real* d) {
        const size_t O = c.O;
        const Real *const gates = kept(c) + at * 4 * O, *const previous = before(c) + at * O;
        const Real* const da = c.da + at * O;
        Real* const out = dkept(c) + at * 4 * O;
        for_vectors(O, [&](size_t j, auto lanes) {
            const V r = load(gates + j, lanes), z = load(gates + O + j, lanes),
                    n = load(gates + 2 * O + j, lanes);
            const V all = load(da + j, lanes) + (load(past + j, lanes) + load(dh + j, lanes));
            const V dz = all * (load(previous + j, lanes) - n) * z * (1 - z),
                    dn = all * (1 - z) * (1 - n * n);
            const V dq = dn * r, dr = dn * load(gates + 3 * O + j, lanes) * r * (1 - r);
            store(out + j, dr, lanes), store(out + O + j, dz, lanes);
            store(out + 2 * O + j, dn, lanes), store(out + 3 * O + j, dq, lanes);
            store(d + j, dr, lanes), store(d + O + j, dz, lanes), store(d + 2 * O + j, dq, lanes);
            store(past + j, all * z, lanes);
        });
    }
};

struct lstm : Recurrent<lstm, 4, 4> {
    static constexpr Spec spec{.name = "lstm",
                               .params = "w:I4O u:O4O b:4O",
                               .scratch = "before:BPO gates:BP4O cell:BPO dgates:BP4O",
                               .forward = "x w u b -> before gates cell a",
                               .backward = "x w u before gates cell da -> dgates dx? dw du db",
                               .predict = "x w u b -> a",
                               .x = "BPI",
                               .a = "BPO"};

    static Real* kept(const Call& c) { return scratch<Real>(c, 1); }
    static Real* cell(const Call& c) { return scratch<Real>(c, 2); }
    static Real* dkept(const Call& c) { return scratch<Real>(c, 3); }

    template <bool training>
    static void step(const Call& c, size_t at, size_t t, const Real* sums, const Real* products, Real* h,
                     Real* past) {
        const size_t O = c.O;
        Real* const gates = training ? kept(c) + at * 4 * O : nullptr;
        Real* const cells = training ? cell(c) + at * O : nullptr;
        for_vectors(O, [&](size_t j, auto lanes) {
            const auto sum = [&](size_t gate) {
                return load(sums + gate * O + j, lanes) + load(products + gate * O + j, lanes);
            };
            const V i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = tanh(sum(2)), o = sigmoid(sum(3));
            const V state = f * load(past + j, lanes) + i * g, value = o * tanh(state);
            store(past + j, state, lanes);
            if (training) {
                store(gates + j, i, lanes), store(gates + O + j, f, lanes);
                store(gates + 2 * O + j, g, lanes), store(gates + 3 * O + j, o, lanes);
                store(cells + j, state, lanes);
            }
            keep_state<training>(c, at, t, j, value, h, lanes);
        });
    }
    static void step_back(const Call& c, size_t at, size_t t, const Real* dh, Real* past, Real* d) {
        const size_t O = c.O;
        const Real *const gates = kept(c) + at * 4 * O, *const cells = cell(c) + at * O;
        const Real* const da = c.da + at * O;
        Real* const out = dkept(c) + at * 4 * O;
        for_vectors(O, [&](size_t j, auto lanes) {
            const V i = load(gates + j, lanes), f = load(gates + O + j, lanes);
            const V g = load(gates + 2 * O + j, lanes), o = load(gates + 3 * O + j, lanes);
            const V squashed = tanh(load(cells + j, lanes)),
                    previous = t > 0 ? load(cells - O + j, lanes) : V{};
            const V all = load(da + j, lanes) + load(dh + j, lanes);
            const V dc = load(past + j, lanes) + all * o * (1 - squashed * squashed);
            const V dgates[4] = {dc * g * i * (1 - i), dc * previous * f * (1 - f), dc * i * (1 - g * g),
                                 all * squashed * o * (1 - o)};
            FASTNN_UNROLL
            for (size_t gate = 0; gate < 4; ++gate) {
                store(out + gate * O + j, dgates[gate], lanes);
                store(d + gate * O + j, dgates[gate], lanes);
            }
            store(past + j, dc * f, lanes);
        });
    }
};

}  // namespace
}  // namespace ops
