// The sources: how a row gets from where it is stored into the batch. cast: as it is; normalize: (x - shift) scale.
#pragma once

#include "../kernels/gather.hpp"
#include "operation.hpp"

namespace ops {
namespace {

struct cast : Operation {
    static constexpr Spec spec{
        .name = "cast", .phase = "source", .forward = "data rows -> a", .a = "BF"};
    static constexpr void (*forward)(const Call&, Range) = nullptr;

    static void gather(const Call&, const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following,
                       size_t F, Real* out) {
        ::gather(data, rows, B, following, F, out);
    }
};

struct normalize : Operation {
    static constexpr Spec spec{.name = "normalize",
                               .statistics = "shift:F:float64 scale:F:float64",
                               .phase = "source",
                               .forward = "data rows shift scale -> a",
                               .a = "BF"};
    static constexpr void (*forward)(const Call&, Range) = nullptr;

    static void gather(const Call& c, const fastnn::Rows& data, const int64_t* rows, size_t B, size_t following,
                       size_t F, Real* out) {
        gather_normalized(data, rows, B, following, F, static_cast<const double*>(c.statistics[0]),
                          static_cast<const double*>(c.statistics[1]), out);
    }
};

}  // namespace
}  // namespace ops
