// Bounds, mean and spread of a data set's columns, in one pass over memory: what Normalize learns from. Of slices of rows,
// in double whatever x is stored in; formulas/moments.py merges the slices and decides what counts as constant.
//
// A slice is read in chunks, each about the mean of the rows before it, and never more rows than those: its sums s1 of d
// and s2 of d^2 then join the squares as s2 - s1^2 / rows, where the second is at most half of the first, so nothing is
// lost (Chan, Golub & LeVeque 1983 in the form of Welford 1962, many rows at a time). The order of a column's sums follows
// from the numbers of its rows alone: threads, layout, stored dtype and its neighbours change no bit.
#pragma once

#include "gather.hpp"

namespace {

// n neighbours in a row, in both of the files that this is compiled into.
template <class T, size_t n>
struct Neighbours {
    typedef T type __attribute__((vector_size(n * sizeof(T))));
};
template <class T>
struct Neighbours<T, 1> {
    using type = T;
};
constexpr size_t kDoubles = FASTNN_VECTOR_BYTES / sizeof(double);  // at most

constexpr size_t kGroupRows = 8;        // rows whose sums are made in registers
constexpr size_t kChunkRows = 128;      // rows, at most
constexpr size_t kColumnsAtOnce = 512;  // at most: the 48 bytes of each that a row needs stay in L1
constexpr size_t kColumnGrain = 64;     // columns: whole cache lines of any dtype

template <class Lane>
constexpr size_t kLaneCount = sizeof(Lane) / sizeof(double);

// What is stored at p, as many as Lane has, in double.
template <class Lane, class Stored>
FASTNN_INLINE Lane lanes_at(const Stored* p) {
    constexpr size_t n = kLaneCount<Lane>;
    if constexpr (n == 1) {
        return static_cast<double>(*p);
    } else if constexpr (sizeof(Stored) == sizeof(double)) {
        Lane v;
        __builtin_memcpy(&v, p, sizeof v);
        return v;
    } else if constexpr (sizeof(Stored) == sizeof(float)) {
        typename Neighbours<float, n>::type v;
        __builtin_memcpy(&v, p, sizeof v);
        return __builtin_convertvector(v, Lane);
    } else {  // by way of integers: GCC 12 takes the conversion from bytes apart into scalars
        typename Neighbours<int32_t, n>::type v;
        for (size_t k = 0; k < n; ++k) v[k] = p[k];
        return __builtin_convertvector(v, Lane);
    }
}
template <class Lane>
FASTNN_INLINE void put(double* p, Lane v) {
    __builtin_memcpy(p, &v, sizeof v);
}

// What is known of the columns of a panel, `Lane` by `Lane`: the last ones overlap those before, and are known twice.
struct ColumnSums {
    static constexpr size_t most = kColumnsAtOnce + kDoubles;
    double unit[most], center[most];   // d = x unit - center
    double low[most], high[most];      // of x
    double s1[most], s2[most];         // of the chunk's d and d^2
    double rest[most], squares[most];  // the mean is center + rest; of (x unit - mean)^2
};

// op over f(first) .. f(first + n - 1), in a tree.
template <size_t n, class F, class Op>
FASTNN_INLINE auto fold_rows(F f, Op op, size_t first = 0) {
    if constexpr (n == 1)
        return f(first);
    else
        return op(fold_rows<n / 2>(f, op, first), fold_rows<n / 2>(f, op, first + n / 2));
}

// n rows, from one column on, into the sums at `at`.
template <size_t n, class Lane, class Stored>
FASTNN_INLINE void add_rows(const Stored* const* row, size_t column, ColumnSums& of, size_t at) {
    Lane x[n], d[n];
    const Lane unit = lanes_at<Lane>(of.unit + at), center = lanes_at<Lane>(of.center + at);
    FASTNN_UNROLL
    for (size_t k = 0; k < n; ++k) x[k] = lanes_at<Lane>(row[k] + column), d[k] = x[k] * unit - center;
    const auto value = [&](size_t k) { return x[k]; };
    const auto less = [](Lane a, Lane b) { return a < b ? a : b; };
    const auto more = [](Lane a, Lane b) { return a > b ? a : b; };
    const auto plus = [](Lane a, Lane b) { return a + b; };
    put(of.low + at, less(fold_rows<n>(value, less), lanes_at<Lane>(of.low + at)));
    put(of.high + at, more(fold_rows<n>(value, more), lanes_at<Lane>(of.high + at)));
    put(of.s1 + at, lanes_at<Lane>(of.s1 + at) + fold_rows<n>([&](size_t k) { return d[k]; }, plus));
    Lane squares =
        lanes_at<Lane>(of.s2 + at);  // in a chain: what can become a multiply-add is never in doubt
    FASTNN_UNROLL
    for (size_t k = 0; k < n; ++k) squares += d[k] * d[k];
    put(of.s2 + at, squares);
}

// The rows of a slice, from one column on.
template <class Stored>
struct StoredRows {
    const char* x;
    ptrdiff_t stride;
    const int64_t* rows;  // null: all, in their order
    size_t column;
    const Stored* operator[](size_t i) const {
        const char* row = x + (rows ? rows[i] : static_cast<int64_t>(i)) * stride;
        return reinterpret_cast<const Stored*>(row) + column;
    }
};

// f(column, at) for the columns of a panel, as many at a time as Lane has.
template <class Lane, class F>
FASTNN_INLINE size_t for_lanes(size_t columns, F&& f) {
    constexpr size_t n = kLaneCount<Lane>;
    size_t j = 0;
    for (; j + n <= columns; j += n) f(j, j);
    if (j < columns) f(columns - n, j), j += n;
    return j;
}

// The chunk's sums, of n rows, into what the rows before it have.
FASTNN_INLINE void close_chunk(ColumnSums& of, size_t width, size_t rows_before, size_t rows) {
    const double before = static_cast<double>(rows_before), all = static_cast<double>(rows_before + rows);
    for (size_t j = 0; j < width; ++j) {
        const double rest = of.rest[j], center = of.center[j];
        const double sum = before * rest + of.s1[j], moved = sum / all;
        of.squares[j] += before * rest * rest + (of.s2[j] - sum * moved);
        of.center[j] = center + moved;
        of.rest[j] = moved - (of.center[j] - center);  // what the rounding of the center took
        of.s1[j] = of.s2[j] = 0;
    }
}

// Rows begin .. end - 1 of x into the sums: eight at a time, then one by one. Meanwhile the next eight are fetched, as far
// as `last`: eight streams are beyond the CPU's own prefetching, and it took twice as long without. Short rows are one.
template <class Lane, class Stored>
FASTNN_INLINE void add_chunk(const StoredRows<Stored>& x, size_t columns, size_t begin, size_t end,
                             size_t last, ColumnSums& of) {
    constexpr bool fetch = kLaneCount<Lane> == kDoubles;
    const Stored *row[kGroupRows], *next[kGroupRows];
    size_t i = begin;
    for (; i + kGroupRows <= end; i += kGroupRows) {
        FASTNN_UNROLL
        for (size_t k = 0; k < kGroupRows; ++k) {
            row[k] = x[i + k];
            if constexpr (fetch) next[k] = x[i + kGroupRows + k < last ? i + kGroupRows + k : last];
        }
        for_lanes<Lane>(columns, [&](size_t column, size_t at) {
            if (fetch && column % (64 / sizeof(Stored)) == 0) {
                FASTNN_UNROLL
                for (size_t k = 0; k < kGroupRows; ++k) __builtin_prefetch(next[k] + column);
            }
            add_rows<kGroupRows, Lane>(row, column, of, at);
        });
    }
    for (; i < end; ++i) {
        row[0] = x[i];
        for_lanes<Lane>(columns, [&](size_t column, size_t at) { add_rows<1, Lane>(row, column, of, at); });
    }
}

// Rows begin .. end - 1 of x; pivot, unit and the results are those of its columns.
template <class Lane, class Stored>
void slice_moments(const StoredRows<Stored>& x, size_t columns, size_t begin, size_t end, const double* pivot,
                   const double* unit, double* low, double* high, double* mean, double* squares) {
    constexpr size_t lanes = kLaneCount<Lane>;
    alignas(64) ColumnSums of;
    const size_t width = for_lanes<Lane>(columns, [&](size_t column, size_t at) {
        for (size_t k = 0; k < lanes; ++k) {
            const double value = static_cast<double>(x[begin][column + k]);
            of.unit[at + k] = unit[column + k], of.center[at + k] = value * unit[column + k];
            of.low[at + k] = of.high[at + k] = value;
            of.s1[at + k] = of.s2[at + k] = of.rest[at + k] = of.squares[at + k] = 0;
        }
    });
    size_t rows;
    for (size_t i = begin; i < end; i += rows) {
        const size_t before = i - begin, wanted = before < kGroupRows   ? kGroupRows
                                                  : before < kChunkRows ? before
                                                                        : kChunkRows;
        rows = end - i < wanted ? end - i : wanted;
        add_chunk<Lane>(x, columns, i, i + rows, end - 1, of);
        close_chunk(of, width, before, rows);
    }
    for_lanes<Lane>(columns, [&](size_t column, size_t at) {
        for (size_t k = 0; k < lanes; ++k) {
            const size_t j = column + k;
            low[j] = of.low[at + k], high[j] = of.high[at + k], squares[j] = of.squares[at + k];
            mean[j] = (of.center[at + k] - pivot[j] * unit[j]) + of.rest[at + k];
        }
    });
}

// f(a Lane), of the most columns at a time that there are.
template <size_t n, class F>
FASTNN_INLINE void with_lanes(size_t columns, F&& f) {
    if constexpr (n == 1)
        f(0.0);
    else if (columns >= n)
        f(typename Neighbours<double, n>::type{});
    else
        with_lanes<n / 2>(columns, f);
}

template <class Stored>
void moments_of(const char* x, ptrdiff_t stride, const int64_t* rows, size_t n, size_t I, size_t step,
                const double* pivot, const double* unit, double* out) {
    const size_t slices = (n + step - 1) / step, panels = (I + kColumnsAtOnce - 1) / kColumnsAtOnce;
    const size_t even = panels == 0 ? 0 : (I + panels - 1) / panels;
    const size_t panel = (even + kColumnGrain - 1) / kColumnGrain * kColumnGrain;  // columns
    const size_t each = slices * I;                                                // numbers of each result
    share(slices * panels, 0.3 * static_cast<double>(step * panel), 1, [&](size_t first, size_t last) {
        for (size_t t = first; t < last; ++t) {
            const size_t begin = t / panels * step, j = t % panels * panel;
            if (j >= I) continue;  // rounding up left nothing for it
            const size_t columns = I - j < panel ? I - j : panel, end = n - begin < step ? n : begin + step;
            const StoredRows<Stored> slice{x, stride, rows, j};
            double* const to = out + t / panels * I + j;
            with_lanes<kDoubles>(columns, [&](auto lane) {
                slice_moments<decltype(lane)>(slice, columns, begin, end, pivot + j, unit + j, to, to + each,
                                              to + 2 * each, to + 3 * each);
            });
        }
    });
}

void moments(const fastnn::Rows& data, const int64_t* rows, size_t n, size_t I, size_t step,
             const double* pivot, const double* unit, double* out) {
    const char* bytes = static_cast<const char*>(data.data);
    if (data.stored == fastnn::kFloat32)
        moments_of<float>(bytes, data.stride, rows, n, I, step, pivot, unit, out);
    else if (data.stored == fastnn::kFloat64)
        moments_of<double>(bytes, data.stride, rows, n, I, step, pivot, unit, out);
    else
        moments_of<uint8_t>(bytes, data.stride, rows, n, I, step, pivot, unit, out);
}

// Whether all are finite: x - x is 0 of those alone.
bool finite(size_t n, const Real* x) {
    VI wrong{};
    for_vectors(n, [&](size_t i, auto lanes) {
        const V v = load(x + i, lanes);
        wrong |= (VI)(v - v);
    });
    return !any(wrong != VI{});
}

}  // namespace
