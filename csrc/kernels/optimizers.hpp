// The update rules and what surrounds them (clipping, penalties, decay), in one pass over w, g and the slots.
//
// A new rule is a struct here and a name in FASTNN_RULES; formulas and sources stand in formulas/rules.py. The
// constructor takes the coefficients in float64 and rounds once; operator() maps g to the step and updates
// the slots.
#pragma once

#include "own.hpp"
#include "parallel.hpp"
#include "table.hpp"

namespace {

namespace rules {

FASTNN_INLINE V number(double x) { return broadcast(static_cast<Real>(x)); }

struct sgd {
    static constexpr int slots = 0, coefficients = 1;
    V lr;
    explicit sgd(const double* c) : lr(number(c[0])) {}
    FASTNN_INLINE V operator()(V g, V*) const { return lr * g; }
};

struct momentum {
    static constexpr int slots = 1, coefficients = 3;
    V lr, beta, gain;
    explicit momentum(const double* c) : lr(number(c[0])), beta(number(c[1])), gain(number(c[2])) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        s[0] = beta * s[0] + gain * g;
        return lr * s[0];
    }
};

struct nesterov {
    static constexpr int slots = 1, coefficients = 2;
    V lr, beta;
    explicit nesterov(const double* c) : lr(number(c[0])), beta(number(c[1])) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        s[0] = beta * s[0] + g;
        return lr * (g + beta * s[0]);
    }
};

struct adagrad {
    static constexpr int slots = 1, coefficients = 2;
    V lr, epsilon;
    explicit adagrad(const double* c) : lr(number(c[0])), epsilon(number(c[1])) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        s[0] = s[0] + g * g;
        return lr * g / (sqrt(s[0]) + epsilon);
    }
};

struct adadelta {
    static constexpr int slots = 2, coefficients = 4;
    V lr, rho, rest, epsilon;
    explicit adadelta(const double* c)
        : lr(number(c[0])), rho(number(c[1])), rest(number(c[2])), epsilon(number(c[3])) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        s[0] = rho * s[0] + rest * g * g;
        const V step = sqrt(s[1] + epsilon) / sqrt(s[0] + epsilon) * g;
        s[1] = rho * s[1] + rest * step * step;
        return lr * step;
    }
};

struct rmsprop {
    static constexpr int slots = 1, coefficients = 4;
    V lr, rho, rest, epsilon;
    explicit rmsprop(const double* c)
        : lr(number(c[0])), rho(number(c[1])), rest(number(c[2])), epsilon(number(c[3])) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        s[0] = rho * s[0] + rest * g * g;
        return lr * g / (sqrt(s[0]) + epsilon);
    }
};

// m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2 in s[0] and s[1], and what divides the step: the part
// that the family of adam shares.
struct Moments {
    V beta1, rest1, beta2, rest2, root, epsilon;
    explicit Moments(const double* c)
        : beta1(number(c[0])),
          rest1(number(c[1])),
          beta2(number(c[2])),
          rest2(number(c[3])),
          root(number(c[4])),
          epsilon(number(c[5])) {}
    FASTNN_INLINE void average(V g, V* s) const {
        s[0] = beta1 * s[0] + rest1 * g;
        s[1] = beta2 * s[1] + rest2 * g * g;
    }
    FASTNN_INLINE V divisor(V v) const { return sqrt(v) * root + epsilon; }
};

struct adam {
    static constexpr int slots = 2, coefficients = 7;
    V lr;
    Moments moments;
    explicit adam(const double* c) : lr(number(c[0])), moments(c + 1) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        moments.average(g, s);
        return lr * s[0] / moments.divisor(s[1]);
    }
};

struct amsgrad : adam {
    static constexpr int slots = 3;
    using adam::adam;
    FASTNN_INLINE V operator()(V g, V* s) const {
        moments.average(g, s);
        s[2] = select(s[2] == s[2], max(s[2], s[1]), s[2]);  // NaN in either stays, as in np.maximum
        return lr * s[0] / moments.divisor(s[2]);
    }
};

