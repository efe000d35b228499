// The checks, one file a subject: each holds a part of a table against its definitions, and writes into the report.
#pragma once

#include <algorithm>

#include "../kernels/table.hpp"
#include "report.hpp"

namespace parity {

template <class T>
void check_operations(const fastnn::Table<T>& table, Report& report);  // operations.cpp
template <class T>
void check_sources(const fastnn::Table<T>& table, Report& report);  // sources.cpp
template <class T>
void check_moments(const fastnn::Table<T>& table, Report& report);  // moments.cpp
template <class T>
void check_losses(const fastnn::Table<T>& table, Report& report);  // losses.cpp
template <class T>
void check_rules(const fastnn::Table<T>& table,
                 Report& report);  // rules.cpp: update rules, and the norm they clip by
template <class T>
void check_functions(const fastnn::Table<T>& table, Report& report);  // functions.cpp: math.hpp, the shuffle
void check_int8(const fastnn::Table<float>& table, int ways, Report& report);  // int8.cpp: the first ways

template <class T>
size_t lanes_of(const fastnn::Table<T>& table) {
    return static_cast<size_t>(table.vector_bytes) / sizeof(T);
}
// Around the width of a vector.
template <class T>
std::vector<size_t> sizes_of(const fastnn::Table<T>& table) {
    const size_t W = lanes_of(table);
    return {1, W - 1, W, W + 1, 4 * W + 3};
}

// Instantiates a check for both types.
#define PARITY_FOR_BOTH(check)                                 \
    template void check(const fastnn::Table<float>&, Report&); \
    template void check(const fastnn::Table<double>&, Report&);

}  // namespace parity
