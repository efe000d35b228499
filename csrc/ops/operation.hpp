// The base of the operations, compiled once for each instruction set and float type: what one has that says nothing else.
#pragma once

#include "../kernels/call.hpp"
#include "../kernels/parallel.hpp"

namespace {

using fastnn::Range;
using fastnn::Spec;
using Call = fastnn::Call<Real>;

struct Operation {
    static constexpr void (*predict)(const Call&, Range) = nullptr;
    static constexpr void (*backward)(const Call&, Range) = nullptr;
    static constexpr void (*gradient)(const Call&, int, Range, Real*) = nullptr;
    static constexpr void (*prepare)(const Call&, Range) = nullptr;
    static constexpr void (*pack)(const Call&, int, Range) = nullptr;
    static constexpr size_t (*packed)(const Call&, const fastnn::Use&, int) = nullptr;
    static constexpr size_t (*gather)(const Call&, const fastnn::Rows&, const int64_t*, size_t, size_t,
                                      size_t, Real*) = nullptr;
    static double ns(size_t N, size_t, size_t O) {
        return 0.3 * static_cast<double>(N) * static_cast<double>(O);
    }
    static bool fits(size_t, size_t) { return true; }
};

template <class T>
T* scratch(const Call& c, int i) {
    return static_cast<T*>(c.scratch[i]);
}
FASTNN_INLINE Real* statistic(const Call& c, int i) { return static_cast<Real*>(c.statistics[i]); }

// f(j, lanes) for each vector of columns, shared out over threads.
template <class F>
FASTNN_INLINE void for_columns(size_t B, size_t O, double ns, F&& f) {
    share(O, ns * static_cast<double>(B), 64 / sizeof(Real), [&](size_t begin, size_t end) {
        for_vectors(end - begin, [&](size_t j, auto lanes) { f(begin + j, lanes); });
    });
}

// Sum over the rows of f(i): two chains, even and odd rows.
template <class F>
FASTNN_INLINE V rows_sum(size_t B, F&& f) {
    V even{}, odd{};
    size_t i = 0;
    for (; i + 2 <= B; i += 2) even += f(i), odd += f(i + 1);
    if (i < B) even += f(i);
    return even + odd;
}

}  // namespace
