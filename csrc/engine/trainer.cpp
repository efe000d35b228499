// See engine.hpp. The walk is that of engine.py, under the same names; what differs is who runs which part: schedule.hpp.
//
// Every element has one order of summation, whatever the tasks (the kernels see to that), so the number of threads changes
// no bit. What an operation does in each phase is in its own file; nothing here knows one by name.
#include <math.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <string>

#include "../registry.hpp"
#include "../threads.hpp"
#include "engine.hpp"
#include "interruption.hpp"
#include "pace.hpp"
#include "schedule.hpp"
#include "team.hpp"

namespace fastnn {

template <class T>
class Trainer<T>::Impl final : public Program {
  public:
    Impl(const Table<T>& kernels, Plan plan, const Objective& objective)
        : kernels_(kernels), plan_(std::move(plan)), objective_(objective) {
        const auto learns = [](const Op& op) { return op.learns(); };
        first_ = std::find_if(plan_.ops.begin(), plan_.ops.end(), learns) - plan_.ops.begin();
        double widest = 1;
        for (const Op& op : plan_.ops) widest = std::max(widest, forward_ns(op, op.inputs, 1));
        most_rows_ = static_cast<size_t>(std::min(1024.0, std::max(32.0, 5e7 / widest)));
        targets_ =
            target_columns(kernels_, objective_.loss, objective_.loss_parameters.size(), plan_.outputs);
        slots_ = slots_of(kernels_, objective_.rule),
        coefficients_ = coefficients_of(kernels_, objective_.rule);
        const size_t copies = 3 + static_cast<size_t>(slots_);
        streaming_ = plan_.parameters * copies * sizeof(T) > kKept;
        for (const Op& op : plan_.ops) {
            operations_.push_back(&kernels_.operations[op.code]);
            if (!op.declared->forward.has(Role::statistic, true)) continue;
            for (size_t t = op.declared->params.size(); t < op.tensors.size(); ++t)
                running_.push_back({op.tensors[t].offset, op.tensors[t].offset + op.tensors[t].size});
        }
    }

