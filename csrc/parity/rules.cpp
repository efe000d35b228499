// Every update rule, alone and with clipping, penalties and decay; the norm that gradients are clipped by.
#include "checks.hpp"
#include "formulas.hpp"

namespace parity {
namespace {

using fastnn::Adjustment;

constexpr Adjustment kPlain{1, __builtin_inf(), 0, 0, 0}, kAdjusted{0.5, 0.3, 0.01, 0.02, 0.001};

// What an adjustment makes of a gradient.
Ref adjusted(Ref g, Ref w, const Adjustment& a) {
    const Ref limit = a.limit, sign = w > 0 ? 1 : w < 0 ? -1 : 0;
    return std::fmin(std::fmax(g * a.scale, -limit), limit) + sign * a.l1 + w * a.l2;
}

template <class T>
void update(const fastnn::Table<T>& t, int r, const Adjustment& adjust, size_t n, Report& report) {
    const std::string name = std::string("update ") + t.rule_names[r];
    const Rule* const rule = rule_named(t.rule_names[r]);
    if (rule == nullptr) return report.skip(t.rule_names[r]);
    const Ref eps = std::numeric_limits<T>::epsilon();
    std::vector<double> numbers;
    for (int k = 0; k < t.rule_coefficients[r]; ++k) numbers.push_back(0.1 + 0.1 * k);
    const Coefficients coefficients(numbers.begin(), numbers.end());
    Buffer<T> w = uniform<T>(n, -1, 1), g = uniform<T>(n, -1, 1);
    const Buffer<T> w0 = w;
    std::vector<Buffer<T>> slots, before;
    T* pointers[8];
    slots.reserve(8), before.reserve(8);
    for (int k = 0; k < t.rule_slots[r]; ++k) {
        slots.push_back(uniform<T>(n, 0.1, 1));
        before.push_back(slots.back());
        pointers[k] = slots.back();
    }
    const bool finite = t.update(r, numbers.data(), adjust, n, w, g, pointers);
    report.line(name + " is finite").add(finite);
    Line &line = report.line(name), &slot_line = report.line(name + " slots");
    for (size_t i = 0; i < n; ++i) {
        Slots s;
        for (const auto& slot : before) s.push_back(slot[i]);
        const Ref delta = (*rule)(adjusted(g[i], w0[i], adjust), s, coefficients);
        line.add(w[i], w0[i] * (1 - Ref(adjust.shrink)) - delta, 16 * eps * (1 + std::fabs(delta) * 4));
        for (size_t k = 0; k < s.size(); ++k) slot_line.add(slots[k][i], s[k], 16 * eps * (1 + s[k]));
    }
}

// An update that overflows says so.
template <class T>
void diverges(const fastnn::Table<T>& t, int r, size_t n, Report& report) {
    const std::vector<double> numbers(static_cast<size_t>(t.rule_coefficients[r]), 0.5);
    for (const size_t bad : {size_t(0), n - 1}) {
        Buffer<T> w = uniform<T>(n, -1, 1), g = uniform<T>(n, -1, 1);
        w[bad] = std::numeric_limits<T>::quiet_NaN();
        std::vector<Buffer<T>> slots;
        T* pointers[8];
        slots.reserve(8);
        for (int k = 0; k < t.rule_slots[r]; ++k)
            slots.push_back(uniform<T>(n, 0.1, 1)), pointers[k] = slots.back();
        const bool finite = t.update(r, numbers.data(), kPlain, n, w, g, pointers);
        report.line(std::string("update ") + t.rule_names[r] + " says that it diverges").add(!finite);
    }
}

template <class T>
void squared_norm(const fastnn::Table<T>& t, size_t n, Report& report) {
    Buffer<T> g = uniform<T>(n, -1, 1);
    Ref want = 0;
    for (size_t i = 0; i < n; ++i) want += Ref(g[i]) * g[i];
    report.line("squared_norm")
        .add(t.squared_norm(n, g), want, n * Ref(std::numeric_limits<double>::epsilon()) * want);
}

}  // namespace

template <class T>
void check_rules(const fastnn::Table<T>& table, Report& report) {
    const size_t W = lanes_of(table);
    for (const size_t n : {size_t(1), W - 1, W, 4 * W + 3, size_t(20000)}) {
        for (int r = 0; r < table.rules; ++r) {
            update(table, r, kPlain, n, report);
            update(table, r, kAdjusted, n, report);
            diverges(table, r, n, report);
        }
        squared_norm(table, n, report);
    }
}
PARITY_FOR_BOTH(check_rules)

}  // namespace parity
