// Rows that NumPy or a list holds, read from their structs. See serving.hpp.
#include "serving.hpp"

namespace fastnn {
namespace bindings {
namespace {

bool number_into(PyObject* item, double* to) {
    if (PyFloat_Check(item)) {
        *to = PyFloat_AS_DOUBLE(item);
        return true;
    }
    if (!PyLong_CheckExact(item)) return false;
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(item, &overflow);
    constexpr long long kExact = 1LL << 53;
    if (overflow != 0 || value > kExact || value < -kExact) return false;
    *to = static_cast<double>(value);
    return true;
}

bool read_numbers(const Predictor& p, PyObject* x, Input& in) {
    if (p.exact || p.rows || p.row.nd != 1 || p.inputs > kLocal / sizeof(double)) return false;
    double* const to = reinterpret_cast<double*>(in.local);
    const Py_ssize_t count = static_cast<Py_ssize_t>(p.inputs);
    if (PyDict_CheckExact(x)) {
        if (p.names == nullptr || PyDict_GET_SIZE(x) != count) return false;
        for (Py_ssize_t i = 0; i < count; ++i) {
            PyObject* const item = PyDict_GetItemWithError(x, PyTuple_GET_ITEM(p.names, i));
            if (item == nullptr || !number_into(item, to + i)) {
                PyErr_Clear();
                return false;
            }
        }
    } else {
        if (!PyList_CheckExact(x) && !PyTuple_CheckExact(x)) return false;
        if (PySequence_Fast_GET_SIZE(x) != count) return false;
        PyObject* const* const items = PySequence_Fast_ITEMS(x);
        for (Py_ssize_t i = 0; i < count; ++i)
            if (!number_into(items[i], to + i)) return false;
    }
    in.rows.data = to, in.rows.stored = kFloat64;
    in.rows.stride = static_cast<ptrdiff_t>(p.inputs * sizeof(double));
    in.n = 1, in.single = true;
    return true;
}

}  // namespace

bool read(const Predictor& p, PyObject* x, Input& in) {
    if (Py_TYPE(x) != g_array_type) return read_numbers(p, x, in);
    const auto& a = *py::detail::array_proxy(x);
    const int type = Args::type_number(a);
    const Kind kind = kind_of(type);
    if (kind.bytes == 0 || type == Api::NPY_BOOL_ || !Args::native_order(a) ||
        !(a.flags & Api::NPY_ARRAY_ALIGNED_))
        return false;
    if (p.exact && type != p.engine->type_number()) return false;
    in.single = a.nd == p.row.nd;
    if (in.single && p.rows) return false;
    if (!in.single && a.nd != p.row.nd + 1) return false;
    const int first = in.single ? 0 : 1;
    in.n = in.single ? 1 : static_cast<size_t>(a.dimensions[0]);
    bool together = true;
    Py_intptr_t step = kind.bytes;
    for (int d = p.row.nd - 1; d >= 0; --d) {
        if (a.dimensions[first + d] != p.row.sizes[d + 1]) return false;
        together &= a.dimensions[first + d] == 1 || a.strides[first + d] == step;
        step *= a.dimensions[first + d];
    }
    in.rows.data = a.data, in.rows.stored = kind.stored;
    in.rows.stride = in.single ? step : a.strides[0];
    if (together) return in.n > 0;
    if (p.row.nd != 1 || in.n == 0 || in.n > p.engine->few() || in.n * static_cast<size_t>(step) > kLocal)
        return false;
    const auto* const from = reinterpret_cast<const char*>(a.data);
    for (size_t i = 0; i < in.n; ++i)
        for (size_t j = 0; j < p.inputs; ++j)
            memcpy(in.local + i * step + j * kind.bytes,
                   from + static_cast<ptrdiff_t>(i) * in.rows.stride +
                       static_cast<ptrdiff_t>(j) * a.strides[first],
                   kind.bytes);
    in.rows.data = in.local, in.rows.stride = step;
    return true;
}

bool apart(const py::detail::PyArray_Proxy& out, size_t bytes, PyObject* x) {
    if (Py_TYPE(x) != g_array_type) return true;
    const auto& a = *py::detail::array_proxy(x);
    const char *low = reinterpret_cast<const char*>(a.data), *high = low;
    for (int d = 0; d < a.nd; ++d) {
        const Py_intptr_t reach = (a.dimensions[d] - 1) * a.strides[d];
        (reach < 0 ? low : high) += reach;
    }
    const char* const begin = reinterpret_cast<const char*>(out.data);
    return begin + bytes <= low || begin > high + 16;  // and the last element
}

}  // namespace bindings
}  // namespace fastnn
