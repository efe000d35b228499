// Definitions of what works on steps: rnn, gru, lstm, last, embedding. See definitions.hpp.
#include <cmath>

#include "definitions.hpp"

namespace parity {
namespace {

using std::fabs;

// Recurrent: each step from what the kernel made of the steps before it, so that its bound is that of one step ---------

struct Steps {
    const Sample& s;
    size_t G;  // gates that a product makes
    size_t at(size_t b, size_t t) const { return b * s.P + t; }
    // b_j + x_t w_j, and a_{t-1} u_j where there is a step before
    void add_input(Sum& sum, size_t n, size_t j) const {
        sum.add(s["b"][j]);
        for (size_t k = 0; k < s.I; ++k) sum.add(s["x"][n * s.I + k] * s["w"][k * G * s.O + j]);
    }
    void add_state(Sum& sum, size_t n, size_t t, size_t j) const {
        for (size_t k = 0; t > 0 && k < s.O; ++k)
            sum.add(s["a"][(n - 1) * s.O + k] * s["u"][k * G * s.O + j]);
    }
    Ref roundings() const { return (s.I + s.O + 8) * s.eps; }
};
Ref logistic(Ref z) { return 1 / (1 + std::exp(-z)); }

// f(n, t, o) for every unit of every step; what each began with is the output before.
template <class F>
void each_step(Sample& s, F&& f) {
    for (size_t b = 0; b < s.B; ++b)
        for (size_t t = 0; t < s.P; ++t)
            for (size_t o = 0; o < s.O; ++o) {
                const size_t n = b * s.P + t;
                s.wanted["before"].set(n * s.O + o, t > 0 ? s["a"][(n - 1) * s.O + o] : 0, 0);
                f(n, t, o);
            }
}

void rnn_forward(Sample& s) {
    const Steps steps{s, 1};
    const bool relu = s.settings["relu"] != 0;
    each_step(s, [&](size_t n, size_t t, size_t o) {
        Sum sum;
        steps.add_input(sum, n, o), steps.add_state(sum, n, t, o);
        const Ref value = relu ? std::fmax(Ref(0), sum.value) : std::tanh(sum.value);
        s.wanted["a"].set(n * s.O + o, value, steps.roundings() * sum.size + 8 * s.eps);
    });
}

void gru_forward(Sample& s) {
    const Steps steps{s, 3};
    const size_t O = s.O;
    each_step(s, [&](size_t n, size_t t, size_t o) {
        Sum sums[3], q;
        for (size_t g = 0; g < 3; ++g) steps.add_input(sums[g], n, g * O + o);
        for (size_t g = 0; g < 2; ++g) {
            sums[g].add(s["bu"][g * O + o]);
            steps.add_state(sums[g], n, t, g * O + o);
            s.wanted["gates"].set((4 * n + g) * O + o, logistic(sums[g].value),
                                  steps.roundings() * sums[g].size + 8 * s.eps);
        }
        q.add(s["bu"][2 * O + o]);
        steps.add_state(q, n, t, 2 * O + o);
        const Ref *const gates = s["gates"].data() + 4 * n * O + o, r = gates[0], z = gates[O];
        sums[2].add(r * gates[3 * O]);
        s.wanted["gates"].set((4 * n + 2) * O + o, std::tanh(sums[2].value),
                              steps.roundings() * sums[2].size + 8 * s.eps);
        s.wanted["gates"].set((4 * n + 3) * O + o, q.value, steps.roundings() * q.size);
        Sum a;
        a.add((1 - z) * gates[2 * O]), a.add(z * (t > 0 ? s["a"][(n - 1) * O + o] : 0));
        s.wanted["a"].set(n * O + o, a.value, 4 * s.eps * (a.size + fabs(gates[2 * O])));
    });
}

void lstm_forward(Sample& s) {
    const Steps steps{s, 4};
    const size_t O = s.O;
    each_step(s, [&](size_t n, size_t t, size_t o) {
        for (size_t g = 0; g < 4; ++g) {
            Sum sum;
            steps.add_input(sum, n, g * O + o), steps.add_state(sum, n, t, g * O + o);
            const Ref value = g == 2 ? std::tanh(sum.value) : logistic(sum.value);
            s.wanted["gates"].set((4 * n + g) * O + o, value, steps.roundings() * sum.size + 8 * s.eps);
        }
        const Ref* const gates = s["gates"].data() + 4 * n * O + o;
        Sum cell;
        cell.add(gates[O] * (t > 0 ? s["cell"][(n - 1) * O + o] : 0)), cell.add(gates[0] * gates[2 * O]);
        s.wanted["cell"].set(n * O + o, cell.value, 3 * s.eps * cell.size);
        s.wanted["a"].set(n * O + o, gates[3 * O] * std::tanh(s["cell"][n * O + o]), 8 * s.eps);
    });
}

// What comes from dgates: each position has D numbers a unit, of which `input` are what w and b had a part in, `inner`
// what u had.
void of_gates(Sample& s, size_t D, const std::vector<size_t>& input, const std::vector<size_t>& inner) {
    const Values &d = s["dgates"], &w = s["w"], &x = s["x"], &before = s["before"];
    const size_t O = s.O, wide = input.size() * O;
    const Ref roundings = (s.N() + 4) * s.eps;
    const auto of = [&](size_t n, const std::vector<size_t>& gates, size_t j) {
        return d[(D * n + gates[j / O]) * O + j % O];
    };
    for (size_t n = 0; n < s.N(); ++n)
        for (size_t k = 0; k < s.I; ++k) {
            Sum sum;
            for (size_t j = 0; j < wide; ++j) sum.add(of(n, input, j) * w[k * wide + j]);
            s.wanted["dx"].set(n * s.I + k, sum.value, (wide + 4) * s.eps * sum.size);
        }
    for (size_t j = 0; j < wide; ++j) {
        Sum db, dbu;
        for (size_t n = 0; n < s.N(); ++n) db.add(of(n, input, j)), dbu.add(of(n, inner, j));
        s.wanted["db"].set(j, db.value, roundings * db.size);
        s.wanted["dbu"].set(j, dbu.value, roundings * dbu.size);
        for (size_t k = 0; k < s.I; ++k) {
            Sum sum;
            for (size_t n = 0; n < s.N(); ++n) sum.add(x[n * s.I + k] * of(n, input, j));
            s.wanted["dw"].set(k * wide + j, sum.value, roundings * sum.size);
        }
        for (size_t k = 0; k < O; ++k) {
            Sum sum;
            for (size_t n = 0; n < s.N(); ++n) sum.add(before[n * O + k] * of(n, inner, j));
            s.wanted["du"].set(k * wide + j, sum.value, roundings * sum.size);
        }
    }
}

// f(n, t, o, dh) from the last step to the first: dh is da, what `passed` has of the step behind, which f replaces, and
// what came by u of the kernel's own dgates there. Its size bounds the rounding.
template <class F>
void each_step_back(Sample& s, size_t D, const std::vector<size_t>& inner, F&& f) {
    const Values &u = s["u"], &d = s["dgates"];
    const size_t O = s.O, wide = inner.size() * O;
    for (size_t b = 0; b < s.B; ++b)
        for (size_t o = 0; o < O; ++o) {
            Sum passed;
            for (size_t t = s.P; t-- > 0;) {
                const size_t n = b * s.P + t;
                Sum dh = passed;
                dh.add(s["da"][n * O + o]);
                for (size_t j = 0; t + 1 < s.P && j < wide; ++j)
                    dh.add(d[(D * (n + 1) + inner[j / O]) * O + j % O] * u[o * wide + j]);
                f(n, t, o, dh, passed);
            }
        }
}

void rnn_backward(Sample& s) {
    const bool relu = s.settings["relu"] != 0;
    each_step_back(s, 1, {0}, [&](size_t n, size_t, size_t o, const Sum& dh, Sum&) {
        const Ref a = s["a"][n * s.O + o], slope = relu ? a > 0 : 1 - a * a;
        s.wanted["dgates"].set(n * s.O + o, dh.value * slope, (s.O + 8) * s.eps * dh.size * (1 + a * a));
    });
    of_gates(s, 1, {0}, {0});
}

void gru_backward(Sample& s) {
    const size_t O = s.O;
    each_step_back(s, 4, {0, 1, 3}, [&](size_t n, size_t, size_t o, const Sum& dh, Sum& passed) {
        const Ref* const gates = s["gates"].data() + 4 * n * O + o;
        const Ref r = gates[0], z = gates[O], m = gates[2 * O], q = gates[3 * O], h = s["before"][n * O + o];
        const Ref roundings = (3 * O + 16) * s.P * s.eps, through = (1 - z) * (1 - m * m);
        const auto set = [&](size_t gate, Ref slope, Ref size) {
            s.wanted["dgates"].set((4 * n + gate) * O + o, dh.value * slope, roundings * dh.size * size);
        };
        const Ref wide = (1 + fabs(z)) * (1 + m * m);
        set(0, through * q * r * (1 - r), wide * fabs(q * r) * (1 + fabs(r)));
        set(1, (h - m) * z * (1 - z), (fabs(h) + fabs(m)) * fabs(z) * (1 + fabs(z)));
        set(2, through, wide);
        set(3, through * r, wide * fabs(r));
        passed = {dh.value * z, dh.size * fabs(z)};
    });
    of_gates(s, 4, {0, 1, 2}, {0, 1, 3});
}

void lstm_backward(Sample& s) {
    const size_t O = s.O;
    std::vector<Sum> cells(O);
    each_step_back(s, 4, {0, 1, 2, 3}, [&](size_t n, size_t t, size_t o, const Sum& dh, Sum&) {
        const Ref *const gates = s["gates"].data() + 4 * n * O + o, *const cell =
                                                                        s["cell"].data() + n * O + o;
        const Ref i = gates[0], f = gates[O], g = gates[2 * O], shown = gates[3 * O],
                  squashed = std::tanh(*cell);
        const Ref roundings = (4 * O + 24) * s.P * s.eps, previous = t > 0 ? *(cell - O) : 0;
        if (t + 1 == s.P) cells[o] = Sum{};
        Sum& dc = cells[o];
        dc.value += dh.value * shown * (1 - squashed * squashed);
        dc.size += dh.size * fabs(shown) * (1 + squashed * squashed);
        const auto set = [&](size_t gate, const Sum& d, Ref slope, Ref size) {
            s.wanted["dgates"].set((4 * n + gate) * O + o, d.value * slope, roundings * d.size * size);
        };
        set(0, dc, g * i * (1 - i), fabs(g * i) * (1 + fabs(i)));
        set(1, dc, previous * f * (1 - f), fabs(previous * f) * (1 + fabs(f)));
        set(2, dc, i * (1 - g * g), fabs(i) * (1 + g * g));
        set(3, dh, squashed * shown * (1 - shown), fabs(shown) * (1 + fabs(shown)));
        dc = {dc.value * f, dc.size * fabs(f)};
    });
    of_gates(s, 4, {0, 1, 2, 3}, {0, 1, 2, 3});
}

void last_forward(Sample& s) {
    for (size_t i = 0; i < s.N() * s.O; ++i) {
        const size_t row = i / s.O;
        s.wanted["a"].set(i, s["x"][(row + 1) * s.I - s.O + i % s.O], 0);
    }
}
void last_backward(Sample& s) {
    for (size_t n = 0; n < s.N(); ++n)
        for (size_t k = 0; k < s.I; ++k)
            s.wanted["dx"].set(n * s.I + k, k + s.O < s.I ? 0 : s["da"][n * s.O + k + s.O - s.I], 0);
}

// A row may have more values than positions go out: the first ones are read.
size_t id_at(const Sample& s, size_t n) { return n / s.P * s.P * s.I + n % s.P; }
void embedding_forward(Sample& s) {
    for (size_t i = 0; i < s.N() * s.O; ++i) {
        const Ref id = s["x"][id_at(s, i / s.O)];
        s.wanted["a"].set(
            i, id == s.settings["padding"] ? 0 : s["w"][static_cast<size_t>(id) * s.O + i % s.O], 0);
    }
}
void embedding_backward(Sample& s) {
    for (size_t i = 0; i < s.N() * s.I; ++i) s.wanted["dx"].set(i, 0, 0);
    for (size_t id = 0; id < static_cast<size_t>(s.settings["ids"]); ++id)
        for (size_t o = 0; o < s.O; ++o) {
            Sum sum;
            for (size_t n = 0; n < s.N(); ++n)
                if (s["x"][id_at(s, n)] == id && id != s.settings["padding"]) sum.add(s["da"][n * s.O + o]);
            s.wanted["dw"].set(id * s.O + o, sum.value, (s.N() + 2) * s.eps * sum.size);
        }
}

const std::map<std::string, Definition> kDefinitions = {
    {"rnn",
     {.settings = {{"relu", 0}}, .forward = rnn_forward, .backward = rnn_backward, .predict = rnn_forward}},
    {"gru", {.forward = gru_forward, .backward = gru_backward, .predict = gru_forward}},
    {"lstm", {.forward = lstm_forward, .backward = lstm_backward, .predict = lstm_forward}},
    {"last", {.forward = last_forward, .backward = last_backward}},
    {"embedding",
     {.spans = {{"x", {0, 11, true}}},
      .settings = {{"ids", 11}, {"padding", 3}},
      .forward = embedding_forward,
      .backward = embedding_backward}},
};

}  // namespace

const std::map<std::string, Definition>& of_sequences() { return kDefinitions; }

}  // namespace parity
