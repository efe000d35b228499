// The kernels that are no operations, called from Python one at a time.
#include <limits.h>

#include "../registry.hpp"
#include "arguments.hpp"
#include "gil.hpp"
#include "numbers.hpp"

namespace fastnn {
namespace bindings {

Kind kind_of(int type) {
    using Api = py::detail::npy_api;
    switch (type) {
        case Api::NPY_FLOAT_:
            return {kFloat32, 4};
        case Api::NPY_DOUBLE_:
            return {kFloat64, 8};
        case Api::NPY_BOOL_:
        case Api::NPY_UBYTE_:
            return {kUint8, 1};
        case Api::NPY_BYTE_:
            return {kInt8, 1};
        case Api::NPY_SHORT_:
            return {kInt16, 2};
        case Api::NPY_USHORT_:
            return {kUint16, 2};
        case Api::NPY_INT_:
            return {kInt32, 4};
        case Api::NPY_UINT_:
            return {kUint32, 4};
        case Api::NPY_LONGLONG_:
            return {kInt64, 8};
        case Api::NPY_LONG_:
            return sizeof(long) == 8 ? Kind{kInt64, 8} : Kind{kInt32, 4};
        case Api::NPY_ULONG_:
            return sizeof(long) == 8 ? Kind{} : Kind{kUint32, 4};
        default:
            return {};
    }
}

namespace {

constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int kPlain = kAligned | py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;

// A 1-D array that lies in memory as it should, or null.
const py::detail::PyArray_Proxy* plain_vector(const Args& args, int i, const char* name) {
    const auto& array = args.array(i, name);
    const bool plain = array.nd == 1 && Args::native_order(array) && (array.flags & kPlain) == kPlain;
    return plain ? &array : nullptr;
}

Stores sparse_rows(const Args& args) {
    if (args.count() != 4)
        type_error("a sparse x is a tuple of " + std::to_string(args.count()) +
                   ", expected 4: data, indices, indptr, its columns");
    Stores found;
    const auto *data = plain_vector(args, 0, "data"), *columns = plain_vector(args, 1, "indices"),
               *starts = plain_vector(args, 2, "indptr");
    if (data == nullptr || columns == nullptr || starts == nullptr) return found;
    const Kind kind = kind_of(Args::type_number(*data)), index = kind_of(Args::type_number(*columns));
    const bool indices = index.stored == kInt32 || index.stored == kInt64;
    if (kind.bytes == 0 || !indices || kind_of(Args::type_number(*starts)).stored != index.stored)
        return found;
    if (starts->dimensions[0] < 1 || columns->dimensions[0] < data->dimensions[0])
        value_error("a sparse x has fewer indices than it needs");
    static const char nothing = 0;
    found.rows.data = data->dimensions[0] > 0 ? data->data : &nothing;
    found.rows.stored = kind.stored;
    found.rows.starts = starts->data, found.rows.columns = columns->data,
    found.rows.wide = index.stored == kInt64;
    found.rows.entries = static_cast<size_t>(data->dimensions[0]);
    found.rows.count = found.count = static_cast<size_t>(starts->dimensions[0]) - 1;
    found.inputs = number_of<size_t>(args[3], "the columns of a sparse x");
    return found;
}

}  // namespace

Stores stored_rows(const Args& args, int i, const char* name) {
    if (PyTuple_Check(args[i]))
        return sparse_rows({PySequence_Fast_ITEMS(args[i]), PyTuple_GET_SIZE(args[i])});
    Stores found;
    const auto& x = args.array(i, name);
    const Kind kind = kind_of(Args::type_number(x));
    if (kind.bytes == 0 || x.nd != 2 || !Args::native_order(x) || !(x.flags & kAligned)) return found;
    if (x.dimensions[1] > 1 && x.strides[1] != kind.bytes) return found;
    found.rows.data = x.data, found.rows.stored = kind.stored, found.rows.stride = x.strides[0];
    found.count = static_cast<size_t>(x.dimensions[0]), found.inputs = static_cast<size_t>(x.dimensions[1]);
    return found;
}

bool all_below(const Vector<int64_t>& indices, size_t n) {
    bool inside = true;
    for (size_t i = 0; i < indices.n; ++i) inside &= static_cast<uint64_t>(indices.data[i]) < n;
    return inside;
}

template <class T>
Activated activated(const Table<T>& t, PyObject* activation) {
    static PyObject* const name_of = PyUnicode_InternFromString("name");
    static PyObject* const alpha_of = PyUnicode_InternFromString("alpha");
    static const py::dict* const codes = [] {
        auto* made = new py::dict();  // for the life of the process
        const auto& table = *instruction_sets().items[0].float_table;
        for (int code = 0; code < table.activations; ++code) (*made)[table.activation_names[code]] = code;
        return made;
    }();
    const auto name = py::reinterpret_steal<py::object>(PyObject_GetAttr(activation, name_of));
    const auto alpha = py::reinterpret_steal<py::object>(PyObject_GetAttr(activation, alpha_of));
    if (!name || !alpha) throw py::error_already_set();
    const double number = PyFloat_AsDouble(alpha.ptr());
    if (number == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    if (PyLong_Check(name.ptr())) {  // the code of one of one's own
        const int own = number_of<int>(name, "activation");
        if (!has_activation(t, own)) value_error("activation: there is no such code");
        return {own, number};
    }
    PyObject* const code = PyDict_GetItemWithError(codes->ptr(), name.ptr());
    if (code == nullptr) {
        if (PyErr_Occurred()) throw py::error_already_set();
        throw py::key_error("no activation " + py::cast<std::string>(py::repr(name)) +
                            " in the native kernels");
    }
    return {static_cast<int>(PyLong_AsLong(code)), number};
}

template Activated activated(const Table<float>&, PyObject*);
template Activated activated(const Table<double>&, PyObject*);

namespace {

void shuffle(const Args& args) {  // key, order
    args.expect(3);
    const auto key = args.key(1);
    const auto order = args.indices(2, "order", kAny, true);
    Unlocked unlocked(3.0 * static_cast<double>(order.n));
    args.instruction_set().float_table->shuffle(key, order.n, order.data);
}

// x, rows or None, step, pivot, unit, out -> False: x has a dtype or a layout that the kernel does not read
PyObject* moments(const Args& args) {
    args.expect(7);
    const Stores x = stored_rows(args, 1, "x");
    const bool read = x.rows.data != nullptr && x.rows.starts == nullptr &&
                      (x.rows.stored == kFloat32 || x.rows.stored == kFloat64 || x.rows.stored == kUint8);
    if (!read) Py_RETURN_FALSE;
    Vector<int64_t> rows{nullptr, x.count};
    if (args[2] != Py_None) {
        rows = args.indices(2, "rows");
        if (!all_below(rows, x.count)) Py_RETURN_FALSE;  // NumPy knows negative ones
    }
    const size_t step = static_cast<size_t>(args.code(3, "step", INT_MAX));
    if (step == 0) value_error("step is 0, expected at least 1");
    const double* const pivot = args.vector<double>(4, "pivot", x.inputs).data;
    const double* const unit = args.vector<double>(5, "unit", x.inputs).data;
    const size_t sizes[] = {4, (rows.n + step - 1) / step, x.inputs};
    double* const out = args.data<double>(6, "out", kTypeNumber<double>, kTypeName<double>, 3, sizes, true);
    {
        Unlocked unlocked(0.3 * static_cast<double>(rows.n * x.inputs));
        args.instruction_set().float_table->moments(x.rows, rows.data, rows.n, x.inputs, step, pivot, unit,
                                                    out);
    }
    Py_RETURN_TRUE;
}

void activation_backward(const Args& args) {  // below, saved, da, dz
    args.expect(5);
    args.dispatch(2, "saved", [&](const auto& t) {
        FASTNN_T;
        const Activated below = activated(t, args[1]);
        const auto saved = args.matrix<T>(2, "saved");
        const auto da = args.matrix<T>(3, "da", saved.rows, saved.cols);
        const auto dz = args.matrix<T>(4, "dz", saved.rows, saved.cols, true);
        Unlocked unlocked(static_cast<double>(saved.rows * saved.cols));
        t.activation_backward(below, saved.rows * saved.cols, saved.data, da.data, dz.data);
    });
}

void loss(const Args& args) {  // loss, parameter, z, y, weight, value, dz
    args.expect(8);
    args.dispatch(3, "z", [&](const auto& t) {
        FASTNN_T;
        const int loss = args.code(1, "loss", INT_MAX);
        if (!has_loss(t, loss)) value_error("loss: there is no such code");
        const int targets = targets_of(t, loss);
        const std::string name = loss < t.losses ? t.loss_names[loss] : "the loss";
        const std::vector<double> parameters = numbers_of(args[2], "parameter");
        const auto z = args.matrix<T>(3, "z");
        const size_t columns = target_columns(t, loss, parameters.size(), z.cols);
        if (columns == 0) value_error("z has a number of columns that " + name + " does not take");
        const int64_t* labels = nullptr;
        const T* values = nullptr;
        if (args.array(4, "y").nd == 1) {
            if (!(targets & 1)) value_error("y is 1-D, but " + name + " takes values (B, O)");
            labels = args.indices(4, "y", z.rows).data;
            if (!all_below({const_cast<int64_t*>(labels), z.rows}, z.cols))
                throw py::index_error("y has a label outside 0 .. " + std::to_string(z.cols) + " - 1");
        } else {
            if (!(targets & 2)) value_error("y is not 1-D, but " + name + " takes labels (B,)");
            values = args.matrix<T>(4, "y", z.rows, columns).data;
        }
        const auto weight = args.vector<T>(5, "weight", z.rows),
                   value = args.vector<T>(6, "value", z.rows, true);
        const auto dz = args.matrix<T>(7, "dz", z.rows, z.cols, true);
        Unlocked unlocked(2.0 * static_cast<double>(z.rows * z.cols));
        t.loss(loss, parameters.data(), parameters.size(), z.rows, z.cols, z.data, labels, values,
               weight.data, value.data, dz.data);
    });
}

PyObject* squared_norm(const Args& args) {  // g
    args.expect(2);
    double result = 0;
    args.dispatch(1, "g", [&](const auto& t) {
        FASTNN_T;
        const auto g = args.vector<T>(1, "g");
        Unlocked unlocked(0.15 * static_cast<double>(g.n));
        result = t.squared_norm(g.n, g.data);
    });
    return PyFloat_FromDouble(result);
}

void update(const Args& args) {  // rule, coefficients, adjustment, w, g, slots
    args.expect(7);
    args.dispatch(4, "w", [&](const auto& t) {
        FASTNN_T;
        const int rule = args.code(1, "rule", INT_MAX);
        if (!has_rule(t, rule)) value_error("rule: there is no such code");
        double coefficients[kMostCoefficients], a[5];
        args.numbers(2, "coefficients", coefficients_of(t, rule), coefficients);
        args.numbers(3, "adjustment", 5, a);
        const auto w = args.vector<T>(4, "w", kAny, true);
        const auto g = args.vector<T>(5, "g", w.n);
        PyObject* const tuple = args[6];
        const int n = slots_of(t, rule);
        if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != n)
            value_error("slots is not a tuple of " + std::to_string(n) + " arrays");
        T* slots[kMostSlots];
        for (int j = 0; j < n; ++j) {
            PyObject* const slot = PyTuple_GET_ITEM(tuple, j);
            slots[j] = Args(&slot, 1).vector<T>(0, "slot", w.n, true).data;
        }
        Unlocked unlocked(0.5 * static_cast<double>(w.n));
        t.update(rule, coefficients, {a[0], a[1], a[2], a[3], a[4]}, w.n, w.data, g.data, slots);
    });
}

}  // namespace

PyMethodDef g_kernels[] = {
    FASTNN_METHOD("shuffle", shuffle, "key, order"),
    FASTNN_METHOD("moments", moments, "x, rows, step, pivot, unit, out"),
    FASTNN_METHOD("activation_backward", activation_backward, "below, saved, da, dz"),
    FASTNN_METHOD("loss", loss, "loss, parameter, z, y, weight, value, dz"),
    FASTNN_METHOD("squared_norm", squared_norm, "g"),
    FASTNN_METHOD("update", update, "rule, coefficients, adjustment, w, g, slots"),
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace bindings
}  // namespace fastnn
