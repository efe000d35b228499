// How a training step is cut into phases and tasks (team.hpp): a pure function of plan, batch and threads.
//
// Phases by rows: a task takes its rows of the batch through as many operations as it can, while they are in its cache:
// gather, forward, the loss, backward. An operation that goes by columns, seeing all rows of a channel, has phases of its
// own. Then one phase by weights: a task computes its part of a gradient over the whole batch and updates those parameters
// while both are in its cache.
#pragma once

#include <algorithm>
#include <vector>

#include "plan.hpp"

namespace fastnn {

inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Task t of a range of n cut into pieces of `step`.
inline Range piece(size_t n, size_t step, int64_t t) {
    const size_t begin = std::min(n, static_cast<size_t>(t) * step);
    return {begin, std::min(n, begin + step)};
}

struct Phase {
    enum Kind { kRows, kForwardColumns, kBackwardColumns, kGradient, kNorm, kUpdate } kind;
    int64_t tasks = 1;
    size_t piece = 0;  // rows or columns a task
    // kRows: forward of operations forward_begin .. forward_end - 1, the loss, backward of backward_begin - 1 down to
    // backward_end
    size_t forward_begin = 0, forward_end = 0, backward_begin = 0, backward_end = 0;
    bool with_gather = false, with_loss = false;
    size_t op = 0;  // that goes by columns
};

// A part of the parameters of operation op: rows of a matrix, or all its tensors that are none.
struct Part {
    size_t op;
    int tensor;  // -1: those that are no matrices
    Range rows;
};

struct Schedule {
    size_t batch = 0;
    std::vector<Phase> phases;
    std::vector<Part> parts;
};

// What cutting depends on, beside the plan.
struct Cutting {
    size_t first;      // the first operation that learns
    size_t most_rows;  // of a task
    bool clips_norm;
    size_t panel_columns;  // rows of a matrix are cut at multiples of these
    size_t number_bytes;
};

Schedule make_schedule(const Plan& plan, const Cutting& cutting, size_t batch, int threads);

}  // namespace fastnn
