// Sharing a loop out over threads. No OpenMP here: threads.cpp has it, compiled once for the baseline.
#pragma once

#include "../threads.hpp"
#include "simd.hpp"

namespace {

// f(begin, end) over 0 .. n in as many ranges as the work (ns an item) is worth threads, cut at multiples of
// `grain`.
template <class F>
void share(size_t n, double ns, size_t grain, F f) {
    const double total = static_cast<double>(n) * ns;
    const int threads = fastnn::threads_for(total);
    if (threads == 1) {
        if (n > 0) f(size_t(0), n);
        return;
    }
    struct Context {
        F& f;
        size_t n, step;
    } context{f, n, ((n + threads - 1) / threads + grain - 1) / grain * grain};
    fastnn::run_tasks(
        threads, total,
        [](void* pointer, int t) {
            const Context& all = *static_cast<Context*>(pointer);
            const size_t begin = static_cast<size_t>(t) * all.step;
            if (begin < all.n) all.f(begin, all.n - begin < all.step ? all.n : begin + all.step);
        },
        &context);
}

constexpr size_t kGrain = 1024;  // elements: whole vectors and whole cache lines on every thread

}  // namespace
