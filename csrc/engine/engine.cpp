// See engine.hpp. The walk is that of engine.py, under the same names; what differs is who runs which part.
//
// A step is a few phases (team.hpp), with a barrier after each. Phases by rows: a task takes its rows of the batch
// through as many operations as it can, while they are in its cache: gather, forward, the loss, backward. Only batch
// normalisation, which sees all rows of a column, has phases of its own, by columns. Then one phase by weights: a task
// computes its part of a gradient over the whole batch and updates those parameters while both are in its cache. Every
// element has one order of summation, whatever the tasks (the kernels see to that), so the number of threads changes no
// bit.
#include "engine.hpp"

#include <math.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>

#include "../threads.hpp"
#include "pace.hpp"
#include "team.hpp"
#include "workspace.hpp"

namespace fastnn {
namespace {

using Clock = std::chrono::steady_clock;

struct Range {
    size_t begin, end;
    size_t size() const { return end - begin; }
};

// Task t of a range of n cut into pieces of `step`.
Range piece(size_t n, size_t step, int64_t t) {
    const size_t begin = std::min(n, static_cast<size_t>(t) * step);
    return {begin, std::min(n, begin + step)};
}
size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class T>
void gather(const Table<T>& kernels, const Rows& x, const int64_t* rows, size_t B, size_t following, size_t I,
            T* out) {
    if (x.shift == nullptr)
        kernels.gather(x.data, x.stored, x.stride, rows, B, following, I, out);
    else
        kernels.gather_normalized(x.data, x.stored, x.stride, rows, B, following, I, x.shift, x.scale, out);
}

// A plan with its kernels and the buffers its tensors lie in: the forward half of the walk, over some rows of a batch.
template <class T>
struct Walk {
    const Table<T>& kernels;
    const Plan& plan;
    const T* parameters = nullptr;
    const T* statistics = nullptr;

    const T* tensor(const Op& op, int i) const {
        return (op.tensors[i].trainable ? parameters : statistics) + op.tensors[i].offset;
    }

    void forward(const Op& op, const Room<T>& room, const T* in, Range rows, RandomKey key) const {
        const size_t B = rows.size(), I = op.inputs, O = op.outputs, first = rows.begin * O;
        const T* x = in + rows.begin * I;
        T* a = room.a + first;
        switch (op.kind) {
            case Kind::dense:
                return kernels.dense_forward(B, I, O, x, I, tensor(op, 0), O, room.w_panels, tensor(op, 1),
                                             op.activation, op.alpha, room.z + first, O, a, O);
            case Kind::rrelu:
                return kernels.rrelu_forward(first, B * O, x, op.settings[0], op.settings[1], key, a);
            case Kind::dropout:
                return kernels.dropout(first, B * O, x, static_cast<uint64_t>(op.settings[0]), op.settings[1],
                                       key, a);
            default:
                return forward_as_in_inference(op, room, in, rows);
        }
    }