    void run(const State<T>& state, const Batches<T>& batches, double* losses, int64_t* taken,
             bool (*stop)(void*), void* context) {
        if (batches.rows == 0) return;
        interruption_.begin(stop, context);
        diverged_ = refused_ = false;
        wrong_row_ = -1;
        turn_ = 0;
        state_ = state, batches_ = batches, losses_ = losses;
        sparse_ = takes_sparse(kernels_, plan_, batches.x);
        steps_ = (batches.rows + batches.size - 1) / batches.size;
        taken_ = taken;
        const size_t whole = std::min(batches.size, batches.rows);
        work_.make(kernels_, plan_, whole, sparse_ >= 0, true, first_, clips_norm(), batches.weights);
        work_.bind(plan_, {state.parameters, state.statistics, state.scaling});
        const double ns = step_ns(whole);
        turns_ = ns < 1e6 ? static_cast<int>(1e6 / ns) : 1;
        const int team = program_threads(kAwake * ns);
        const size_t rest = batches.rows - (steps_ - 1) * batches.size;
        const Cutting cutting{first_, most_rows_, clips_norm(), kernels_.panel_columns, sizeof(T)};
        schedules_[0] = {make_schedule(plan_, cutting, whole, 1), make_schedule(plan_, cutting, rest, 1)};
        if (team > 1)
            schedules_[1] = {make_schedule(plan_, cutting, whole, team),
                             make_schedule(plan_, cutting, rest, team)};
        pacer_.begin(team, batches.size, whole, ns, least_work() > 0);
        together_ = pacer_.threads() > 1;
        moment_ = {objective_.seed, state_.step};
        calls_ = work_.calls;
        for (Call<T>& call : calls_) call.moment = &moment_, call.streaming = streaming_;
        if (sparse_ >= 0) calls_[sparse_].sparse = &batches_.x;
        set_batch(0);
        Packing packing(*this);  // the weights may have changed since the last call
        const double packing_ns = static_cast<double>(plan_.parameters);
        run_program(packing, together_ ? program_threads(packing_ns) : 1);
        if (interruption_.found()) return;
        do {
            again_ = false;
            pacer_.start();
            run_program(*this, pacer_.threads(), *taken);
        } while (again_);
        if (!refused_) return;
        if (wrong_row_ < 0)
            throw std::out_of_range("y has a label outside 0 .. " + std::to_string(plan_.outputs) + " - 1");
        throw Refused(wrong_row_, wrong_column_);
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
            case Phase::kForwardColumns:
                if (!interruption_.found())
                    operations_[phase.op]->forward(calls_[phase.op], columns(phase, task));
                return;
            case Phase::kBackwardColumns:
                if (!interruption_.found())
                    operations_[phase.op]->backward(calls_[phase.op], columns(phase, task));
                return;
            case Phase::kGradient:
                return run_gradient(step, schedule.parts[task]);
            case Phase::kNorm:
                return measure_gradient();
            case Phase::kUpdate:
                return update(step, schedule.parts[task], part_gradient(schedule.parts[task]));
        }
    }
    bool finish(int64_t step, int index) override {
        const Schedule& schedule = schedule_of(step);
        if (schedule.phases[index].with_loss) {
            if (refused_ || interruption_.found())
                return abandon();  // before the loss: it may not have been computed
            losses_[step] = loss_of_batch(schedule.batch);
            if (!isfinite(losses_[step])) return false;
        }
        // Only the last phase updates: before it, nothing has changed but running averages.
        if (index + 1 < phases()) return !interruption_.found() || abandon();
        if (!averages_finite()) diverged_ = true;
        if (diverged_) losses_[step] = std::numeric_limits<double>::quiet_NaN();
        const bool over = static_cast<size_t>(++*taken_) == steps_ || diverged_ || interruption_.found();
        again_ = pacer_.step(schedule.batch) && !over;
        if (over) return false;
        if (again_) together_ = pacer_.threads() > 1;
        set_batch(step + 1);
        return !again_;
    }
    bool goes_on_alone() override {
        if (!again_ || together_) return false;
        again_ = false;
        return true;
    }

  private:
    // Reading the clock takes 30 ns, a hundredth of a small step: now and then, about every millisecond.
    void ask() {
        if (++turn_ < turns_) return;
        turn_ = 0;
        interruption_.look();
    }

    const Schedule& schedule_of(int64_t step) const {
        const Schedules& schedules = schedules_[together_.load(std::memory_order_relaxed)];
        return step + 1 == static_cast<int64_t>(steps_) ? schedules.last : schedules.whole;
    }
    // Before the first task of a step, by one thread: its rows and its random bits.
    void set_batch(int64_t step) {
        moment_.step = state_.step + static_cast<uint64_t>(step);
        kept_.clear();
        for (const Range& range : running_)
            kept_.insert(kept_.end(), state_.statistics + range.begin, state_.statistics + range.end);
        if (sparse_ >= 0) calls_[sparse_].order = batches_.order + step * batches_.size;
        const size_t batch = schedule_of(step).batch;
        if (calls_[0].B != batch)
            for (Call<T>& call : calls_) call.B = batch;
    }

    // Ends a step that has not updated anything: its running averages are those before it again.
    bool abandon() {
        const T* kept = kept_.data();
        for (const Range& range : running_) {
            std::copy_n(kept, range.size(), state_.statistics + range.begin);
            kept += range.size();
        }
        return false;
    }

    // Values that a layer can take have squares that their running variance cannot hold: 1e20 in float32.
    bool averages_finite() const {
        for (const Range& range : running_)
            for (size_t i = range.begin; i < range.end; ++i)
                if (!isfinite(state_.statistics[i])) return false;
        return true;
    }

    double forward_ns(const Op& op, size_t inputs, size_t rows) const {
        return kernels_.operations[op.code].ns(rows * op.positions, inputs, op.outputs, op.settings.data());
    }
    double step_ns(size_t rows) const {
        double ns = 0;
        for (const Op& op : plan_.ops) {
            const bool sparse = sparse_ >= 0 && &op == &plan_.ops[sparse_];
            ns += 3 * forward_ns(op, sparse ? batches_.x.entries / batches_.x.count : op.inputs, rows);
        }
        return ns + 1.0 * static_cast<double>(plan_.parameters);
    }

