// See schedule.hpp.
#include "schedule.hpp"

namespace fastnn {
namespace {

Phase by_rows(const Cutting& cutting, size_t batch, int threads) {
    Phase phase{Phase::kRows};
    // Two tasks a thread where each is then still a product of 96 rows: whoever is late takes fewer.
    const size_t wanted = threads == 1                                  ? 1
                          : batch >= 192 * static_cast<size_t>(threads) ? 2 * threads
                                                                        : threads;
    const size_t tasks = std::max(wanted, (batch + cutting.most_rows - 1) / cutting.most_rows);
    phase.piece = round_up((batch + tasks - 1) / tasks, 4);
    phase.tasks = static_cast<int64_t>((batch + phase.piece - 1) / phase.piece);
    return phase;
}

Phase by_columns(Phase::Kind kind, const Plan& plan, const Cutting& cutting, size_t op, int threads) {
    Phase phase{kind};
    const size_t columns = plan.ops[op].outputs, line = 64 / cutting.number_bytes;
    phase.op = op;
    phase.piece = round_up((columns + threads - 1) / threads, line);
    phase.tasks = static_cast<int64_t>((columns + phase.piece - 1) / phase.piece);
    return phase;
}

Phase for_parts(Phase::Kind kind, const Schedule& schedule) {
    Phase phase{kind};
    phase.tasks = static_cast<int64_t>(schedule.parts.size());
    return phase;
}

// Matrices in row blocks, the rest whole. A block's gradient is written and read at once, so it is bounded: by 256 kB,
// 2 % faster than 1 MB on 784-1024-1024-10 (blocks of 128 kB made it a fifth slower with 512 kB of L2: each passes over
// all of dz). For several threads, at least four blocks each, and as many for each; none of less than 32 rows.
std::vector<Part> make_parts(const Plan& plan, const Cutting& cutting, int threads) {
    const size_t most = 262144 / cutting.number_bytes;
    const size_t target = threads == 1 ? most : std::min(most, plan.parameters / (4 * threads));
    std::vector<Part> parts;
    for (size_t i = cutting.first; i < plan.ops.size(); ++i) {
        const Op& op = plan.ops[i];
        bool others = false;
        for (size_t t = 0; t < op.declared->params.size(); ++t) {
            const Tensor& tensor = op.tensors[t];
            if (!tensor.trainable) continue;
            if (tensor.columns == 0) {
                others = true;
                continue;
            }
            const size_t rows = tensor.rows(), line = cutting.panel_columns, lines = (rows + line - 1) / line;
            const size_t wanted = rows / std::max<size_t>(target / tensor.columns, 32);
            const size_t blocks = std::min(lines, round_up(std::max<size_t>(wanted, 1), threads));
            for (size_t b = 0; b < blocks; ++b)
                parts.push_back(
                    {i,
                     static_cast<int>(t),
                     {lines * b / blocks * line, std::min(rows, lines * (b + 1) / blocks * line)}});
        }
        if (others) parts.push_back({i, -1, {0, 0}});
    }
    return parts;
}

}  // namespace

Schedule make_schedule(const Plan& plan, const Cutting& cutting, size_t batch, int threads) {
    Schedule s;
    s.batch = batch;
    const size_t n = plan.ops.size();
    Phase rows = by_rows(cutting, batch, threads);
    rows.with_gather = true;
    for (size_t i = 0; i < n; ++i) {
        if (!plan.ops[i].declared->columns) continue;
        rows.forward_end = i;
        s.phases.push_back(rows);
        s.phases.push_back(by_columns(Phase::kForwardColumns, plan, cutting, i, threads));
        rows = by_rows(cutting, batch, threads);
        rows.forward_begin = i + 1;
    }
    rows.forward_end = n;
    rows.with_loss = true;
    rows.backward_begin = n;
    for (size_t i = n; i-- > cutting.first;) {
        if (!plan.ops[i].declared->columns) continue;
        rows.backward_end = i + 1;
        s.phases.push_back(rows);
        s.phases.push_back(by_columns(Phase::kBackwardColumns, plan, cutting, i, threads));
        rows = by_rows(cutting, batch, threads);
        rows.forward_begin = rows.forward_end = n;
        rows.backward_begin = i + 1;  // the activation below it
    }
    rows.backward_end = cutting.first;
    s.phases.push_back(rows);

    s.parts = make_parts(plan, cutting, threads);
    s.phases.push_back(for_parts(Phase::kGradient, s));
    if (cutting.clips_norm) {
        s.phases.push_back({Phase::kNorm});
        s.phases.push_back(for_parts(Phase::kUpdate, s));
    }
    return s;
}

}  // namespace fastnn