    void forward_as_in_inference(const Op& op, const Room<T>& room, const T* in, Range rows) const {
        const size_t B = rows.size(), I = op.inputs, O = op.outputs, first = rows.begin * O;
        const T* x = in + rows.begin * I;
        T* a = room.a + first;
        switch (op.kind) {
            case Kind::dense:
                return forward(op, room, in, rows, {});
            case Kind::activation:
                return kernels.activation_forward(op.activation, op.alpha, B * O, x, a);
            case Kind::softmax:
                return kernels.softmax_forward(B, O, x, a);
            case Kind::maxout:
                return kernels.maxout_forward(B, O, I / O, x, a, room.winner + first);
            case Kind::prelu:
                return kernels.prelu_forward(B, O, x, tensor(op, 0), a);
            case Kind::rrelu:  // the mean slope: leaky relu, whose code Python put here
                return kernels.activation_forward(op.activation, op.alpha, B * O, x, a);
            case Kind::dropout:
                return;  // its output is its input: see Predictor
            case Kind::batch_norm:
                return kernels.batch_norm_predict(B, O, x, tensor(op, 0), tensor(op, 1), op.settings[1],
                                                  tensor(op, 2), tensor(op, 3), a);
            case Kind::layer_norm:
                return kernels.layer_norm_forward(B, O, x, tensor(op, 0), tensor(op, 1), op.settings[0],
                                                  room.mean + rows.begin, room.inv_std + rows.begin, a);
            case Kind::normalize:
                return;  // gather has
        }
    }
};

// Multiply-adds a nanosecond that a product may be expected to reach, and ns for one element of everything else: for
// deciding how many threads are worth waking, not for anything that must be right.
template <class T>
double product_ns(const Table<T>& kernels, double m, double n, double k) {
    return m * n * k / (3.0 * kernels.vector_bytes / sizeof(T));
}
constexpr double kElementNs = 0.3;

template <class T>
double forward_ns(const Table<T>& kernels, const Op& op, size_t B) {
    const double elements = static_cast<double>(B) * op.outputs * kElementNs;
    return op.kind == Kind::dense ? elements + product_ns(kernels, B, op.outputs, op.inputs) : elements;
}

}  // namespace

// Training -------------------------------------------------------------------------------------------------

template <class T>
class Trainer<T>::Impl final : public Program {
  public:
    Impl(const Table<T>& kernels, Plan plan, const Recipe& recipe)
        : kernels_(kernels), plan_(std::move(plan)), recipe_(recipe), walk_{kernels_, plan_} {
        const auto learns = [](const Op& op) {
            return std::any_of(op.tensors, op.tensors + op.tensor_count,
                               [](const Tensor& t) { return t.trainable; });
        };
        first_ = std::find_if(plan_.ops.begin(), plan_.ops.end(), learns) - plan_.ops.begin();
        double widest = 1;
        for (const Op& op : plan_.ops) widest = std::max(widest, forward_ns(kernels_, op, 1));
        most_rows_ = static_cast<size_t>(std::min(1024.0, std::max(96.0, 5e7 / widest)));
        const size_t copies = 3 + static_cast<size_t>(kernels_.rule_slots[recipe_.rule]);
        streaming_ = plan_.parameters * copies * sizeof(T) > kKept;
        running_averages_ = std::any_of(plan_.ops.begin(), plan_.ops.end(),
                                        [](const Op& op) { return op.kind == Kind::batch_norm; });
    }

    void run(const State<T>& state, const Slice<T>& slice, double* losses, int64_t* taken,
             bool (*stop)(void*), void* context) {
        if (slice.rows == 0) return;
        stop_ = stop, context_ = context;
        stopped_ = diverged_ = false;
        asked_ = Clock::now();
        turn_ = 0;
        state_ = state, slice_ = slice, losses_ = losses;
        walk_.parameters = state.parameters, walk_.statistics = state.statistics;
        steps_ = (slice.rows + slice.batch - 1) / slice.batch;
        taken_ = taken;
        const size_t whole = std::min(slice.batch, slice.rows);
        work_.make(plan_, whole, {true, clips_norm(), first_, kernels_.panel_columns});
        const double ns = step_ns(whole);
        turns_ = ns < 1e6 ? static_cast<int>(1e6 / ns) : 1;
        const int team = program_threads(kAwake * ns);
        const size_t rest = slice.rows - (steps_ - 1) * slice.batch;
        schedules_[0] = {schedule(whole, 1), schedule(rest, 1)};
        if (team > 1) schedules_[1] = {schedule(whole, team), schedule(rest, team)};
        pacer_.begin(team, slice.batch, whole, ns, least_work() > 0);
        together_ = pacer_.threads() > 1;
        Packing packing(*this);  // the weights may have changed since the last call
        const double packing_ns = static_cast<double>(plan_.parameters);
        run_program(packing, together_ ? program_threads(packing_ns) : 1);
        do {
            again_ = false;
            pacer_.start();
            run_program(*this, pacer_.threads(), *taken);
        } while (again_);
    }

