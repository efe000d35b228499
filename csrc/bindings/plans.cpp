// See plans.hpp.
#include "plans.hpp"

#include <math.h>

#include "../registry.hpp"
#include "numbers.hpp"

namespace fastnn {
namespace bindings {
namespace {

constexpr size_t kMostValues = static_cast<size_t>(1) << 40;  // of a row

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
    const Sizes sizes(*op.declared, op.settings.data(), 1, op.positions, op.inputs, op.outputs, op.in);
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
    const bool same = in.positions == out.positions && in.channels == out.channels;
    const bool by_channels = declared.x == "NI" || declared.x == "BPI";  // as many positions, other channels
    const bool any = declared.x == "BF" && !declared.source;
    const Passage passage{in.positions, in.channels, out.positions, out.channels, op.settings.data()};
    if (by_channels || any
            ? (by_channels && in.positions != out.positions) || !t.operations[op.code].fits(passage)
            : !same)
        value_error(kind + " does not make such rows out of such rows");
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

}  // namespace

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

template Plan make_plan(const Table<float>&, const py::list&, size_t, const Extents&);
template Plan make_plan(const Table<double>&, const py::list&, size_t, const Extents&);

}  // namespace bindings
}  // namespace fastnn