    // By rows ------------------------------------------------------------------------------------------------

    void run_rows(const Schedule& s, const Phase& phase, int64_t step, Range rows, int member) {
        if (phase.with_gather) gather(s, step, rows);
        for (size_t i = phase.forward_begin; i < phase.forward_end; ++i) {
            if (abandoned(member)) return;
            const Declared& declared = *plan_.ops[i].declared;
            if (!declared.source && !declared.forward.passes) operations_[i]->forward(calls_[i], rows);
        }
        if (phase.with_loss) loss(rows);
        for (size_t i = phase.backward_begin; i-- > phase.backward_end;) {
            if (abandoned(member)) return;
            backward(i, rows);
        }
    }
    // Whether nothing will come of this step: asked between operations, for steps that take seconds.
    bool abandoned(int member) {
        if (member == 0) ask();
        return interruption_.found();
    }

    void gather(const Schedule& s, int64_t step, Range rows) {
        const size_t I = plan_.inputs, O = targets_, B = rows.size();
        const int64_t* mine = batches_.order + step * batches_.size + rows.begin;
        // the next batch's rows follow, if this task has them all
        const size_t following = B == s.batch ? batches_.rows - step * batches_.size - B : 0;
        const size_t wrong = gather_x(mine, rows, following);
        if (wrong != kFine) refuse(mine[wrong / I], wrong % I);
        if (batches_.labels != nullptr)
            gather_labels(mine, B, work_.labels + rows.begin);
        else if (O == 1)
            for (size_t i = 0; i < B; ++i) work_.values[rows.begin + i] = batches_.values[mine[i]];
        else
            kernels_.gather({batches_.values, sizeof(T) == 4 ? kFloat32 : kFloat64,
                             static_cast<ptrdiff_t>(O * sizeof(T))},
                            mine, B, 0, O, work_.values + rows.begin * O);
        gather_weights(mine, rows, s.batch);
    }

    size_t gather_x(const int64_t* mine, Range rows, size_t following) {
        const size_t I = plan_.inputs, B = rows.size();
        if (sparse_ >= 0) return kernels_.check_sparse_rows(batches_.x, mine, B, I);
        T* const x = work_.x + rows.begin * I;
        if (!plan_.ops[0].declared->source) return kernels_.gather(batches_.x, mine, B, following, I, x);
        return operations_[0]->gather(calls_[0], batches_.x, mine, B, following, I, x);
    }

    // Divided by the rows and the data's mean weight, not by the batch's own: else a batch of one row has no weight.
    void gather_weights(const int64_t* mine, Range rows, size_t batch) {
        const size_t a_row = batches_.weights;
        const double scale = 1.0 / (static_cast<double>(batch * a_row) * batches_.mean_weight);
        T* out = work_.weight + rows.begin * a_row;
        if (batches_.weight == nullptr) {
            std::fill_n(out, rows.size(), static_cast<T>(scale));
            return;
        }
        for (size_t i = 0; i < rows.size(); ++i) {
            const T* from = batches_.weight + static_cast<size_t>(mine[i]) * a_row;
            for (size_t j = 0; j < a_row; ++j) *out++ = static_cast<T>(static_cast<double>(from[j]) * scale);
        }
    }

    // The loss reads z at the labels, so none outside of the row may get there.
    void gather_labels(const int64_t* rows, size_t B, int64_t* labels) {
        bool outside = false;
        for (size_t i = 0; i < B; ++i) {
            const int64_t label = batches_.labels[rows[i]];
            const bool bad = static_cast<uint64_t>(label) >= plan_.outputs;
            outside |= bad;
            labels[i] = bad ? 0 : label;
        }
        if (outside) refused_ = true;
    }
    // X has a value that its source cannot take: the step, and the call, end before the loss.
    void refuse(int64_t row, size_t column) {
        wrong_row_ = row, wrong_column_ = static_cast<int64_t>(column);
        refused_ = true;
    }

