// The sources: how a row gets from where it is stored into the batch. cast: as it is; normalize: (x - shift) scale; ids: whole
// numbers, exactly.
#pragma once

#include <algorithm>

#include "../kernels/gather.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct Source : Operation {
    static constexpr void (*forward)(const Call&, Range) = nullptr;
};

struct cast : Source {
    static constexpr Spec spec{.name = "cast", .phase = "source", .forward = "data rows -> a", .a = "BF"};
    static constexpr bool sparse = true;

    static size_t gather(const Call&, const fastnn::Rows& data, const int64_t* rows, size_t B,
                         size_t following, size_t F, Real* out) {
        return ::gather(data, rows, B, following, F, out);
    }
};

// In double whatever x is stored in. In float32 the shift would have to be in two parts (float32 data around 1e9 lie 64
// apart, and their mean does not lie on that grid), for an error of 5 roundings instead of 1. Double costs 0.18 ns an
// element of float32 (AVX-512), a cast and a second pass in float32 0.15 to 0.18; of float64 0.16 and 0.22. Nothing here
// can be contracted to a multiply-add, so every instruction set and every backend has the same bits.
struct normalize : Source {
    static constexpr Spec spec{.name = "normalize",
                               .statistics = "shift:F:float64 scale:F:float64",
                               .phase = "source",
                               .forward = "data rows shift scale -> a",
                               .a = "BF"};

    static size_t gather(const Call& c, const fastnn::Rows& data, const int64_t* rows, size_t B,
                         size_t following, size_t F, Real* out) {
        return with_stored(data.stored, [&](auto stored) {
            return gather_as<decltype(stored)>(c, data, rows, B, following, F, out);
        });
    }

    template <class Stored>
    static size_t gather_as(const Call& c, const fastnn::Rows& data, const int64_t* rows, size_t B,
                            size_t following, size_t F, Real* out) {
        const double* __restrict shift = static_cast<const double*>(c.statistics[0]);
        const double* __restrict scale = static_cast<const double*>(c.statistics[1]);
        if (data.starts != nullptr)
            return for_sparse_rows<Stored>(data, rows, B, F, out, [=](Stored x, size_t j) {
                return static_cast<Real>(normalized(static_cast<double>(x), shift[j], scale[j]));
            });
        const bool wide = std::any_of(scale, scale + F, [](double c) { return c < kWide; });
        for_rows<Stored>(
            data, rows, B, following, F, out, 0.2, [=](const Stored* __restrict from, Real* __restrict to) {
                if (wide) {
                    for (size_t j = 0; j < F; ++j)
                        to[j] =
                            static_cast<Real>(normalized(static_cast<double>(from[j]), shift[j], scale[j]));
                    return;
                }
                for (size_t j = 0; j < F; ++j)
                    to[j] = static_cast<Real>((static_cast<double>(from[j]) - shift[j]) * scale[j]);
            });
        return fastnn::kFine;
    }

    // The scale of a feature whose values may lie further apart than double goes: in halves, to the same bits.
    static constexpr double kWide = 1e-30;
    static double normalized(double x, double shift, double scale) {
        return scale < kWide ? (0.5 * x - 0.5 * shift) * (2 * scale) : (x - shift) * scale;
    }
};

// A value that is no whole number from 0 to count - 1 is refused: what follows takes it for an address.
struct ids : Source {
    static constexpr Spec spec{
        .name = "ids", .settings = "count", .phase = "source", .forward = "data rows count -> a", .a = "BF"};

    static size_t gather(const Call& c, const fastnn::Rows& data, const int64_t* rows, size_t B, size_t,
                         size_t F, Real* out) {
        return with_stored(data.stored, [&](auto stored) {
            return gather_as<decltype(stored)>(c.settings[0], data, rows, B, F, out);
        });
    }

    template <class Stored>
    static size_t gather_as(double count, const fastnn::Rows& data, const int64_t* rows, size_t B, size_t F,
                            Real* out) {
        const auto valid = [count](Stored x) {
            const double id = static_cast<double>(x);
            return id >= 0 && id < count && id == __builtin_trunc(id);
        };
        size_t wrong = fastnn::kFine;
        if (data.starts != nullptr) {
            const size_t broken = for_sparse_rows<Stored>(
                data, rows, B, F, out, [](Stored x, size_t) { return static_cast<Real>(x); });
            if (broken != fastnn::kFine) return broken;
            for (size_t i = 0; i < B * F; ++i)
                if (!(out[i] >= 0 && out[i] < count &&
                      out[i] == __builtin_trunc(static_cast<double>(out[i]))))
                    return i;
            return wrong;
        }
        const char* x = static_cast<const char*>(data.data);
        for (size_t i = 0; i < B; ++i) {
            const Stored* from = reinterpret_cast<const Stored*>(x + rows[i] * data.stride);
            for (size_t j = 0; j < F; ++j) {
                if (!valid(from[j]) && wrong == fastnn::kFine) wrong = i * F + j;
                out[i * F + j] = static_cast<Real>(valid(from[j]) ? from[j] : Stored(0));
            }
        }
        return wrong;
    }
};

}  // namespace
}  // namespace ops
