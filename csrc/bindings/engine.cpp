// The engine's side of the module: plans from Python, checked against the Specs, and the objects that run them.
#include "../engine/engine.hpp"
#include "../registry.hpp"
#include "../threads.hpp"

#include <math.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "arguments.hpp"
#include "gil.hpp"
#include "numbers.hpp"

namespace fastnn {
namespace bindings {
namespace {

constexpr size_t kMostValues = static_cast<size_t>(1) << 40;  // of a row

// How many elements the buffers of a state have.
struct Extents {
    size_t parameters, statistics, scaling;
};

// Positions and channels of rows of that shape.
struct Row {
    size_t positions = 1, channels = 0;
    size_t values() const { return positions * channels; }
};
Row row_of(const py::handle& shape, const std::string& op) {
    const auto sizes = tuple_of(shape, op + "'s shape of a row");
    if (sizes.size() < 1) value_error(op + " has rows of shape ()");
    Row row;
    size_t values = 1;
    for (size_t d = 0; d < sizes.size(); ++d) {
        const size_t size = number_of<size_t>(sizes[d], op + "'s size of a row");
        if (size == 0 || size > kMostValues / values) value_error(op + " has a row of no or too many values");
        values *= size;
        if (d + 1 < sizes.size())
            row.positions *= size;
        else
            row.channels = size;
    }
    return row;
}

// (offset, size, trainable, l1, l2, decay) as the field of a Spec says.
Tensor tensor_of(const py::handle& described, const Op& op, const Field& field, bool param,
                 const Extents& extents) {
    const std::string what = op.declared->name + " has " + field.name,
                      whose = op.declared->name + "'s " + field.name;
    const auto parts = tuple_of(described, whose, 6);
    Tensor tensor;
    tensor.offset = number_of<size_t>(parts[0], whose + ": its offset");
    tensor.size = number_of<size_t>(parts[1], whose + ": its size");
    tensor.trainable = number_of<bool>(parts[2], whose + ": whether it is trainable");
    tensor.l1 = number_of<double>(parts[3], whose + ": its l1");
    tensor.l2 = number_of<double>(parts[4], whose + ": its l2");
    tensor.decay = number_of<double>(parts[5], whose + ": its decay");
    const Sizes sizes{1, op.positions, op.inputs, op.outputs, op.in};
    size_t expected = 0;
    if (!sizes.elements(field.dims, &expected) || tensor.size != expected)
        value_error(what + " of " + std::to_string(tensor.size) + " values, expected " +
                    std::to_string(expected));
    if (tensor.trainable && !param) value_error(what + ", a statistic, as trainable");
    const size_t space = field.number == Number::kFloat64 ? extents.scaling
                         : tensor.trainable               ? extents.parameters
                                                          : extents.statistics;
    if (tensor.size > space || tensor.offset > space - tensor.size) value_error(what + " outside its buffer");
    if (param && field.dims.size() > 1) tensor.columns = sizes.of(field.dims.back());
    return tensor;
}

// One (kind, inputs, outputs, activation, alpha, saves_z, settings, tensors, other, dother).
template <class T>
Op op_of(const Table<T>& t, const py::handle& item, const Plan& plan, const Extents& extents) {
    const auto fields = tuple_of(item, "an operation", 10);
    const auto kind = word_of(fields[0], "the kind of an operation");
    Op op;
    const auto& all = declared_operations();
    while (op.code < t.operation_count && kind != all[op.code].name) ++op.code;
    if (op.code == t.operation_count) value_error("there is no operation " + shown(fields[0]));
    const Declared& declared = all[op.code];
    op.declared = &declared;
    if (declared.source && !plan.ops.empty()) value_error(kind + " is not the first operation");
    const Row in = row_of(fields[1], kind), out = row_of(fields[2], kind);
    if (in.values() != plan.outputs) value_error(kind + " does not take what the operation before it gives");
    op.positions = out.positions, op.inputs = in.channels, op.outputs = out.channels, op.in = in.values();
    const bool same = in.positions == out.positions && in.channels == out.channels;
    const bool by_channels = declared.x == "NI";  // as many positions, other channels
    const bool any = declared.x == "BF" && !declared.source;
    if (by_channels ? in.positions != out.positions || !t.operations[op.code].fits(op.inputs, op.outputs)
                    : !any && !same)
        value_error(kind + " does not make such rows out of such rows");
    op.activation = number_of<int>(fields[3], kind + "'s activation");
    if (!has_activation(t, op.activation)) value_error(kind + " has an activation that there is not");
    op.alpha = number_of<double>(fields[4], kind + "'s alpha");
    op.saves_z = number_of<bool>(fields[5], kind + "'s saves_z");
    if (!declared.forward.has(Role::activation, false) && (op.activation != plan.identity || op.saves_z))
        value_error(kind + " has no activation of its own");
    for (const py::handle number : tuple_of(fields[6], kind + "'s settings")) {
        op.settings.push_back(number_of<double>(number, kind + "'s setting"));
        if (!isfinite(op.settings.back())) value_error(kind + " has a setting that is not finite");
    }
    if (op.settings.size() != declared.settings.size())
        value_error(kind + " has other settings than its Spec");
    const auto tensors = tuple_of(fields[7], kind + "'s tensors");
    const size_t params = declared.params.size();
    if (tensors.size() != params + declared.statistics.size())
        value_error(kind + " has other tensors than its Spec");
    for (size_t i = 0; i < tensors.size(); ++i) {
        const bool param = i < params;
        const Field& field = param ? declared.params[i] : declared.statistics[i - params];
        op.tensors.push_back(tensor_of(tensors[i], op, field, param, extents));
    }
    op.other = number_of<int>(fields[8], kind + "'s other");
    op.dother = number_of<int>(fields[9], kind + "'s dother");
    return op;
}

// The ends of skips: operations that are there, before and behind, with rows of the same size.
void check_skips(const Plan& plan) {
    const int n = static_cast<int>(plan.ops.size());
    for (int i = 0; i < n; ++i) {
        const Op& op = plan.ops[i];
        const std::string& name = op.declared->name;
        const bool reads = op.declared->forward.has(Role::other, false);
        const bool hands = op.declared->backward.has(Role::dother, false);
        if (reads != (op.other >= 0) || op.other >= i)
            value_error(name + " reads another operation than one before it");
        // in training a loss may have taken the last operations off: then nothing hands a gradient back
        if (hands != (op.dother >= 0) || op.dother >= n || (hands && op.dother <= i))
            value_error(name + " hands its gradient to another operation than one behind it");
        if (reads && plan.ops[op.other].in != op.out()) value_error(name + " reads rows of another size");
        if (hands && plan.ops[op.dother].out() != op.in)
            value_error(name + " gets a gradient of another size");
    }
}

// Everything that will be used as an address or a size is checked here, against the Specs.
template <class T>
Plan make_plan(const Table<T>& t, const py::list& ops, size_t inputs, const Extents& extents) {
    Plan plan;
    if (inputs == 0 || inputs > kMostValues) value_error("inputs is " + std::to_string(inputs));
    plan.inputs = plan.outputs = inputs;
    plan.parameters = extents.parameters;
    for (int a = 0; a < t.activations; ++a)
        if (t.activation_names[a] == std::string("identity")) plan.identity = a;
    for (const py::handle item : tuple_of(ops, "ops")) {
        plan.ops.push_back(op_of(t, item, plan, extents));
        plan.outputs = plan.ops.back().out();
    }
    if (plan.ops.empty()) value_error("ops is empty");
    check_skips(plan);
    return plan;
}

template <class T>
const Table<T>& table_of(int isa) {
    const auto& sets = instruction_sets();
    if (isa < 0 || isa >= sets.count)
        value_error("isa is " + std::to_string(isa) + ", expected 0 .. " + std::to_string(sets.count - 1));
    if constexpr (sizeof(T) == 4)
        return *sets.items[isa].float_table;
    else
        return *sets.items[isa].double_table;
}

Args args_of(const py::handle& tuple, const char* name) {
    if (!PyTuple_Check(tuple.ptr())) type_error(std::string(name) + " is not a tuple");
    return {PySequence_Fast_ITEMS(tuple.ptr()), PyTuple_GET_SIZE(tuple.ptr())};
}

[[noreturn]] void raise(const Refused& refused) {
    value_error("X cannot be read at row " + std::to_string(refused.row) + ", column " +
                std::to_string(refused.column) +
                ": expected an id, a whole number from 0 to below their count; of a sparse X, columns that "
                "it has and that ascend");
}

// The rows of array i for a plan: data is null as in stored_rows.
Stores rows_for(const Plan& plan, const Args& args, int i) {
    const Stores x = stored_rows(args, i, "x");
    if (x.rows.data != nullptr && x.inputs != plan.inputs) value_error("x has another number of columns");
    return x;
}

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

// run(stop, context) without the interpreter lock, which is taken back now and then to look for a Ctrl-C; the exceptions of
// both as Python's.
template <class F>
void without_gil(F&& run) {
    struct Watch {
        Unlocked* unlocked = nullptr;
        bool interrupted = false;
    } watch;
    const auto signalled = [](void* context) {
        Watch& mine = *static_cast<Watch*>(context);
        return mine.interrupted = mine.interrupted || mine.unlocked->signalled();
    };
    try {
        Unlocked unlocked;
        watch.unlocked = &unlocked;
        run(+signalled, &watch);
    } catch (const Refused& refused) {
        raise(refused);
    } catch (const std::runtime_error&) {  // a handler forked: what it raised in the child comes first
        if (!watch.interrupted) throw;
    }
    if (watch.interrupted) throw py::error_already_set();
}

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
          plan_(make_plan(table_of<T>(isa), ops, inputs, extents_)),
          predictor_(table_of<T>(isa), plan_) {}

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
            predictor_.run(tensors, x.rows, out.rows, out.data, stop, context);
        });
        return true;
    }

  private:
    const Extents extents_;
    const Plan plan_;
    Predictor<T> predictor_;
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
