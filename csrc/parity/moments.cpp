// The columns' moments that Normalize learns from: bounds, mean and squares of slices of the rows.
#include "checks.hpp"

namespace parity {
namespace {

using fastnn::Stored;

// What one column of a slice should give.
struct Column {
    Ref low, high, mean = 0, squares = 0, size = 0;

    Column(const std::vector<Ref>& x, Ref pivot, Ref unit) : low(x[0]), high(x[0]) {
        const Ref n = x.size();
        for (const Ref value : x) {
            low = std::fmin(low, value), high = std::fmax(high, value);
            mean += (value - pivot) * unit / n;
            size = std::fmax(size, (std::fabs(value) + std::fabs(pivot)) * std::fabs(unit));
        }
        for (const Ref value : x)
            squares += ((value - pivot) * unit - mean) * ((value - pivot) * unit - mean);
    }
};

template <class T, class S>
void slices(const fastnn::Table<T>& t, Stored type, size_t n, size_t I, size_t step, bool chosen,
            Report& report) {
    const size_t ld = I + 1, count = (n + step - 1) / step;
    Buffer<S> data(n * ld - 1);
    for (size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<S>(static_cast<double>(g_random() % 2000) / 8);
    fastnn::Rows stored;
    stored.data = data.get(), stored.stored = type, stored.stride = static_cast<ptrdiff_t>(ld * sizeof(S));
    Buffer<int64_t> rows(n);
    for (size_t i = 0; i < n; ++i) rows[i] = static_cast<int64_t>(chosen ? g_random() % n : i);
    const Buffer<double> pivot = uniform<double>(I, 0, 250), unit = uniform<double>(I, 0.5, 2);
    Buffer<double> out(4 * count * I);
    t.moments(stored, chosen ? rows.get() : nullptr, n, I, step, pivot, unit, out);

    Line &bounds = report.line("moments bounds"), &means = report.line("moments mean"),
         &squares = report.line("moments squares");
    const Ref eps = std::numeric_limits<double>::epsilon();
    for (size_t s = 0; s < count; ++s)
        for (size_t j = 0; j < I; ++j) {
            std::vector<Ref> x;
            for (size_t i = s * step; i < std::min(n, (s + 1) * step); ++i)
                x.push_back(data[static_cast<size_t>(rows[i]) * ld + j]);
            const Column want(x, pivot[j], unit[j]);
            const Ref terms = x.size() + 8;
            const auto got = [&](size_t which) { return out[(which * count + s) * I + j]; };
            bounds.add(got(0), want.low, 0);
            bounds.add(got(1), want.high, 0);
            means.add(got(2), want.mean, terms * eps * want.size);
            squares.add(got(3), want.squares, terms * eps * x.size() * want.size * want.size);
        }
}

}  // namespace

template <class T>
void check_moments(const fastnn::Table<T>& table, Report& report) {
    for (const size_t I : sizes_of(table))
        for (const size_t n : {size_t(1), size_t(9), size_t(300)})
            for (const bool chosen : {false, true}) {
                slices<T, float>(table, fastnn::kFloat32, n, I, 128, chosen, report);
                slices<T, double>(table, fastnn::kFloat64, n, I, 1000, chosen, report);
                slices<T, uint8_t>(table, fastnn::kUint8, n, I, 7, chosen, report);
            }
    slices<T, float>(table, fastnn::kFloat32, 40, 1100, 16, false, report);  // several panels of columns
}
PARITY_FOR_BOTH(check_moments)

}  // namespace parity