    void loss(Range rows) {
        const size_t O = plan_.outputs, r = rows.begin;
        const Call<T>& last = calls_.back();
        T* dz = last.da + r * O;
        const size_t a_row = batches_.weights;  // where there are several, each value is a row to the loss
        const std::vector<double>& parameters = objective_.loss_parameters;
        kernels_.loss(objective_.loss, parameters.data(), parameters.size(), rows.size() * a_row, O / a_row,
                      last.a + r * O, batches_.labels ? work_.labels + r : nullptr,
                      batches_.labels ? nullptr : work_.values + r * targets_, work_.weight + r * a_row,
                      work_.value + r * a_row, dz);
        through(work_.last, work_.last_saved, O, rows, dz);
    }
    double loss_of_batch(size_t B) const {
        const size_t n = B * batches_.weights;
        const T *value = work_.value, *weight = work_.weight;
        const auto term = [=](size_t i) {
            return static_cast<double>(value[i]) * static_cast<double>(weight[i]);
        };
        double sums[4] = {};
        size_t i = 0;
        for (; i + 4 <= n; i += 4)
            for (size_t j = 0; j < 4; ++j) sums[j] += term(i + j);
        for (; i < n; ++i) sums[i % 4] += term(i);
        return (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }

    // dx <- dx * f'(saved) of the activation below. dx is the first of `rows`, each of `width` values.
    void through(Activated below, const T* saved, size_t width, Range rows, T* dx) const {
        if (below.code == plan_.identity) return;
        kernels_.activation_backward(below, rows.size() * width, saved + rows.begin * width, dx, dx);
    }

    void backward(size_t i, Range rows) {
        const Operation<T>& operation = *operations_[i];
        const Declared& declared = *plan_.ops[i].declared;
        const Call<T>& call = calls_[i];
        if (operation.prepare) operation.prepare(call, rows);
        if (i == first_) return;  // nothing below learns
        if (!declared.columns) operation.backward(call, rows);
        if (declared.goes_below) return;
        const size_t width = call.F;
        through(call.below, call.saved, width, rows, call.dx + rows.begin * width);
    }

    // By columns ---------------------------------------------------------------------------------------------

    Range columns(const Phase& phase, int64_t task) const {
        return piece(plan_.ops[phase.op].outputs, phase.piece, task);
    }

    // By weights ---------------------------------------------------------------------------------------------

    void run_gradient(int64_t step, const Part& part) {
        T* g = part_gradient(part);
        if (operations_[part.op]->gradient)
            operations_[part.op]->gradient(calls_[part.op], part.tensor, part.rows, g);
        if (!clips_norm()) update(step, part, g);
    }
    bool clips_norm() const { return isfinite(objective_.clip_norm); }
    // Where the gradient of a matrix's part goes: only the norm of all of it asks for more than this core's cache.
    T* part_gradient(const Part& part) const {
        if (part.tensor < 0) return nullptr;
        const Tensor& tensor = plan_.ops[part.op].tensors[part.tensor];
        if (clips_norm()) return work_.gradient + tensor.offset + part.rows.begin * tensor.columns;
        return static_cast<T*>(scratch(kGradient, part.rows.size() * tensor.columns * sizeof(T)));
    }

    void measure_gradient() {
        const double norm = sqrt(kernels_.squared_norm(plan_.parameters, work_.gradient));
        scale_ = norm > objective_.clip_norm ? objective_.clip_norm / norm : 1.0;
    }

    void update(int64_t step, const Part& part, const T* g) {
        const Op& op = plan_.ops[part.op];
        if (part.tensor >= 0) {
            const Tensor& tensor = op.tensors[part.tensor];
            update(step, tensor, part.rows.begin * tensor.columns, part.rows.end * tensor.columns, g);
            return pack(part);
        }
        for (const Tensor& tensor : op.tensors)
            if (tensor.trainable && tensor.columns == 0)
                update(step, tensor, 0, tensor.size, work_.gradient + tensor.offset);
    }
    // The copies of a matrix that the next step's products read, while its new values are in this core's cache.
    void pack(const Part& part) const {
        if (operations_[part.op]->pack) operations_[part.op]->pack(calls_[part.op], part.tensor, part.rows);
    }
    struct Packing final : Program {
        explicit Packing(Impl& impl_) : impl(impl_), parts(impl.schedules_[impl.together_].whole.parts) {}
        Impl& impl;
        const std::vector<Part>& parts;
        int phases() const override { return 1; }
        int64_t tasks(int64_t, int) const override { return static_cast<int64_t>(parts.size()); }
        void run(int64_t, int, int64_t task, int member) override {
            if (impl.abandoned(member)) return;
            if (parts[task].tensor >= 0) impl.pack(parts[task]);
        }
        bool finish(int64_t, int) override { return false; }
    };
    void update(int64_t step, const Tensor& tensor, size_t begin, size_t end, const T* g) {
        const size_t first = tensor.offset + begin;
        T* slots[kMostSlots];
        for (int j = 0; j < slots_; ++j) slots[j] = state_.slots[j] + first;
        const Adjustment adjustment{scale_, objective_.clip_value, tensor.l1, tensor.l2,
                                    batches_.lr[step] * tensor.decay};
        const double* coefficients = batches_.coefficients + step * coefficients_;
        if (!kernels_.update(objective_.rule, coefficients, adjustment, end - begin,
                             state_.parameters + first, g, slots))
            diverged_ = true;
    }

    static constexpr double kAwake =
        4;  // a team is woken once a call: a quarter of the work a step may be worth it
    // Bytes of weights, panels and slots that may still be in L3 a step later. Writing the panels past the caches is 4 % of
    // 784-1024-1024-10 (37 MB, 32 MB L3).
    static constexpr size_t kKept = size_t(16) << 20;
    const Table<T>& kernels_;
    const Plan plan_;
    const Objective objective_;
    std::vector<const Operation<T>*> operations_;
    size_t targets_ = 0;                // values of a row's targets
    int slots_ = 0, coefficients_ = 0;  // of the rule
    size_t first_ = 0;                  // the first operation that learns
    int sparse_ = -1;                   // the one that reads sparse rows, of the call
    std::vector<Range> running_;  // averages among the statistics, which a step changes before it is over
    // of a task: an operation on them, if they are more than 32, takes 50 ms at most, so Ctrl-C is answered in time
    size_t most_rows_ = 1024;
    bool streaming_ = false;  // the weights' panels leave the caches before they are read
    Buffers<T> work_;
    Pacer<> pacer_;
    // of the call
    State<T> state_{};
    Batches<T> batches_{};
    std::vector<Call<T>> calls_;  // of the step
    Moment moment_{0, 0};
    std::vector<T> kept_;  // running averages before the step
    double* losses_ = nullptr;
    size_t steps_ = 0;
    int64_t* taken_ = nullptr;
    struct Schedules {
        Schedule whole, last;
    } schedules_[2];                     // of one thread, of the team
    std::atomic<bool> together_{false};  // which of them
    bool again_ = false;                 // it goes on with the other
    double scale_ = 1.0;                 // of the gradient: clipping by global norm
    std::atomic<bool> diverged_{false};
    std::atomic<bool> refused_{false};  // a label or a value of X
    std::atomic<int64_t> wrong_row_{-1}, wrong_column_{0};
    Interruption interruption_;
    int turn_ = 0,
        turns_ = 1;  // tasks of the calling thread since it looked at the clock, and between two looks
};

template <class T>
Trainer<T>::Trainer(const Table<T>& kernels, Plan plan, const Objective& objective)
    : impl_(new Impl(kernels, std::move(plan), objective)) {}
template <class T>
Trainer<T>::~Trainer() = default;
template <class T>
void Trainer<T>::run(const State<T>& state, const Batches<T>& batches, double* losses, int64_t* taken,
                     bool (*stop)(void*), void* context) {
    impl_->run(state, batches, losses, taken, stop, context);
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace fastnn
