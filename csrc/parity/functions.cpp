// The functions of math.hpp, to 4 ULP, at their special values too; the shuffle, number by number; moments.
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

// Slices of 130 rows: chunks, and groups of rows that are not full.
template <class T, class S>
void moments_of(const fastnn::Table<T>& t, size_t n, size_t I, fastnn::Stored stored, Report& report) {
    const size_t ld = I + 1, B = n - 1, step = 130, slices = (B + step - 1) / step;
    Buffer<S> x(n * ld - 1, S(0));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<S>(g_random() % 200);
    Buffer<int64_t> rows(B, 0);
    for (size_t i = 0; i < B; ++i) rows[i] = static_cast<int64_t>((i * 7) % n);
    Buffer<double> pivot = uniform<double>(I, 0, 200), unit(I, 0.25), out(4 * slices * I);
    fastnn::Rows data;
    data.data = x.get(), data.stored = stored, data.stride = static_cast<ptrdiff_t>(ld * sizeof(S));
    t.moments(data, rows, B, I, step, pivot, unit, out);
    const Ref eps = std::numeric_limits<double>::epsilon();
    Line& line = report.line("moments");
    for (size_t k = 0; k < slices * I; ++k) {
        const size_t begin = k / I * step, end = std::min(B, begin + step), j = k % I;
        const auto value = [&](size_t i) { return Ref(x[static_cast<size_t>(rows[i]) * ld + j]); };
        Ref low = value(begin), high = low, mean = 0, squares = 0;
        for (size_t i = begin; i < end; ++i) {
            low = std::min(low, value(i)), high = std::max(high, value(i));
            mean += (value(i) - pivot[j]) * unit[j] / (end - begin);
        }
        for (size_t i = begin; i < end; ++i) {
            const Ref d = (value(i) - pivot[j]) * unit[j] - mean;
            squares += d * d;
        }
        line.add(out[k], low, 0), line.add(out[slices * I + k], high, 0);
        line.add(out[2 * slices * I + k], mean, eps * 16 * 50);  // |x - pivot| unit <= 50
        line.add(out[3 * slices * I + k], squares, eps * step * (squares + 50 * 50));
    }
}

}  // namespace

template <class T>
void check_functions(const fastnn::Table<T>& table, Report& report) {
    for (int f = 0; f < table.functions; ++f) function(table, f, report);
    const size_t W = lanes_of(table);
    for (const size_t n : {size_t(1), W - 1, W, 4 * W + 3, size_t(20000)}) shuffle(table, n, report);
    for (const size_t I : sizes_of(table)) {
        moments_of<T, float>(table, 300, I, fastnn::kFloat32, report);
        moments_of<T, double>(table, 300, I, fastnn::kFloat64, report);
        moments_of<T, uint8_t>(table, 300, I, fastnn::kUint8, report);
    }
}
PARITY_FOR_BOTH(check_functions)

}  // namespace parity
