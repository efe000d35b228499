// The kernels of one instruction set and one float type: a struct of plain C function pointers.
// No code, no Python, no SIMD. Filled by table.cpp, chosen by dispatch.cpp.
//
// The kernels and their meaning are those of contract.py: rows are samples, C order, outputs are
// overwritten and never read. B rows, I inputs, O outputs. `ld*` is the distance, in elements, between rows;
// an array without one is contiguous. A kernel starts threads when its work is worth them, except when it is
// called inside a parallel region: then it stays on its thread, so an engine may call it on sub-blocks.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "call.hpp"

namespace fastnn {

struct Adjustment {
    double scale, limit, l1, l2, shrink;  // see contract.py
};

template <class T>
struct Table {
    const char* instruction_set;
    int vector_bytes;

    // The registries: a code is an index into these.
    int activations, losses, rules, functions;
    const char* const* activation_names;
    const char* const* loss_names;
    const char* const* rule_names;
    const char* const* function_names;  // math.hpp
    const int* rule_slots;
    const int* rule_coefficients;
    const int* loss_targets;  // bit 0: labels, bit 1: values, bit 2: each value by itself
    const int* loss_widths;   // outputs for each target; 0: one for each parameter

    const Operation<T>* operations;  // ops/all.hpp
    int operation_count;
    const Int8Way<T>* int8_ways;  // of float32: best last, which a CPU may lack, see dispatch.hpp
    int int8_way_count;
    size_t panel_columns;  // rows of a matrix that its operation packs at once, or several times as many

    void (*shuffle)(RandomKey key, size_t n, int64_t* order);  // see _random.py
    // out (B, I) = those rows, cast. Behind the B numbers of rows stand `following` more, of rows that will be asked for next.
    // Returns as Operation::gather.
    size_t (*gather)(const Rows& data, const int64_t* rows, size_t B, size_t following, size_t I, T* out);
    // What an operation relies on that takes sparse rows. Returns the same.
    size_t (*check_sparse_rows)(const Rows& data, const int64_t* rows, size_t B, size_t I);
    // Of each slice of `step` of the rows (n numbers of them, or null: rows 0 .. n-1), in double: the least and the largest
    // value of each column, then mean and sum of squared deviations of (x - pivot) * unit. out: (4, slices, I). Dense rows
    // of float32, float64 or uint8.
    void (*moments)(const Rows& data, const int64_t* rows, size_t n, size_t I, size_t step,
                    const double* pivot, const double* unit, double* out);
    bool (*finite)(size_t n, const T* x);  // whether all are
    void (*activation_backward)(Activated below, size_t n, const T* saved, const T* da, T* dz);

    // One of labels (B,) and values (B, O / width) is null. At least one parameter.
    void (*loss)(int loss, const double* parameters, size_t count, size_t B, size_t O, const T* z,
                 const int64_t* labels, const T* values, const T* weight, T* value, T* dz);
    double (*squared_norm)(size_t n, const T* g);
    // Returns whether everything it wrote is finite.
    bool (*update)(int rule, const double* coefficients, const Adjustment& adjustment, size_t n, T* w,
                   const T* g, T* const* slots);

    void (*function)(int function, size_t n, const T* x, T* out);  // math.hpp, for its tests
    double (*multiply_adds)(size_t rounds, T* sink);               // peak.hpp, for the benchmarks
};

}  // namespace fastnn