    // The program: see team.hpp.
    int phases() const override { return static_cast<int>(schedules_[0].whole.phases.size()); }
    int64_t tasks(int64_t step, int index) const override {
        if (step >= static_cast<int64_t>(steps_)) return 0;
        return schedule_of(step).phases[index].tasks;
    }
    void run(int64_t step, int index, int64_t task, int member) override {
        const Schedule& schedule = schedule_of(step);
        const Phase& phase = schedule.phases[index];
        if (member == 0) ask();
        switch (phase.kind) {
            case Phase::kRows:
                return run_rows(schedule, phase, step, piece(schedule.batch, phase.piece, task), member);
            case Phase::kBatchNormForward:
            case Phase::kBatchNormBackward:
                return run_batch_norm(schedule, phase, piece(plan_.ops[phase.op].outputs, phase.piece, task));
            case Phase::kGradient:
                return run_gradient(schedule, step, schedule.parts[task]);
            case Phase::kNorm:
                return measure_gradient();
            case Phase::kUpdate:
                return update(step, schedule.parts[task], weight_gradient(schedule.parts[task]));
        }
    }
    bool finish(int64_t step, int index) override {
        const Schedule& schedule = schedule_of(step);
        if (schedule.phases[index].with_loss) {
            if (stopped_ && !running_averages_)
                return false;  // before the loss: it may not have been computed
            losses_[step] = loss_of_batch(schedule.batch);
            if (!isfinite(losses_[step])) return false;
        }
        // Only the last phase updates: before it, nothing has changed but running averages.
        if (index + 1 < phases()) return !stopped_ || running_averages_;
        if (diverged_) losses_[step] = std::numeric_limits<double>::quiet_NaN();
        const bool over = static_cast<size_t>(++*taken_) == steps_ || diverged_ || stopped_;
        again_ = pacer_.step(schedule.batch) && !over;
        if (again_) together_ = pacer_.threads() > 1;
        return !again_ && !over;
    }
    bool goes_on_alone() override {
        if (!again_ || together_) return false;
        again_ = false;
        return true;
    }

  private:
    // Reading the clock takes 30 ns, a hundredth of a small step: now and then, about every millisecond.
    void ask() {
        if (++turn_ < turns_ || stopped_) return;
        turn_ = 0;
        const Clock::time_point now = Clock::now();
        if (now - asked_ < std::chrono::milliseconds(50)) return;
        asked_ = now;
        if (stop_(context_)) stopped_ = true;
    }

    struct Phase {
        enum Kind { kRows, kBatchNormForward, kBatchNormBackward, kGradient, kNorm, kUpdate } kind;
        int64_t tasks = 1;
        size_t piece = 0;  // rows or columns a task
        // kRows: forward of operations forward_begin .. forward_end - 1, the loss, backward of backward_begin - 1 down to
        // backward_end
        size_t forward_begin = 0, forward_end = 0, backward_begin = 0, backward_end = 0;
        bool with_gather = false, with_loss = false;
        size_t op = 0;  // batch normalisation
    };
    // A part of the parameters of operation op: rows of a dense weight, or all its other tensors.
    struct Part {
        size_t op;
        bool weight;
        Range rows;
    };
    struct Schedule {
        size_t batch = 0;
        std::vector<Phase> phases;
        std::vector<Part> parts;
    };
    const Schedule& schedule_of(int64_t step) const {
        const Schedules& schedules = schedules_[together_.load(std::memory_order_relaxed)];
        return step + 1 == static_cast<int64_t>(steps_) ? schedules.last : schedules.whole;
    }

    // Cutting the work ---------------------------------------------------------------------------------------

    double step_ns(size_t B) const {
        double ns = 0;
        for (const Op& op : plan_.ops) ns += 3 * forward_ns(kernels_, op, B);
        return ns + 1.0 * static_cast<double>(plan_.parameters);
    }

    Schedule schedule(size_t B, int threads) const {
        Schedule s;
        s.batch = B;
        const size_t n = plan_.ops.size();
        Phase rows = by_rows(B, threads);
        rows.with_gather = true;
        for (size_t i = 0; i < n; ++i) {
            if (plan_.ops[i].kind != Kind::batch_norm) continue;
            rows.forward_end = i;
            s.phases.push_back(rows);
            s.phases.push_back(by_columns(Phase::kBatchNormForward, i, threads));
            rows = by_rows(B, threads);
            rows.forward_begin = i + 1;
        }
        rows.forward_end = n;
        rows.with_loss = true;
        rows.backward_begin = n;
        for (size_t i = n; i-- > first_;) {
            if (plan_.ops[i].kind != Kind::batch_norm) continue;
            rows.backward_end = i + 1;
            s.phases.push_back(rows);
            s.phases.push_back(by_columns(Phase::kBatchNormBackward, i, threads));
            rows = by_rows(B, threads);
            rows.forward_begin = rows.forward_end = n;
            rows.backward_begin = i + 1;  // the activation below it
        }
        rows.backward_end = first_;
        s.phases.push_back(rows);

        s.parts = parts(threads);
        s.phases.push_back(for_parts(Phase::kGradient, s));
        if (clips_norm()) {
            s.phases.push_back({Phase::kNorm});
            s.phases.push_back(for_parts(Phase::kUpdate, s));
        }
        return s;
    }

