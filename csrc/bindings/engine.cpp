// The engine's side of the module: the objects that run plans.
#include "../engine/engine.hpp"
#include "../registry.hpp"
#include "../threads.hpp"

#include <math.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "numbers.hpp"
#include "plans.hpp"
#include "running.hpp"

namespace fastnn {
namespace bindings {
namespace {

template <class T>
Objective objective_of(const Table<T>& table, const py::tuple& tuple) {
    const auto numbers = tuple_of(tuple, "objective", 6);
    Objective objective;
    objective.loss = number_of<int>(numbers[0], "objective: its loss");
    objective.loss_parameters = numbers_of(numbers[1], "objective: its loss's parameter");
    objective.rule = number_of<int>(numbers[2], "objective: its rule");
    objective.seed = number_of<uint64_t>(numbers[3], "objective: its seed");
    objective.clip_norm = number_of<double>(numbers[4], "objective: its clip_norm");
    objective.clip_value = number_of<double>(numbers[5], "objective: its clip_value");
    if (!has_loss(table, objective.loss)) value_error("objective: there is no such loss");
    if (!has_rule(table, objective.rule)) value_error("objective: there is no such rule");
    return objective;
}

// One run at a time: a second, by another thread or by the handler of a signal, would change the buffers of the first. What
// a forked child's parent was at does not hold it up.
class Turn {
  public:
    explicit Turn(std::atomic<int>& running) : running_(running), mine_(1 + forks()) {
        int found = running;
        if (found == mine_ || !running.compare_exchange_strong(found, mine_))
            throw std::runtime_error("model is being fitted already, expected one fit at a time");
    }
    ~Turn() {
        int mine = mine_;  // not where a handler forked within the run, and this is the child
        running_.compare_exchange_strong(mine, 0);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    std::atomic<int>& running_;  // 0, or one more than the forks before the process that runs
    const int mine_;
};

template <class T>
class TrainerBinding {
  public:
    TrainerBinding(int isa, const py::list& ops, size_t inputs, size_t parameters, size_t statistics,
                   size_t scaling, const py::tuple& objective)
        : table_(table_of<T>(isa)),
          extents_{parameters, statistics, scaling},
          plan_(make_plan(table_, ops, inputs, extents_)),
          objective_(objective_of(table_, objective)),
          trainer_(table_, plan_, objective_) {
        // a phase without tasks is one that a team would wait for
        if (std::none_of(plan_.ops.begin(), plan_.ops.end(), [](const Op& op) { return op.learns(); }))
            value_error("ops has nothing that learns");
        if (target_count() == 0)
            value_error("objective: its loss does not take the " + std::to_string(plan_.outputs) +
                        " outputs of ops");
    }

    // state: (parameters, statistics, scaling, slots, step). batches: (x, y, weight, order, size, mean_weight). rates:
    // (coefficients, lr), a row and a number a step. -> False: x has a dtype or a layout that gather does not read
    bool run(const py::tuple& state, const py::tuple& batches, const py::tuple& rates,
             const py::object& losses, const py::object& taken) {
        const Turn turn(running_);
        T* slots[kMostSlots];
        const State<T> from = state_of(args_of(state, "state"), slots);
        Batches<T> visited{};
        if (!visit(args_of(batches, "batches"), visited)) return false;
        const size_t steps = (visited.rows + visited.size - 1) / visited.size;
        const size_t numbers = static_cast<size_t>(coefficients_of(table_, objective_.rule));
        const Args rated = args_of(rates, "rates");
        rated.expect(2);
        visited.coefficients = rated.matrix<double>(0, "coefficients", steps, numbers).data;
        visited.lr = rated.vector<double>(1, "lr", steps).data;
        PyObject* const written[] = {losses.ptr(), taken.ptr()};
        double* const out = Args(written, 2).vector<double>(0, "losses", steps, true).data;
        int64_t* const count = Args(written, 2).indices(1, "taken", 1, true).data;
        count[0] = 0;
        train(from, visited, out, count);
        return true;
    }

  private:
    State<T> state_of(const Args& args, T** slots) const {
        args.expect(5);
        State<T> state{};
        state.parameters = args.vector<T>(0, "parameters", extents_.parameters, true).data;
        state.statistics = args.vector<T>(1, "statistics", extents_.statistics, true).data;
        state.scaling = args.vector<double>(2, "scaling", extents_.scaling).data;
        const int count = slots_of(table_, objective_.rule);
        const Args given = args_of(args[3], "slots");
        if (given.count() != count)
            value_error("slots is not a tuple of " + std::to_string(count) + " arrays");
        for (int j = 0; j < count; ++j) slots[j] = given.vector<T>(j, "slot", extents_.parameters, true).data;
        state.slots = slots;
        state.step = number_of<uint64_t>(args[4], "step");
        return state;
    }

    size_t target_count() const {
        return target_columns(table_, objective_.loss, objective_.loss_parameters.size(), plan_.outputs);
    }

