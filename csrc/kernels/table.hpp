// The kernels of one instruction set and one float type: a struct of plain C function pointers.
// No code, no Python, no SIMD. Filled by table.cpp, chosen by dispatch.cpp.
//
// The kernels and their meaning are those of backends/contract.py: rows are samples, C order, outputs are
// overwritten and never read. B rows, I inputs, O outputs. `ld*` is the distance, in elements, between rows;
// an array without one is contiguous. A kernel starts threads when its work is worth them, except when it is
// called inside a parallel region: then it stays on its thread, so an engine may call it on sub-blocks.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastnn {

struct Adjustment {
    double scale, limit, l1, l2, shrink;  // see contract.py
};

struct RandomKey {
    uint64_t seed, step;
    uint32_t op;
};

enum Stored { kFloat32, kFloat64, kUint8 };  // what gather reads

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
    const int* loss_targets;  // bit 0: labels, bit 1: values

    void (*shuffle)(RandomKey key, size_t n, int64_t* order);  // see _random.py
    // x: (n, I), rows `stride` bytes apart, elements contiguous; out: (B, I). Behind the B numbers of rows stand `following`
    // more, those of rows that will be asked for next.
    void (*gather)(const void* x, Stored stored, ptrdiff_t stride, const int64_t* rows, size_t B,
                   size_t following, size_t I, T* out);
    // The same of (x - shift) * scale, in double and rounded once.
    void (*gather_normalized)(const void* x, Stored stored, ptrdiff_t stride, const int64_t* rows, size_t B,
                              size_t following, size_t I, const double* shift, const double* scale, T* out);
    // Of each slice of `step` of the rows (n numbers of them, or null: rows 0 .. n-1), in double: the least and the largest
    // value of each column, then mean and sum of squared deviations of (x - pivot) * unit. out: (4, slices, I).
    void (*moments)(const void* x, Stored stored, ptrdiff_t stride, const int64_t* rows, size_t n, size_t I,
                    size_t step, const double* pivot, const double* unit, double* out);

    // Products read their right matrix from panels where they are given some: w (I, O) or dz (B, O) packed by
    // pack_panels, w^T by pack_transposed_panels. Packing is a tenth of a product that packs for itself. A buffer of
    // panels has (columns rounded up to panel_columns) x rows elements; `rows` of the matrix, from `first` on, are
    // packed by a call (transposed: first a multiple of panel_columns). streaming: past the caches, into panels that
    // start at a cache line, for what will not be read before it would have left them.
    size_t panel_columns;
    void (*pack_panels)(size_t rows, size_t O, const T* d, size_t ldd, size_t first, size_t of,
                        bool streaming, T* panels);
    void (*pack_transposed_panels)(size_t rows, size_t O, const T* w, size_t ldw, size_t first,
                                   bool streaming, T* panels);
    void (*dense_forward)(size_t B, size_t I, size_t O, const T* x, size_t ldx, const T* w, size_t ldw,
                          const T* panels, const T* b, int activation, double alpha, T* z, size_t ldz, T* a,
                          size_t lda);
    void (*dense_backward_input)(size_t B, size_t I, size_t O, const T* dz, size_t lddz, const T* w,
                                 size_t ldw, const T* panels, int activation, double alpha, const T* saved,
                                 size_t ldsaved, T* dx, size_t lddx);
    void (*dense_backward_weights)(size_t B, size_t I, size_t O, const T* x, size_t ldx, const T* dz,
                                   size_t lddz, const T* panels, T* dw, size_t lddw,
                                   T* db);                                     // db may be null
    void (*column_sums)(size_t B, size_t O, const T* d, size_t ldd, T* sums);  // what db is

    void (*activation_forward)(int activation, double alpha, size_t n, const T* z, T* a);
    void (*activation_backward)(int activation, double alpha, size_t n, const T* saved, const T* da, T* dz);

    void (*softmax_forward)(size_t B, size_t O, const T* z, T* a);
    void (*softmax_backward)(size_t B, size_t O, const T* a, const T* da, T* dz);
    void (*maxout_forward)(size_t B, size_t O, size_t pieces, const T* z, T* a, int32_t* winner);
    void (*maxout_backward)(size_t B, size_t O, size_t pieces, const int32_t* winner, const T* da, T* dz);
    void (*prelu_forward)(size_t B, size_t O, const T* z, const T* slope, T* a);
    void (*prelu_backward)(size_t B, size_t O, const T* z, const T* slope, const T* da, T* dz);
    void (*prelu_backward_slope)(size_t B, size_t O, const T* z, const T* da, T* dslope);
    // Elements first .. first + n of the operation: a row slab draws the bits of its own rows.
    void (*rrelu_forward)(size_t first, size_t n, const T* z, double lower, double upper, RandomKey key,
                          T* a);
    void (*rrelu_backward)(size_t first, size_t n, const T* z, double lower, double upper, RandomKey key,
                           const T* da, T* dz);
    void (*dropout)(size_t first, size_t n, const T* x, uint64_t threshold, double scale, RandomKey key,
                    T* out);

    // Matrices of ld columns, of which O are worked on: a task has some of the columns.
    void (*batch_norm_forward)(size_t B, size_t O, size_t ld, const T* x, const T* gamma, const T* beta,
                               double momentum, double epsilon, T* running_mean, T* running_var, T* mean,
                               T* inv_std, T* a);
    void (*batch_norm_predict)(size_t B, size_t O, const T* x, const T* gamma, const T* beta, double epsilon,
                               const T* running_mean, const T* running_var, T* a);
    void (*batch_norm_backward)(size_t B, size_t O, size_t ld, const T* x, const T* gamma, const T* mean,
                                const T* inv_std, const T* da, T* dx, T* dgamma, T* dbeta);
    void (*layer_norm_forward)(size_t B, size_t O, const T* x, const T* gamma, const T* beta, double epsilon,
                               T* mean, T* inv_std, T* a);
    void (*layer_norm_backward)(size_t B, size_t O, const T* x, const T* gamma, const T* mean,
                                const T* inv_std, const T* da, T* dx);
    void (*layer_norm_backward_weights)(size_t B, size_t O, const T* x, const T* mean, const T* inv_std,
                                        const T* da, T* dgamma, T* dbeta);

    // One of labels (B,) and values (B, O) is null.
    void (*loss)(int loss, double parameter, size_t B, size_t O, const T* z, const int64_t* labels,
                 const T* values, const T* weight, T* value, T* dz);
    double (*squared_norm)(size_t n, const T* g);
    // Returns whether everything it wrote is finite.
    bool (*update)(int rule, const double* coefficients, const Adjustment& adjustment, size_t n, T* w,
                   const T* g, T* const* slots);

    void (*function)(int function, size_t n, const T* x, T* out);  // math.hpp, for its tests
    double (*multiply_adds)(size_t rounds, T* sink);               // peak.hpp, for the benchmarks
};

}  // namespace fastnn