    Phase by_rows(size_t B, int threads) const {
        Phase phase{Phase::kRows};
        // Two tasks a thread where each is then still a product of 96 rows: whoever is late takes fewer.
        const size_t wanted = threads == 1                              ? 1
                              : B >= 192 * static_cast<size_t>(threads) ? 2 * threads
                                                                        : threads;
        const size_t tasks = std::max(wanted, (B + most_rows_ - 1) / most_rows_);
        phase.piece = round_up((B + tasks - 1) / tasks, 4);
        phase.tasks = static_cast<int64_t>((B + phase.piece - 1) / phase.piece);
        return phase;
    }
    Phase by_columns(typename Phase::Kind kind, size_t op, int threads) const {
        Phase phase{kind};
        const size_t columns = plan_.ops[op].outputs, line = 64 / sizeof(T);
        phase.op = op;
        phase.piece = round_up((columns + threads - 1) / threads, line);
        phase.tasks = static_cast<int64_t>((columns + phase.piece - 1) / phase.piece);
        return phase;
    }
    static Phase for_parts(typename Phase::Kind kind, const Schedule& s) {
        Phase phase{kind};
        phase.tasks = static_cast<int64_t>(s.parts.size());
        return phase;
    }

    // Weights in row blocks, the rest whole. A block's gradient is written and read at once, so it is bounded: by 256 kB,
    // 2 % faster than 1 MB on 784-1024-1024-10 (blocks of 128 kB made it a fifth slower with 512 kB of L2: each passes over
    // all of dz). For several threads, at least four blocks each, and as many for each; none of less than 32 rows.
    std::vector<Part> parts(int threads) const {
        const size_t most = 262144 / sizeof(T);
        const size_t target = threads == 1 ? most : std::min(most, plan_.parameters / (4 * threads));
        std::vector<Part> parts;
        for (size_t i = first_; i < plan_.ops.size(); ++i) {
            const Op& op = plan_.ops[i];
            const bool dense = op.kind == Kind::dense;
            if (dense && op.tensors[0].trainable) {
                const size_t line = kernels_.panel_columns, lines = (op.inputs + line - 1) / line;
                const size_t wanted = op.inputs / std::max<size_t>(target / op.outputs, 32);
                const size_t blocks = std::min(lines, round_up(std::max<size_t>(wanted, 1), threads));
                for (size_t b = 0; b < blocks; ++b)
                    parts.push_back(
                        {i,
                         true,
                         {lines * b / blocks * line, std::min(op.inputs, lines * (b + 1) / blocks * line)}});
            }
            if (std::any_of(op.tensors + (dense ? 1 : 0), op.tensors + op.tensor_count,
                            [](const Tensor& t) { return t.trainable; }))
                parts.push_back({i, false, {0, 0}});
        }
        return parts;
    }

    // By rows ------------------------------------------------------------------------------------------------

    const T* input(size_t i) const { return i == 0 ? work_.x : work_.rooms[i - 1].a; }
    RandomKey key(size_t op, int64_t step) const {
        return {recipe_.seed, state_.step + static_cast<uint64_t>(step), static_cast<uint32_t>(op)};
    }

    void run_rows(const Schedule& s, const Phase& phase, int64_t step, Range rows, int member) {
        if (phase.with_gather) gather(s, step, rows);
        for (size_t i = phase.forward_begin; i < phase.forward_end; ++i) {
            if (abandoned(member)) return;
            walk_.forward(plan_.ops[i], work_.rooms[i], input(i), rows, key(i, step));
        }
        if (phase.with_loss) loss(rows);
        for (size_t i = phase.backward_begin; i-- > phase.backward_end;) {
            if (abandoned(member)) return;
            backward(s, i, step, rows);
        }
    }
    // Whether nothing will come of this step: asked between operations, for steps that take seconds.
    bool abandoned(int member) {
        if (member == 0) ask();
        return stopped_ && !running_averages_;
    }

