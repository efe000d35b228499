// The functions of math.hpp, to 4 ULP, at their special values too; the shuffle, number by number.
#include "checks.hpp"
#include "formulas.hpp"

namespace parity {
namespace {

template <class T>
void function(const fastnn::Table<T>& t, int f, Report& report) {
    using Limits = std::numeric_limits<T>;
    Ref (*const reference)(Ref) = function_named(t.function_names[f]);
    if (reference == nullptr) return report.skip(t.function_names[f]);
    const T inf = Limits::infinity();
    const T special[] = {T(0),
                         T(-1),
                         T(1),
                         inf,
                         -inf,
                         Limits::quiet_NaN(),
                         T(1000),
                         T(-1000),
                         T(1e-30),
                         T(-1e-30),
                         T(-0.9999),
                         T(-87.5),
                         T(-103),
                         T(-740),
                         Limits::denorm_min(),
                         Limits::max(),
                         Limits::lowest()};
    Buffer<T> x = uniform<T>(4096, -20, 20), out(x.size());
    std::memcpy(x, special, sizeof special);
    t.function(f, x.size(), x, out);
    Line& line = report.line(std::string("math ") + t.function_names[f]);
    for (size_t i = 0; i < x.size(); ++i) {
        Ref want = reference(x[i]);
        if (std::fabs(want) > Limits::max()) want = want > 0 ? inf : -inf;
        const Ref ulp = std::fmax(std::fabs(want) * Limits::epsilon(), Ref(Limits::denorm_min()));
        line.add(out[i], want, 4 * ulp);
    }
}

template <class T>
void shuffle(const fastnn::Table<T>& t, size_t n, Report& report) {
    const fastnn::RandomKey key{0x123456789abcdef0u, (uint64_t(7) << 32) + 11, 0xffffffffu};
    Buffer<int64_t> want(n, 0), order(n, -1);
    for (size_t i = 0; i < n; ++i) want[i] = static_cast<int64_t>(i);
    for (size_t i = n; i-- > 1;) {
        const uint64_t low = philox_bits(2 * i, key), high = philox_bits(2 * i + 1, key);
        const auto product = static_cast<unsigned __int128>(high << 32 | low) * (i + 1);
        std::swap(want[i], want[static_cast<size_t>(product >> 64)]);
    }
    t.shuffle(key, n, order);
    Line& line = report.line("shuffle");
    for (size_t i = 0; i < n; ++i) line.add(order[i] == want[i]);
}

}  // namespace

template <class T>
void check_functions(const fastnn::Table<T>& table, Report& report) {
    for (int f = 0; f < table.functions; ++f) function(table, f, report);
    const size_t W = lanes_of(table);
    for (const size_t n : {size_t(1), W - 1, W, 4 * W + 3, size_t(20000)}) shuffle(table, n, report);
}
PARITY_FOR_BOTH(check_functions)

}  // namespace parity
