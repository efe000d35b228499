// What one core can do at most: independent multiply-adds on registers, nothing else. For the benchmarks, which
// state every rate as a share of it.
#pragma once

#include "tiles.hpp"

namespace {

// `rounds` multiply-adds on each of the micro-kernel's accumulators: as many as it keeps in flight, so their
// latency is hidden (6 x 2 >= 4 cycles x 2 units on x86). Returns the floating-point operations done, in `sink`
// what keeps the compiler from leaving them out.
double multiply_adds(size_t rounds, Real* sink) {
    V acc[MR][NR];
    const V x = broadcast(sink[0]), y = broadcast(sink[1]);
    for (size_t i = 0; i < MR; ++i)
        for (size_t j = 0; j < NR; ++j)
            acc[i][j] = broadcast(static_cast<Real>(i * NR + j));  // all different: equal ones would be one
    for (size_t k = 0; k < rounds; ++k) {
        FASTNN_UNROLL
        for (size_t i = 0; i < MR; ++i) FASTNN_UNROLL
        for (size_t j = 0; j < NR; ++j) acc[i][j] = acc[i][j] * x + y;
    }
    V total{};
    for (size_t i = 0; i < MR; ++i)
        for (size_t j = 0; j < NR; ++j) total += acc[i][j];
    sink[0] = total[0];
    return 2.0 * W * MR * NR * static_cast<double>(rounds);
}

}  // namespace