    void gather(const Schedule& s, int64_t step, Range rows) {
        const size_t I = plan_.inputs, O = plan_.outputs, B = rows.size();
        const int64_t* order = slice_.order + step * slice_.batch;
        const int64_t* mine = order + rows.begin;
        // the next batch's rows follow, if this task has them all
        const size_t following = B == s.batch ? slice_.rows - step * slice_.batch - B : 0;
        fastnn::gather(kernels_, slice_.x, mine, B, following, I, work_.x + rows.begin * I);
        if (slice_.labels != nullptr)
            for (size_t i = 0; i < B; ++i) work_.labels[rows.begin + i] = slice_.labels[mine[i]];
        else if (O == 1)
            for (size_t i = 0; i < B; ++i) work_.values[rows.begin + i] = slice_.values[mine[i]];
        else
            kernels_.gather(slice_.values, sizeof(T) == 4 ? kFloat32 : kFloat64, O * sizeof(T), mine, B, 0, O,
                            work_.values + rows.begin * O);
        // Scaled to sum to 1: the loss is the weighted mean. Every task adds up the whole batch: the same sum, and
        // without a barrier.
        if (slice_.weight == nullptr) {
            std::fill_n(work_.weight + rows.begin, B, static_cast<T>(1.0 / static_cast<double>(s.batch)));
        } else {
            double total = 0;
            for (size_t i = 0; i < s.batch; ++i) total += slice_.weight[order[i]];
            const T scale = static_cast<T>(total > 0 ? 1.0 / total : 0.0);
            for (size_t i = 0; i < B; ++i) work_.weight[rows.begin + i] = slice_.weight[mine[i]] * scale;
        }
    }

