// The base of the operations, compiled once for each instruction set and float type: what one has that says nothing else.
#pragma once

#include "../kernels/call.hpp"
#include "../kernels/column_sums.hpp"
#include "../kernels/parallel.hpp"

namespace {

using fastnn::Range;
using fastnn::Spec;
using Call = fastnn::Call<Real>;

struct Operation {
    static constexpr void (*predict)(const Call&, Range) = nullptr;
    static constexpr void (*serve)(const Call&, size_t) = nullptr;
    static constexpr void (*backward)(const Call&, Range) = nullptr;
    // By reference: GCC stores a Range that comes in registers by halves and reads it whole, which waits 15 cycles for both.
    static constexpr void (*gradient)(const Call&, int, const Range&, Real*) = nullptr;
    static constexpr void (*prepare)(const Call&, Range) = nullptr;
    static constexpr void (*pack)(const Call&, int, Range) = nullptr;
    static constexpr size_t (*packed)(const Call&, const fastnn::Use&, int) = nullptr;
    static constexpr size_t (*gather)(const Call&, const fastnn::Rows&, const int64_t*, size_t, size_t,
                                      size_t, Real*) = nullptr;
    static constexpr bool sparse = false;
    static double ns(size_t N, size_t, size_t O, const double*) {
        return 0.3 * static_cast<double>(N) * static_cast<double>(O);
    }
    static bool fits(const fastnn::Passage&) { return true; }
};

template <class T>
T* scratch(const Call& c, int i) {
    return static_cast<T*>(c.scratch[i]);
}
FASTNN_INLINE Real* statistic(const Call& c, int i) { return static_cast<Real*>(c.statistics[i]); }

#ifdef __aarch64__
struct Any {
    size_t n;  // 1 .. W
};
FASTNN_INLINE V load(const Real* p, Any lanes) { return lanes.n == W ? load(p) : load_part(p, lanes.n); }
FASTNN_INLINE void store(Real* p, V v, Any lanes) { lanes.n == W ? store(p, v) : store_part(p, v, lanes.n); }
FASTNN_INLINE size_t lane_count(Any lanes) { return lanes.n; }
#endif

// f(j, lanes) for each vector of columns, shared out over threads.
template <class F>
FASTNN_INLINE void for_columns(size_t B, size_t O, double ns, F&& f) {
    share(O, ns * static_cast<double>(B), 64 / sizeof(Real), [&](size_t begin, size_t end) {
#ifdef __aarch64__
        // One loop for whole vectors and the last one: of two products and a sum GCC 12 chose otherwise in each which
        // one an FMA takes, and columns had other bits in pieces.
        for (size_t j = begin; j < end; j += W) f(j, Any{end - j < W ? end - j : W});
#else
        for_vectors(end - begin, [&](size_t j, auto lanes) { f(begin + j, lanes); });
#endif
    });
}

// What squares beyond Real's range are made of: mean and variance of n values, `step` apart, in units of their peak |x|. That is
// not below 1, which it is beside a NaN.
struct LargeMoments {
    LargeMoments(size_t n, size_t step, const Real* x) {
        const double count = static_cast<double>(n);
        for (size_t i = 0; i < n; ++i) peak = __builtin_fmax(peak, __builtin_fabs(double{x[i * step]}));
        for (size_t i = 0; i < n; ++i) mean += x[i * step] / peak / count;
        for (size_t i = 0; i < n; ++i) {
            const double d = x[i * step] / peak - mean;
            var += d * d / count;
        }
    }
    double spread(double epsilon) const { return __builtin_sqrt(var + epsilon / peak / peak); }
    double peak = 1, mean = 0, var = 0;
};
FASTNN_INLINE bool is_finite(Real x) { return x - x == 0; }
FASTNN_INLINE size_t lane_count(Full) { return W; }
FASTNN_INLINE size_t lane_count(Part lanes) { return lanes.n; }

}  // namespace