    // Labels are checked as they are gathered: of rows that the call does not visit nothing is read.
    bool visit(const Args& args, Batches<T>& batches) const {
        args.expect(6);
        const Stores x = rows_for(plan_, args, 0);
        if (x.rows.data == nullptr) return false;
        batches.x = x.rows;
        const size_t n = x.count;
        const int targets = targets_of(table_, objective_.loss);
        if (args.array(1, "y").nd == 1) {
            if (!(targets & 1)) value_error("y is 1-D, but the loss takes values (n, outputs)");
            batches.labels = args.indices(1, "y", n).data;
        } else {
            if (!(targets & 2)) value_error("y is not 1-D, but the loss takes labels (n,)");
            batches.values = args.matrix<T>(1, "y", n, target_count()).data;
        }
        batches.weights = 1;
        if (args[2] != Py_None && args.array(2, "weight").nd == 2) {
            if (!(targets & 4)) value_error("weight is 2-D, but the loss is of whole rows");
            batches.weights = plan_.outputs;
            batches.weight = args.matrix<T>(2, "weight", n, plan_.outputs).data;
        } else if (args[2] != Py_None) {
            batches.weight = args.vector<T>(2, "weight", n).data;
        }
        batches.mean_weight = number_of<double>(args[5], "mean_weight");
        if (!(batches.mean_weight > 0) || !isfinite(batches.mean_weight))
            value_error("mean_weight is not a number > 0");
        const auto order = args.indices(3, "order");
        if (!all_below(order, n)) throw py::index_error("order has a row outside x");
        batches.order = order.data, batches.rows = order.n;
        batches.size = number_of<size_t>(args[4], "size");
        if (batches.size == 0) value_error("size is 0");
        batches.size =
            std::min(batches.size, std::max<size_t>(batches.rows, 1));  // their sum must not overflow
        return true;
    }

    void train(const State<T>& state, const Batches<T>& batches, double* losses, int64_t* taken) {
        try {
            without_gil([&](auto stop, void* context) {
                trainer_.run(state, batches, losses, taken, stop, context);
            });
        } catch (const std::out_of_range& error) {
            throw py::index_error(error.what());
        }
    }

    const Table<T>& table_;
    const Extents extents_;
    const Plan plan_;
    const Objective objective_;
    Trainer<T> trainer_;
    std::atomic<int> running_{0};
};

template <class T>
class PredictorBinding {
  public:
    PredictorBinding(int isa, const py::list& ops, size_t inputs, size_t parameters, size_t statistics,
                     size_t scaling)
        : extents_{parameters, statistics, scaling},
          table_(table_of<T>(isa)),
          plan_(make_plan(table_, ops, inputs, extents_)) {}

    // parameters, statistics, scaling, x, out -> False: x has a dtype or a layout that gather does not read
    bool run(const py::args& tuple) {
        const Args args = args_of(tuple, "arguments");
        args.expect(5);
        Tensors<T> tensors;
        tensors.parameters = args.vector<T>(0, "parameters", extents_.parameters).data;
        tensors.statistics = args.vector<T>(1, "statistics", extents_.statistics).data;
        tensors.scaling = args.vector<double>(2, "scaling", extents_.scaling).data;
        const Stores x = rows_for(plan_, args, 3);
        if (x.rows.data == nullptr) return false;
        const auto out = args.matrix<T>(4, "out", x.count, plan_.outputs, true);
        without_gil([&](auto stop, void* context) {
            forward_once(table_, plan_, tensors, x.rows, out.rows, out.data, stop, context);
        });
        return true;
    }

  private:
    const Extents extents_;
    const Table<T>& table_;
    const Plan plan_;
};

template <class T>
void bind(py::module_& m, const char* trainer, const char* predictor) {
    using namespace py::literals;
    py::class_<TrainerBinding<T>>(m, trainer,
                                  "Whole slices of an epoch in one call: see csrc/engine/engine.hpp.")
        .def(py::init<int, const py::list&, size_t, size_t, size_t, size_t, const py::tuple&>(), "isa"_a,
             "ops"_a, "inputs"_a, "parameters"_a, "statistics"_a, "scaling"_a, "objective"_a)
        .def("run", &TrainerBinding<T>::run, "state"_a, "batches"_a, "rates"_a, "losses"_a, "taken"_a);
    py::class_<PredictorBinding<T>>(m, predictor, "Predictions in one call: see csrc/engine/engine.hpp.")
        .def(py::init<int, const py::list&, size_t, size_t, size_t, size_t>(), "isa"_a, "ops"_a, "inputs"_a,
             "parameters"_a, "statistics"_a, "scaling"_a)
        .def("run", &PredictorBinding<T>::run);
}

}  // namespace

void bind_engine(py::module_& m) {
    bind<float>(m, "TrainerFloat32", "PredictorFloat32");
    bind<double>(m, "TrainerFloat64", "PredictorFloat64");
}

}  // namespace bindings
}  // namespace fastnn