    void loss(Range rows) {
        const size_t O = plan_.outputs, r = rows.begin, last = plan_.ops.size() - 1;
        T* dz = work_.rooms[last].dz + r * O;
        kernels_.loss(recipe_.loss, recipe_.loss_parameter, rows.size(), O, work_.rooms[last].a + r * O,
                      slice_.labels ? work_.labels + r : nullptr,
                      slice_.labels ? nullptr : work_.values + r * O, work_.weight + r, work_.value + r, dz);
        through(last + 1, rows, dz);
    }
    double loss_of_batch(size_t B) const {
        double sums[4] = {};
        for (size_t i = 0; i < B; ++i)
            sums[i % 4] += static_cast<double>(work_.value[i]) * static_cast<double>(work_.weight[i]);
        return (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }

    // The activation whose output operation i takes (i = number of operations: the loss), and what its derivative is
    // written in.
    struct Below {
        int activation;
        double alpha;
        const T* saved;
    };
    Below below(size_t i) const {
        if (i == 0) return {plan_.identity, 0, work_.x};
        const Op& op = plan_.ops[i - 1];
        if (op.kind != Kind::dense && op.kind != Kind::activation) return {plan_.identity, 0, input(i)};
        const bool its_input = op.kind == Kind::activation && op.saves_z;
        return {op.activation, op.alpha, its_input ? input(i - 1) : work_.rooms[i - 1].z};
    }
    // dx <- dx * f'(saved) of the activation below operation i. dx is the first of `rows`.
    void through(size_t i, Range rows, T* dx) const {
        const Below f = below(i);
        if (f.activation == plan_.identity) return;
        const size_t width = plan_.ops[i - 1].outputs;
        kernels_.activation_backward(f.activation, f.alpha, rows.size() * width, f.saved + rows.begin * width,
                                     dx, dx);
    }

    void backward(const Schedule& s, size_t i, int64_t step, Range rows) {
        const Op& op = plan_.ops[i];
        const size_t B = rows.size(), I = op.inputs, O = op.outputs, r = rows.begin;
        const Room<T>& room = work_.rooms[i];
        const T* dz = room.dz + r * O;
        // for the gradient of the weights, while dz is in this core's cache
        if (room.dz_panels) kernels_.pack_panels(B, O, dz, O, r, s.batch, false, room.dz_panels);
        if (i == first_) return;  // nothing below learns
        const T* x = input(i) + r * I;
        T* dx = (i > 0 ? work_.rooms[i - 1].dz : work_.dx) + r * I;
        switch (op.kind) {
            case Kind::dense: {
                const Below f = below(i);
                return kernels_.dense_backward_input(B, I, O, dz, O, walk_.tensor(op, 0), O,
                                                     room.transposed_panels, f.activation, f.alpha,
                                                     f.saved + r * I, I, dx, I);
            }
            case Kind::activation: {
                const Below f = below(i);
                return kernels_.activation_backward(f.activation, f.alpha, B * I, f.saved + r * I, dz, dx);
            }
            case Kind::softmax:
                kernels_.softmax_backward(B, O, room.a + r * O, dz, dx);
                break;
            case Kind::maxout:
                kernels_.maxout_backward(B, O, I / O, room.winner + r * O, dz, dx);
                break;
            case Kind::prelu:
                kernels_.prelu_backward(B, O, x, walk_.tensor(op, 0), dz, dx);
                break;
            case Kind::rrelu:
                kernels_.rrelu_backward(r * O, B * O, x, op.settings[0], op.settings[1], key(i, step), dz,
                                        dx);
                break;
            case Kind::dropout:
                kernels_.dropout(r * O, B * O, dz, static_cast<uint64_t>(op.settings[0]), op.settings[1],
                                 key(i, step), dx);
                break;
            case Kind::layer_norm:
                kernels_.layer_norm_backward(B, O, x, walk_.tensor(op, 0), room.mean + r, room.inv_std + r,
                                             dz, dx);
                break;
            case Kind::normalize:   // directly on the data: nothing below it learns
            case Kind::batch_norm:  // done by columns; only the activation below it is left
                break;
        }
        through(i, rows, dx);
    }

    // By columns ---------------------------------------------------------------------------------------------

    void run_batch_norm(const Schedule& s, const Phase& phase, Range columns) {
        const Op& op = plan_.ops[phase.op];
        const Room<T>& room = work_.rooms[phase.op];
        const size_t B = s.batch, O = op.outputs, c = columns.begin, n = columns.size();
        const T* x = input(phase.op) + c;
        if (phase.kind == Phase::kBatchNormForward) {
            kernels_.batch_norm_forward(B, n, O, x, walk_.tensor(op, 0) + c, walk_.tensor(op, 1) + c,
                                        op.settings[0], op.settings[1], statistic(op, 2) + c,
                                        statistic(op, 3) + c, room.mean + c, room.inv_std + c, room.a + c);
        } else {
            T* dx = phase.op > 0 ? work_.rooms[phase.op - 1].dz : work_.dx;
            kernels_.batch_norm_backward(B, n, O, x, walk_.tensor(op, 0) + c, room.mean + c, room.inv_std + c,
                                         room.dz + c, dx + c, gradient(op, 0) + c, gradient(op, 1) + c);
        }
    }
    T* statistic(const Op& op, int tensor) const { return state_.statistics + op.tensors[tensor].offset; }
    T* gradient(const Op& op, int tensor) const { return work_.gradient + op.tensors[tensor].offset; }

    // By weights ---------------------------------------------------------------------------------------------

    void run_gradient(const Schedule& s, int64_t step, const Part& part) {
        const Op& op = plan_.ops[part.op];
        const Room<T>& room = work_.rooms[part.op];
        const size_t B = s.batch, I = op.inputs, O = op.outputs;
        const T* x = input(part.op);
        T* g = part.weight ? weight_gradient(part) : nullptr;
        switch (op.kind) {
            case Kind::dense:
                if (part.weight)
                    kernels_.dense_backward_weights(B, part.rows.size(), O, x + part.rows.begin, I, room.dz,
                                                    O, room.dz_panels, g, O, nullptr);
                else
                    kernels_.column_sums(B, O, room.dz, O, gradient(op, 1));
                break;
            case Kind::prelu:
                kernels_.prelu_backward_slope(B, O, x, room.dz, gradient(op, 0));
                break;
            case Kind::layer_norm:
                kernels_.layer_norm_backward_weights(B, O, x, room.mean, room.inv_std, room.dz,
                                                     gradient(op, 0), gradient(op, 1));
                break;
            default:
                break;  // batch_norm has them already
        }
        if (!clips_norm()) update(step, part, g);
    }
    bool clips_norm() const { return isfinite(recipe_.clip_norm); }
    // Where a part's gradient goes: only the norm of all of it asks for more than this core's cache.
    T* weight_gradient(const Part& part) const {
        const Op& op = plan_.ops[part.op];
        if (clips_norm()) return gradient(op, 0) + part.rows.begin * op.outputs;
        return static_cast<T*>(scratch(kGradient, part.rows.size() * op.outputs * sizeof(T)));
    }

    void measure_gradient() {
        const double norm = sqrt(kernels_.squared_norm(plan_.parameters, work_.gradient));
        scale_ = norm > recipe_.clip_norm ? recipe_.clip_norm / norm : 1.0;
    }

    void update(int64_t step, const Part& part, const T* weight_gradient) {
        const Op& op = plan_.ops[part.op];
        if (part.weight) {
            update(step, op.tensors[0], part.rows.begin * op.outputs, part.rows.end * op.outputs,
                   weight_gradient);
            return pack(part);
        }
        for (int t = op.kind == Kind::dense ? 1 : 0; t < op.tensor_count; ++t)
            if (op.tensors[t].trainable) update(step, op.tensors[t], 0, op.tensors[t].size, gradient(op, t));
    }
    // The copies of a weight that the next step's products read, while its new values are in this core's cache.
    void pack(const Part& part) const {
        const Op& op = plan_.ops[part.op];
        const Room<T>& room = work_.rooms[part.op];
        const size_t first = part.rows.begin, n = part.rows.size(), O = op.outputs;
        const T* w = walk_.tensor(op, 0) + first * O;
        if (room.w_panels) kernels_.pack_panels(n, O, w, O, first, op.inputs, streaming_, room.w_panels);
        if (room.transposed_panels)
            kernels_.pack_transposed_panels(n, O, w, O, first, streaming_, room.transposed_panels);
    }
    struct Packing final : Program {
        explicit Packing(const Impl& impl_)
            : impl(impl_), parts(impl.schedules_[impl.together_].whole.parts) {}
        const Impl& impl;
        const std::vector<Part>& parts;
        int phases() const override { return 1; }
        int64_t tasks(int64_t, int) const override { return static_cast<int64_t>(parts.size()); }
        void run(int64_t, int, int64_t task, int) override {
            if (parts[task].weight) impl.pack(parts[task]);
        }
        bool finish(int64_t, int) override { return false; }
    };
    void update(int64_t step, const Tensor& tensor, size_t begin, size_t end, const T* g) {
        const size_t first = tensor.offset + begin;
        T* slots[kMaxSlots];
        for (int j = 0; j < kernels_.rule_slots[recipe_.rule]; ++j) slots[j] = state_.slots[j] + first;
        const Adjustment adjustment{scale_, recipe_.clip_value, tensor.l1, tensor.l2,
                                    slice_.lr[step] * tensor.decay};
        const double* coefficients = slice_.coefficients + step * kernels_.rule_coefficients[recipe_.rule];
        if (!kernels_.update(recipe_.rule, coefficients, adjustment, end - begin, state_.parameters + first,
                             g, slots))
            diverged_ = true;
    }

    static constexpr int kMaxSlots = 8;
    static constexpr double kAwake =
        4;  // a team is woken once a call: a quarter of the work a step may be worth it
    // Bytes of weights, panels and slots that may still be in L3 a step later. Writing the panels past the caches is 4 % of
    // 784-1024-1024-10 (37 MB, 32 MB L3).
    static constexpr size_t kKept = size_t(16) << 20;
    const Table<T>& kernels_;
    const Plan plan_;
    const Recipe recipe_;
    Walk<T> walk_;
    size_t first_ = 0;  // the first operation that learns
    bool running_averages_ = false;
    // of a task: an operation on them, if they are more than 96, takes 50 ms at most, so Ctrl-C is answered in time
    size_t most_rows_ = 1024;
    bool streaming_ = false;  // the weights' panels leave the caches before they are read
    Workspace<T> work_;
    Pacer<> pacer_;
    // of the call
    State<T> state_{};
    Slice<T> slice_{};
    double* losses_ = nullptr;
    size_t steps_ = 0;
    int64_t* taken_ = nullptr;
    struct Schedules {
        Schedule whole, last;
    } schedules_[2];                     // of one thread, of the team
    std::atomic<bool> together_{false};  // which of them
    bool again_ = false;                 // it goes on with the other
    double scale_ = 1.0;                 // of the gradient: clipping by global norm
    std::atomic<bool> diverged_{false}, stopped_{false};
    bool (*stop_)(void*) = nullptr;
    void* context_ = nullptr;
    Clock::time_point asked_;
    int turn_ = 0,
        turns_ = 1;  // tasks of the calling thread since it looked at the clock, and between two looks
};

template <class T>
Trainer<T>::Trainer(const Table<T>& kernels, Plan plan, const Recipe& recipe)
    : impl_(new Impl(kernels, std::move(plan), recipe)) {}
template <class T>
Trainer<T>::~Trainer() = default;
template <class T>
void Trainer<T>::run(const State<T>& state, const Slice<T>& slice, double* losses, int64_t* taken,
                     bool (*stop)(void*), void* context) {
    impl_->run(state, slice, losses, taken, stop, context);
}

// Predicting -----------------------------------------------------------------------------------------------

template <class T>
class Predictor<T>::Impl {
  public:
    Impl(const Table<T>& kernels, Plan plan) : kernels_(kernels), plan_(std::move(plan)) {}