struct nadam {
    static constexpr int slots = 2, coefficients = 8;
    V lr_m, lr_g;
    Moments moments;
    explicit nadam(const double* c) : lr_m(number(c[0])), lr_g(number(c[1])), moments(c + 2) {}
    FASTNN_INLINE V operator()(V g, V* s) const {
        moments.average(g, s);
        return (lr_m * s[0] + lr_g * g) / moments.divisor(s[1]);
    }
};

}  // namespace rules

#define FASTNN_RULES(X) \
    X(sgd) X(momentum) X(nesterov) X(adagrad) X(adadelta) X(rmsprop) X(adam) X(amsgrad) X(nadam)

// The numbers of an Adjustment, in vectors.
struct Adjuster {
    V scale, limit, l1, l2, rest;
    explicit Adjuster(const fastnn::Adjustment& a)
        : scale(rules::number(a.scale)),
          limit(rules::number(a.limit)),
          l1(rules::number(a.l1)),
          l2(rules::number(a.l2)),
          rest(rules::number(1.0 - a.shrink)) {}
    FASTNN_INLINE V clipped(V g) const { return min(limit, max(-limit, g * scale)); }
    FASTNN_INLINE V l1_sign(V w) const { return select(w == Real(0), V{}, copysign(l1, w)); }
};

// g <- clip(scale g, -limit, limit) + l1 sign(w) + l2 w: nothing to do (plain) in most trainings, and then
// not done.
// Returns whether all that it wrote is finite: an infinity or a NaN less itself is a NaN, not 0. The rule comes as a copy,
// which stays in registers: what it points to could be among what is written. Together a tenth of Adam's time.
template <class Rule, bool plain>
bool update_range(const Rule rule, const fastnn::Adjustment& adjustment, size_t begin, size_t end, Real* w,
                  const Real* g, Real* const* slot_list) {
    Real* slots[Rule::slots + 1] = {};
    for (int j = 0; j < Rule::slots; ++j) slots[j] = slot_list[j];
    const Adjuster adjust(adjustment);
    VI wrong{};
    for_vectors(end - begin, [&](size_t k, auto lanes) {
        const size_t i = begin + k;
        V wi = load(w + i, lanes), gi = load(g + i, lanes), s[Rule::slots + 1];
        FASTNN_UNROLL
        for (int j = 0; j < Rule::slots; ++j) s[j] = load(slots[j] + i, lanes);
        if constexpr (!plain) {
            gi = adjust.clipped(gi);
            gi += adjust.l1_sign(wi) + adjust.l2 * wi;
            wi *= adjust.rest;
        }
        wi -= rule(gi, s);
        store(w + i, wi, lanes);
        wrong |= (VI)(keep(wi, lanes) - keep(wi, lanes));
        FASTNN_UNROLL
        for (int j = 0; j < Rule::slots; ++j) {
            store(slots[j] + i, s[j], lanes);
            wrong |= (VI)(keep(s[j], lanes) - keep(s[j], lanes));
        }
    });
    return !any(wrong != VI{});
}

template <class Rule>
bool update_all(const double* coefficients, const fastnn::Adjustment& adjustment, size_t n, Real* w,
                const Real* g, Real* const* slots) {
    const Rule rule(coefficients);
    const bool plain = adjustment.scale == 1.0 && adjustment.limit == __builtin_inf() &&
                       adjustment.l1 == 0.0 && adjustment.l2 == 0.0 && adjustment.shrink == 0.0;
    const auto range = plain ? update_range<Rule, true> : update_range<Rule, false>;
    bool finite = true;
    share(n, 0.15 + 0.1 * Rule::slots, kGrain, [&](size_t begin, size_t end) {
        if (!range(rule, adjustment, begin, end, w, g, slots))
            __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
    });
    return finite;
}