    void run(const T* parameters, const T* statistics, const Rows& x, size_t n, T* out) const {
        if (n == 0) return;
        double ns = 0;
        for (const Op& op : plan_.ops) ns += forward_ns(kernels_, op, n);
        const Region region(ns);
        const int threads = region.threads();
        Call call{kernels_, plan_, {kernels_, plan_, parameters, statistics}, x, n, out};
        call.piece = std::min(kRows, round_up((n + threads - 1) / threads, 4));
        call.work.resize(threads);
        run_program(call, threads);
    }

  private:
    static constexpr size_t kRows = 512;  // through all layers at once: 512 x 784 float32 is 1.6 MB

    struct Call final : Program {
        Call(const Table<T>& kernels_, const Plan& plan_, Walk<T> walk_, const Rows& x_, size_t n_, T* out_)
            : kernels(kernels_), plan(plan_), walk(walk_), x(x_), n(n_), out(out_) {}
        const Table<T>& kernels;
        const Plan& plan;
        const Walk<T> walk;
        const Rows x;
        const size_t n;
        T* const out;
        size_t piece = 0;
        std::vector<Workspace<T>> work;  // one a thread

        int phases() const override { return 1; }
        int64_t tasks(int64_t, int) const override { return static_cast<int64_t>((n + piece - 1) / piece); }
        bool finish(int64_t, int) override { return false; }
        void run(int64_t, int, int64_t task, int member) override {
            const Range rows = fastnn::piece(n, piece, task);
            Workspace<T>& w = work[member];
            w.make(plan, std::min(piece, n), {false, false, 0, kernels.panel_columns});
            const T* in = gather(w, rows);
            for (size_t i = 0; i < plan.ops.size(); ++i) {
                const Op& op = plan.ops[i];
                if (op.kind == Kind::dropout) continue;
                walk.forward_as_in_inference(op, w.rooms[i], in, {0, rows.size()});
                in = w.rooms[i].a;
            }
            std::copy_n(in, rows.size() * plan.outputs, out + rows.begin * plan.outputs);
        }
        // The rows as they lie there, where they are what the first operation reads.
        const T* gather(Workspace<T>& w, Range rows) const {
            Rows here = x;
            here.data = static_cast<const char*>(x.data) + static_cast<ptrdiff_t>(rows.begin) * x.stride;
            const Stored own = sizeof(T) == 4 ? kFloat32 : kFloat64;
            if (!plan.normalizes && x.stored == own &&
                x.stride == static_cast<ptrdiff_t>(plan.inputs * sizeof(T)))
                return static_cast<const T*>(here.data);
            int64_t order[kRows];
            for (size_t i = 0; i < rows.size(); ++i) order[i] = static_cast<int64_t>(i);
            fastnn::gather(kernels, here, order, rows.size(), 0, plan.inputs, w.x);
            return w.x;
        }
    };

    const Table<T>& kernels_;
    const Plan plan_;
};

template <class T>
Predictor<T>::Predictor(const Table<T>& kernels, Plan plan) : impl_(new Impl(kernels, std::move(plan))) {}
template <class T>
Predictor<T>::~Predictor() = default;
template <class T>
void Predictor<T>::run(const T* parameters, const T* statistics, const Rows& x, size_t n, T* out) {
    impl_->run(parameters, statistics, x, n, out);
}

template class Trainer<float>;
template class Trainer<double>;
template class Predictor<float>;
template class Predictor<double>;

}  // namespace fastnn