// The same with a rule of one's own.
bool own_range(const Own& own, const double* coefficients, const fastnn::Adjustment& adjustment, size_t begin,
               size_t end, Real* w, const Real* g, Real* const* slots) {
    alignas(64) Real in[(1 + fastnn::kMostSlots) * kOwnBlock], out[(1 + fastnn::kMostSlots) * kOwnBlock];
    const Adjuster adjust(adjustment);
    VI wrong{};
    for (size_t i = begin; i < end; i += kOwnBlock) {
        const size_t count = end - i < kOwnBlock ? end - i : kOwnBlock;
        for_vectors(count, [&](size_t j, auto lanes) {
            const V wi = load(w + i + j, lanes);
            V gi = adjust.clipped(load(g + i + j, lanes));
            if (adjustment.l1 != 0.0) gi += adjust.l1_sign(wi);
            if (adjustment.l2 != 0.0) gi += adjust.l2 * wi;
            store(in + j, gi, lanes);
        });
        for (int s = 0; s < own.slots; ++s) copy(count, slots[s] + i, in + (1 + s) * kOwnBlock);
        for (int b = 0; b <= own.slots; ++b) clear_behind(count, in + b * kOwnBlock);
        own.formula(coefficients, in, out);
        for_vectors(count, [&](size_t j, auto lanes) {
            const V wi = load(w + i + j, lanes) * adjust.rest - load(out + j, lanes);
            store(w + i + j, wi, lanes);
            wrong |= (VI)(keep(wi, lanes) - keep(wi, lanes));
            for (int s = 0; s < own.slots; ++s) {
                const V slot = load(out + (1 + s) * kOwnBlock + j, lanes);
                store(slots[s] + i + j, slot, lanes);
                wrong |= (VI)(keep(slot, lanes) - keep(slot, lanes));
            }
        });
    }
    return !any(wrong != VI{});
}

bool own_update(const Own& own, const double* coefficients, const fastnn::Adjustment& adjustment, size_t n,
                Real* w, const Real* g, Real* const* slots) {
    bool finite = true;
    share(n, 0.3 + 0.2 * own.slots, kGrain, [&](size_t begin, size_t end) {
        if (!own_range(own, coefficients, adjustment, begin, end, w, g, slots))
            __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
    });
    return finite;
}

using Update = bool (*)(const double* coefficients, const fastnn::Adjustment& adjustment, size_t n, Real* w,
                        const Real* g, Real* const* slots);
const Update kUpdates[] = {
#define FASTNN_X(name) update_all<rules::name>,
    FASTNN_RULES(FASTNN_X)
#undef FASTNN_X
};
const char* const kRuleNames[] = {
#define FASTNN_X(name) #name,
    FASTNN_RULES(FASTNN_X)
#undef FASTNN_X
};
const int kRuleSlots[] = {
#define FASTNN_X(name) rules::name::slots,
    FASTNN_RULES(FASTNN_X)
#undef FASTNN_X
};
const int kRuleCoefficients[] = {
#define FASTNN_X(name) rules::name::coefficients,
    FASTNN_RULES(FASTNN_X)
#undef FASTNN_X
};

// Sum of g^2 in float64: chunks of fixed length, so that the order does not depend on the threads.
double squared_norm(size_t n, const Real* g) {
    constexpr size_t kPiece = 8192, H = FASTNN_VECTOR_BYTES / 8;
    typedef double D __attribute__((vector_size(FASTNN_VECTOR_BYTES)));
    typedef Real Half __attribute__((vector_size(H * sizeof(Real))));
    const auto piece = [&](size_t begin, size_t end) {
        D s[4] = {};
        size_t i = begin;
        for (; i + 4 * H <= end; i += 4 * H) {
            FASTNN_UNROLL
            for (size_t c = 0; c < 4; ++c) {
                Half half;
                __builtin_memcpy(&half, g + i + c * H, sizeof half);
                const D d = __builtin_convertvector(half, D);
                s[c] += d * d;
            }
        }
        double rest = 0;
        for (; i < end; ++i) rest += static_cast<double>(g[i]) * static_cast<double>(g[i]);
        const D all = (s[0] + s[1]) + (s[2] + s[3]);
        for (size_t j = 0; j < H; ++j) rest += all[j];
        return rest;
    };
    const size_t pieces = (n + kPiece - 1) / kPiece;
    if (pieces <= 1) return piece(0, n);
    double* partial = static_cast<double*>(fastnn::scratch(fastnn::kRow, pieces * sizeof(double)));
    share(pieces, kPiece * 0.12, 1, [&](size_t begin, size_t end) {
        for (size_t p = begin; p < end; ++p)
            partial[p] = piece(p * kPiece, p + 1 < pieces ? (p + 1) * kPiece : n);
    });
    double total = 0;
    for (size_t p = 0; p < pieces; ++p) total += partial[p];
    return total;
}

}  // namespace
